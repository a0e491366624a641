"""The two minds together, on a virtual clock."""

import pytest

from dragonfly.sim.links import Link, transfer
from dragonfly.sim.report import Report, bound, report
from dragonfly.sim.world import Scenario, World


def run(**scenario: int) -> Report:
    world = World(Scenario(**scenario))
    world.run()
    return report(world)


@pytest.mark.parametrize("peers", [1, 2, 7, 60])
def test_everybody_finishes_and_the_origin_is_read_once(peers: int) -> None:
    made = run(peers=peers, pieces=16)
    assert made.finished == peers
    assert made.origin_amplification == 1.0


def test_no_peer_finishes_before_physics_allows() -> None:
    assert run(peers=20, pieces=16).r50 >= 1.0


def test_peers_share_the_work_instead_of_queueing_at_the_seed() -> None:
    world = World(Scenario(peers=40, pieces=32))
    world.run()
    length = 32 * world.scenario.piece_length
    assert world.seed_peer.up.carried < 40 * length / 2


def test_run_is_reproduced_by_its_seed() -> None:
    assert run(peers=15, pieces=8, seed=3) == run(peers=15, pieces=8, seed=3)
    assert run(peers=15, pieces=8, seed=3).r99 != run(peers=15, pieces=8, seed=4).r99


def test_bound_is_that_of_the_literature() -> None:
    scenario = Scenario(peers=7, pieces=10, piece_length=100, rate=100.0)
    assert bound(scenario) == 13.0  # 10 - 1 + 3 rounds, and one more from the origin to the seed


def test_transfer_takes_both_ends_for_its_time() -> None:
    fast, slow = Link(rate=100.0), Link(rate=50.0)
    assert transfer(fast, slow, 100, delay=1.0, now=0.0) == 3.0
    assert transfer(fast, Link(rate=100.0), 100, delay=1.0, now=0.0) == 4.0
