"""How good a parent one peer would be for another: a number in [0, 1]."""

from dataclasses import astuple, dataclass
from math import isclose
from typing import Protocol

from dragonfly.core.scheduling.records import Peer
from dragonfly.errors import InvalidInput

LOCATION_ELEMENTS = 5  # upstream compares at most five elements of a location


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """How much each term counts; they sum to 1 or InvalidInput is raised."""

    children: float = 0.5
    bandwidth: float = 0.2
    idc: float = 0.15
    location: float = 0.1
    host_type: float = 0.05

    def __post_init__(self) -> None:
        if not isclose(sum(astuple(self)), 1.0) or min(astuple(self)) < 0:
            raise InvalidInput(reason=f"evaluator weights must be positive and sum to 1, got {astuple(self)}")


class Evaluator(Protocol):
    """Plugins implement this; it is asked some sixteen times for each offer."""

    def score(self, parent: Peer, child: Peer) -> float:
        """A number in [0, 1], higher is better."""
        ...


class WeightedEvaluator:
    """Few children first, then spare bandwidth and nearness.

    Differs from upstream: children are counted, not estimated from piece lengths, and bandwidth is what the host
    measured itself, so nothing drifts.
    """

    def __init__(self, weights: Weights) -> None:
        self._children, self._bandwidth = weights.children, weights.bandwidth
        self._idc, self._location, self._host_type = weights.idc, weights.location, weights.host_type

    def score(self, parent: Peer, child: Peer) -> float:
        host, other = parent.host, child.host
        total = self._children / (1 + len(parent.children)) + self._bandwidth * host.spare_bandwidth
        total += self._host_type * 0.5 if host.is_seed else self._host_type  # seeds feed the first, peers the others
        if host.idc == other.idc and host.idc:
            total += self._idc
        first, second = host.location, other.location
        if first and second and first[0] == second[0]:
            total += self._location * location_affinity(first, second)
        return total


def location_affinity(first: tuple[str, ...], second: tuple[str, ...]) -> float:
    """Share of leading elements in common, of the five that count; equal locations are 1 however short."""
    if first == second:
        return 1.0 if first else 0.0
    end = min(len(first), len(second), LOCATION_ELEMENTS)
    common = 0
    while common < end and first[common] == second[common]:
        common += 1
    return common / LOCATION_ELEMENTS
