"""The bound of a swarm's links."""

import pytest

from bench.bound import Swarm, bound, terms

MIB = 1 << 20


def swarm(**other: float) -> Swarm:
    facts = {
        "peers": 8,
        "length": 1024 * MIB,
        "seed_up": 100 * MIB,
        "peer_up": 100 * MIB,
        "peer_down": 100 * MIB,
        "forwarding_unit": 4 * MIB,
        "round_trip": 0.0,
    }
    return Swarm(**(facts | other))  # type: ignore[arg-type]


def test_equal_links_are_bounded_by_one_copy_over_one_link_and_the_depth_of_the_tree() -> None:
    assert bound(swarm()) == pytest.approx(10.24 + 3 * 0.04)


def test_all_uploads_count_where_peers_send_little() -> None:
    slow = swarm(peer_up=10 * MIB)

    assert terms(slow)["all uploads"] == pytest.approx(8 * 1024 / 180)
    assert bound(slow) == pytest.approx(8 * 1024 / 180 + 3 * 0.4)


def test_a_slow_seed_bounds_everybody() -> None:
    assert bound(swarm(seed_up=50 * MIB)) == pytest.approx(20.48 + 0.12)


def test_one_peer_has_no_tree() -> None:
    assert bound(swarm(peers=1)) == pytest.approx(10.24)


def test_round_trips_count_at_every_level_and_before_the_first_byte() -> None:
    assert bound(swarm(round_trip=0.5)) - bound(swarm()) == pytest.approx(3 * 0.5 + 2 * 0.5)
