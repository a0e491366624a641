"""A run against the bound of physics: how much later than the best possible schedule the peers finished."""

import math
from dataclasses import dataclass

from dragonfly.core.model.units import Seconds
from dragonfly.sim.world import Scenario, World


@dataclass(frozen=True, slots=True)
class Report:
    """Ratios of finishing times to the bound: the median's, the 99th of a hundred's, the last one's."""

    scenario: Scenario
    bound: Seconds
    r50: float
    r99: float
    r100: float
    origin_amplification: float
    messages_per_peer: float
    finished: int


def bound(scenario: Scenario) -> Seconds:
    """Least time in which equal store-and-forward links can serve all: M - 1 + ceil(log2(N + 1)) pieces, from a seed.

    Source: Mundinger, Weber, Weiss, Journal of Scheduling 2008. The way from the origin to the seed adds one piece.
    """
    piece_time = scenario.piece_length / scenario.rate
    return (scenario.pieces + math.ceil(math.log2(scenario.peers + 1))) * piece_time


def report(world: World) -> Report:
    """Figures of a world that has run. Peers that did not finish count as never."""
    times = sorted(math.inf if peer.finished_at is None else peer.finished_at for peer in world.peers)
    scenario, limit = world.scenario, bound(world.scenario)
    length = scenario.pieces * scenario.piece_length

    def ratio(share: float) -> float:
        return times[min(int(len(times) * share), len(times) - 1)] / limit

    return Report(
        scenario=scenario,
        bound=limit,
        r50=ratio(0.5),
        r99=ratio(0.99),
        r100=ratio(1.0),
        origin_amplification=world.origin.carried / length,
        messages_per_peer=world.messages / (scenario.peers + 1),
        finished=sum(time < math.inf for time in times),
    )
