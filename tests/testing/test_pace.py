import pytest

from dragonfly.core.model.units import KiB, MiB, Seconds
from dragonfly.testing.pace import PATIENCE, Pace


class Clock:
    """A clock that sleepers move, each oversleeping by `lateness`."""

    def __init__(self, lateness: Seconds = 0.0) -> None:
        self.now = 100.0
        self.lateness = lateness

    def __call__(self) -> Seconds:
        return self.now

    def sleep(self, seconds: Seconds) -> None:
        self.now += seconds + self.lateness


@pytest.mark.parametrize("lateness", [0.0, 0.004, PATIENCE / 2])
def test_the_rate_is_kept_by_sleepers_that_oversleep(lateness: Seconds) -> None:
    clock = Clock(lateness)
    pace = Pace(10 * MiB, clock=clock, sleep=clock.sleep)
    for _ in range(1000):
        pace.take(100 * KiB)
    assert clock.now - 100.0 == pytest.approx(1000 * 100 * KiB / (10 * MiB), abs=lateness + 1e-6)


def test_an_idle_time_earns_nothing() -> None:
    clock = Clock()
    pace = Pace(MiB, clock=clock, sleep=clock.sleep)
    pace.take(KiB)
    clock.now += 60
    before = clock.now
    pace.take(MiB)
    assert clock.now - before == pytest.approx(1.0)


def test_takers_share_the_rate_by_waiting_one_behind_the_other() -> None:
    waits: list[Seconds] = []
    pace = Pace(MiB, clock=lambda: 0.0, sleep=waits.append)
    for _ in range(3):
        pace.take(MiB // 2)
    assert waits == [0.5, 1.0, 1.5]


def test_no_limit_is_no_wait() -> None:
    Pace(None, sleep=lambda _: pytest.fail("waited")).take(1 << 40)


@pytest.mark.parametrize(("rate", "turn"), [(None, MiB), (1, KiB), (5 * MiB, 5 * MiB // 50), (1 << 40, 4 * MiB)])
def test_a_turn_is_short_at_low_rates_and_cheap_at_high_ones(rate: int | None, turn: int) -> None:
    assert Pace(rate).turn == turn
