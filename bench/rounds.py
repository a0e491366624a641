"""Rounds of a measurement and what is read out of them. Pure.

A round is a flat mapping from what was measured to its number. Both sides of a comparison are measured in every round,
in turns, so that a machine that gets slower meanwhile slows both; a ratio is the median of the rounds' ratios.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Round = Mapping[str, float]
Run = Callable[[], Round]


def alternate(runs: Mapping[str, Run], count: int, *, say: Callable[[str], None] = lambda _: None) -> list[Round]:
    """`count` rounds, each with every run once, the order turned round each time; one more before them is not kept.

    What a run measured is kept as "<run> <what>".
    """
    kept: list[Round] = []
    for number in range(count + 1):
        order = list(runs) if number % 2 else list(runs)[::-1]
        measured: dict[str, float] = {}
        for name in order:
            found = runs[name]()
            measured |= {f"{name} {what}": value for what, value in found.items()}
            say(f"round {number}, {name}: {', '.join(f'{what} {value:.4g}' for what, value in found.items())}")
        if number:
            kept.append(measured)
    return kept


def median(rounds: Sequence[Round], what: str) -> float:
    """Of one thing over all rounds that have it. Raises KeyError if none has."""
    values = [measured[what] for measured in rounds if what in measured]
    if not values:
        raise KeyError(what)
    return statistics.median(values)


def ratio(rounds: Sequence[Round], what: str, beside: str) -> float:
    """The median of the rounds' ratios. Raises KeyError if no round has both."""
    values = [measured[what] / measured[beside] for measured in rounds if {what, beside} <= measured.keys()]
    if not values:
        raise KeyError(f"{what} / {beside}")
    return statistics.median(values)


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that `percent` of all values do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100).__trunc__() - 1)]


def slope(values: Sequence[float]) -> float:
    """Growth of a value from one sample to the next, by least squares; 0 for fewer than two samples."""
    if len(values) < 2:
        return 0.0
    return statistics.linear_regression(range(len(values)), values).slope


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What a figure should be."""

    at_least: float | None = None
    at_most: float | None = None

    def is_met(self, value: float) -> bool:
        below = self.at_least is not None and value < self.at_least
        above = self.at_most is not None and value > self.at_most
        return not below and not above

    def __str__(self) -> str:
        bounds = [(self.at_least, "≥"), (self.at_most, "≤")]
        return " and ".join(f"{sign} {shown(bound)}" for bound, sign in bounds if bound is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of a scenario's table."""

    name: str
    value: float
    unit: str = ""
    goal: Goal | None = None

    @property
    def is_missed(self) -> bool:
        return self.goal is not None and not self.goal.is_met(self.value)


def shown(value: float) -> str:
    """A number with three figures that mean something: 0.0231, 1.25, 812, 10 240."""
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}".replace(",", " ")
    digits = f"{value:.3g}"
    return f"{float(digits):.6f}".rstrip("0").rstrip(".") if "e" in digits else digits
