"""A bandwidth limit, told as who asks when and what is granted."""

import pytest

from dragonfly.core.model.units import Bytes, KiB, MiB
from dragonfly.core.transfer.bandwidth import (
    FORGET_AFTER,
    GRACE,
    LEAST_BURST,
    SWEEP_EVERY,
    FairBucket,
    Grant,
    grant_from,
)

RATE: Bytes = 100_000  # so that a millisecond is 100 bytes, a turn 1000, the burst 5000


def emptied(now: float = 0.0) -> FairBucket:
    bucket = FairBucket(RATE, now)
    assert bucket.grant("before", MiB, now) == Grant(bucket.burst)
    return bucket


def test_a_burst_is_granted_at_once_and_then_the_rate() -> None:
    bucket = FairBucket(RATE, 0.0)
    assert bucket.burst == 5000
    assert bucket.grant("a", 100, 0.0) == Grant(100)
    assert bucket.grant("a", MiB, 0.0) == Grant(4900)
    assert bucket.grant("a", MiB, 0.0).count == 0
    assert bucket.grant("a", MiB, 0.020).count == pytest.approx(2000, abs=1)


def test_a_refusal_says_when_to_ask_again() -> None:
    bucket = emptied()
    refused = bucket.grant("a", MiB, 0.0)
    assert refused == Grant(0, pytest.approx(0.010, rel=0.01))
    assert bucket.grant("a", MiB, refused.retry_in).count == pytest.approx(1000, abs=1)


def test_little_is_waited_for_shortly() -> None:
    assert emptied().grant("a", 50, 0.0).retry_in == pytest.approx(0.0005, rel=0.01)


def test_an_idle_time_earns_no_more_than_a_burst() -> None:
    bucket = emptied()
    assert bucket.grant("a", MiB, 3600.0) == Grant(5000)


def test_time_that_runs_backwards_earns_nothing() -> None:
    bucket = emptied(now=100.0)
    assert bucket.grant("a", MiB, 50.0).count == 0
    assert bucket.grant("a", MiB, 100.0).count == 0


def test_those_who_wait_are_called_in_the_order_of_their_coming() -> None:
    bucket = emptied()
    waits = [bucket.grant(name, MiB, 0.0).retry_in for name in "abc"]
    assert waits == pytest.approx([0.010, 0.020, 0.030], rel=0.01)


def test_whoever_comes_before_the_first_in_line_has_to_wait() -> None:
    bucket = emptied()
    bucket.grant("first", MiB, 0.0)
    assert bucket.grant("second", MiB, 0.0).count == 0
    assert bucket.grant("second", MiB, 0.015).count == 0
    assert bucket.grant("first", MiB, 0.016).count >= 1000


def test_a_late_first_in_line_is_passed_before_bandwidth_is_lost_and_catches_up() -> None:
    bucket = emptied()
    bucket.grant("late", MiB, 0.0)
    bucket.grant("quick", MiB, 0.0)
    assert bucket.grant("quick", MiB, 0.0401).count == 1000
    bucket.grant("quick", MiB, 0.0402)
    assert bucket.grant("late", MiB, 0.0403).count == 2000, "the turn of its own, and the one it was passed by"


def test_a_flow_that_stays_away_loses_its_place() -> None:
    bucket = emptied()
    gone = bucket.grant("gone", MiB, 0.0).retry_in
    bucket.grant("b", MiB, 0.0)
    bucket.grant("b", MiB, gone + GRACE + 0.001)  # takes the burst that was saved meanwhile
    now = gone + GRACE + 0.002
    bucket.grant("c", MiB, now)
    assert bucket.grant("b", MiB, now).retry_in < 0.050
    assert bucket.grant("c", MiB, now + 0.011).count >= 1000, "nobody is held up by the one who is gone"


def test_being_away_earns_no_credit() -> None:
    bucket = emptied()
    now = 0.0
    for _ in range(100):  # one flow alone for a second
        now += 0.010
        bucket.grant("busy", MiB, now)
    shares = dict.fromkeys(("before", "busy"), 0)
    for _ in range(200):
        now += 0.005
        for name in shares:
            shares[name] += bucket.grant(name, MiB, now).count
    assert shares["before"] == pytest.approx(shares["busy"], rel=0.1)


def test_threads_of_one_flow_are_called_one_after_the_other() -> None:
    bucket = emptied()
    waits = [bucket.grant("a", MiB, 0.0).retry_in for _ in range(3)]
    assert waits == pytest.approx([0.010, 0.020, 0.030], rel=0.01)


def test_nobody_is_sent_away_for_longer_than_unused_bandwidth_would_last() -> None:
    bucket = emptied()
    waits = [bucket.grant(number, MiB, 0.0).retry_in for number in range(20)]
    assert max(waits) <= 0.050


def test_a_thousand_flows_do_not_all_ask_all_the_time() -> None:
    bucket = emptied()
    waits = [bucket.grant(number, MiB, 0.0).retry_in for number in range(1000)]
    assert waits[-1] == pytest.approx(1.0)


def test_what_was_not_moved_is_given_back() -> None:
    bucket = emptied()
    assert bucket.grant("a", MiB, 0.020).count >= 1999
    bucket.give_back("a", 1500)
    assert bucket.grant("a", MiB, 0.020).count in (1500, 1501)


def test_giving_back_never_saves_more_than_a_burst() -> None:
    bucket = FairBucket(RATE, 0.0)
    bucket.give_back("a", MiB)
    assert bucket.grant("a", MiB, 0.0) == Grant(5000)


def test_a_limit_changes_while_it_runs() -> None:
    bucket = emptied()
    bucket.change_rate(10 * RATE, 0.010)
    assert bucket.grant("a", MiB, 0.010).count == 0, "ten milliseconds of the old rate are a tenth of a turn of the new"
    assert bucket.grant("a", MiB, 0.020).count == pytest.approx(11_000, abs=1)
    bucket.change_rate(RATE, 0.020)
    assert bucket.grant("a", MiB, 1.0) == Grant(5000)


def test_flows_that_ask_no_more_are_forgotten() -> None:
    bucket = emptied()
    for number in range(1000):
        bucket.grant(number, MiB, 0.0)
    later = FORGET_AFTER + SWEEP_EVERY + 1.5
    bucket.grant("a", MiB, later)
    assert bucket.flow_count == 1
    assert bucket.grant("b", MiB, later + 0.011).count >= 1000


@pytest.mark.parametrize("rate", [0, 1, 1000, 20 * KiB])
def test_a_tiny_limit_still_grants_something(rate: Bytes) -> None:
    bucket = FairBucket(rate, 0.0)
    assert bucket.grant("a", MiB, 0.0) == Grant(LEAST_BURST)
    refused = bucket.grant("a", MiB, 0.0)
    assert bucket.grant("a", MiB, refused.retry_in + 1e-3).count >= 1


def test_a_place_is_kept_however_long_the_wait() -> None:
    bucket = FairBucket(10, 0.0)
    bucket.grant("before", MiB, 0.0)
    first = bucket.grant("first", MiB, 0.0).retry_in
    assert first > FORGET_AFTER
    now = first - 0.5
    bucket.grant("second", MiB, now)
    assert bucket.grant("second", MiB, first - 1e-9).count == 0
    assert bucket.grant("first", MiB, first + 1e-3).count >= bucket.quantum


def test_a_flow_held_up_by_another_limit_is_remembered_in_little() -> None:
    wide, narrow = FairBucket(10 * RATE, 0.0), FairBucket(RATE, 0.0)
    for turn in range(1000):
        grant_from((wide, narrow), "a", 1 << 40, turn * 0.015)
    assert len(wide._flows["a"].calls) <= 2


def test_several_limits_are_taken_together_or_not_at_all() -> None:
    wide, narrow = FairBucket(10 * RATE, 0.0), FairBucket(RATE, 0.0)
    assert grant_from((wide, narrow), "a", MiB, 0.0) == Grant(narrow.burst)
    refused = grant_from((wide, narrow), "a", MiB, 0.0)
    assert refused == Grant(0, pytest.approx(0.010, rel=0.01))
    assert wide.grant("b", MiB, 0.0).count + narrow.burst >= wide.quantum, "nothing was taken for the refusal"


def test_without_limits_everything_is_granted() -> None:
    assert grant_from((), "a", MiB, 0.0) == Grant(MiB)
