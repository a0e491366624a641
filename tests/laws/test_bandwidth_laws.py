"""However flows come, go, sleep late and differ in what they want: the limit holds, is used up, and is shared."""

import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from heapq import heapify, heapreplace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dragonfly.core.model.units import Bytes, MiB, Seconds
from dragonfly.core.transfer.bandwidth import FairBucket, grant_from

RATES = st.sampled_from([20_000, 100 * 1024, 5 * MiB, 125_000_000, 10**9])


BACKLOG: Seconds = 0.2  # of its link's time: what a sender's window holds while the receiver waits for its turn


@dataclass
class Asker:
    """One thread that takes what its own link brings for a flow, from `begins` on, in portions of `wanted`."""

    flow: str
    link: float
    wanted: Bytes = MiB
    begins: Seconds = 0.0
    ends: Seconds = float("inf")
    ready_at: Seconds = 0.0  # when the link has brought all that was taken

    def took(self, count: Bytes, now: Seconds) -> Seconds:
        """When it asks again."""
        self.ready_at = max(self.ready_at, now - BACKLOG) + count / self.link
        return max(now, self.ready_at) + 1e-6


@dataclass
class Run:
    """What askers that do as they are told, but wake up to `lateness` late, were granted."""

    buckets: tuple[FairBucket, ...]
    askers: list[Asker]
    duration: Seconds
    lateness: Seconds = 0.0
    seed: int = 0
    grants: list[tuple[Seconds, str, Bytes]] = field(default_factory=list)
    asked: int = 0

    def play(self) -> "Run":
        chance = random.Random(self.seed)
        calls = [(asker.begins + chance.random() * 1e-3, number) for number, asker in enumerate(self.askers)]
        heapify(calls)
        while calls[0][0] < self.duration:
            now, number = calls[0]
            heapreplace(calls, (self._ask(self.askers[number], now, chance), number))
        return self

    def _ask(self, asker: Asker, now: Seconds, chance: random.Random) -> Seconds:
        """Ask once; when this asker asks again."""
        if now > asker.ends:
            return float("inf")
        self.asked += 1
        grant = grant_from(self.buckets, asker.flow, asker.wanted, now)
        if not grant.count:
            assert grant.retry_in > 0
            return now + grant.retry_in + chance.random() * self.lateness
        self.grants.append((now, asker.flow, grant.count))
        return asker.took(grant.count, now)

    def shares(self, since: Seconds = 0.0) -> Counter[str]:
        shares: Counter[str] = Counter()
        for now, flow, count in self.grants:
            if now >= since:
                shares[flow] += count
        return shares


def worst_excess(grants: Iterable[tuple[Seconds, str, Bytes]], rate: Bytes) -> float:
    """The most by which any window of time saw more than its length times the rate."""
    worst, excess, last = 0.0, 0.0, 0.0
    for now, _, count in grants:
        excess = max(excess - (now - last) * rate, 0.0) + count
        worst, last = max(worst, excess), now
    return worst


def check_line(bucket: FairBucket) -> None:
    """Every waiting flow stands in the line once, in the order of its tag; nobody else does."""
    waiting = [flow.place for flow in bucket._flows.values() if flow.place is not None]
    assert bucket._line == sorted(waiting, key=lambda place: place[:2])
    assert 0 <= bucket._tokens <= bucket.burst


def max_min_shares(rate: float, wants: dict[str, float]) -> dict[str, float]:
    """Textbook: serve the most modest first, split what is left."""
    shares: dict[str, float] = {}
    for position, (flow, want) in enumerate(sorted(wants.items(), key=lambda entry: entry[1])):
        shares[flow] = min(want, rate / (len(wants) - position))
        rate -= shares[flow]
    return shares


@settings(max_examples=60, deadline=None)
@given(rate=RATES, seed=st.integers(0, 2**32), count=st.integers(1, 30), data=st.data())
def test_no_window_sees_more_than_the_rate_and_a_burst(rate: Bytes, seed: int, count: int, data: st.DataObject) -> None:
    chance = random.Random(seed)
    bucket, now = FairBucket(rate, 0.0), 0.0
    grants = []
    pace = data.draw(st.sampled_from([1e-5, 1e-3, 0.05]))
    for _ in range(400):  # callers that ask when they like, whatever they were told
        now += chance.expovariate(1 / pace)
        flow = str(chance.randrange(count))
        granted = bucket.grant(flow, chance.choice([1, 700, 64 * 1024, 64 * MiB]), now).count
        grants.append((now, flow, granted))
        if granted and chance.random() < 0.1:
            back = chance.randrange(granted + 1)
            bucket.give_back(flow, back)
            grants[-1] = (now, flow, granted - back)
        check_line(bucket)
    assert worst_excess(grants, rate) <= bucket.burst + 1


@settings(max_examples=60, deadline=None)
@given(
    rate=RATES,
    flows=st.integers(1, 12),
    threads=st.integers(1, 4),
    lateness=st.sampled_from([0.0, 0.002, 0.01]),
    seed=st.integers(0, 2**32),
)
def test_all_of_the_limit_is_used_and_shared_equally_while_everybody_wants_more(
    rate: Bytes, flows: int, threads: int, lateness: Seconds, seed: int
) -> None:
    bucket = FairBucket(rate, 0.0)
    askers = [Asker(str(flow), link=100.0 * rate) for flow in range(flows) for _ in range(threads)]
    run = Run((bucket,), askers, 4.0, lateness, seed).play()
    shares = run.shares()
    assert shares.total() == pytest.approx(4 * rate, rel=0.05, abs=bucket.burst)
    assert worst_excess(run.grants, rate) <= bucket.burst + 1
    assert max(shares.values()) - min(shares[str(flow)] for flow in range(flows)) <= 2 * bucket.burst


@settings(max_examples=40, deadline=None)
@given(
    rate=st.sampled_from([100 * 1024, 5 * MiB, 10**9]),
    parts=st.lists(st.sampled_from([0.02, 0.1, 0.3, 0.5, 2.0]), min_size=2, max_size=8),
    lateness=st.sampled_from([0.0, 0.002]),
    seed=st.integers(0, 2**32),
)
def test_what_modest_flows_leave_goes_to_the_others_max_min_fairly(
    rate: Bytes, parts: list[float], lateness: Seconds, seed: int
) -> None:
    wants = {str(number): part * rate for number, part in enumerate(parts)}
    bucket = FairBucket(rate, 0.0)
    portion = bucket.quantum // 2
    askers = [Asker(flow, link=want, wanted=portion) for flow, want in wants.items() for _ in range(4)]
    fair = max_min_shares(rate, {flow: 4 * want for flow, want in wants.items()})
    run = Run((bucket,), askers, 6.0, lateness, seed).play()
    shares = run.shares(since=1.0)
    for flow, share in fair.items():
        assert shares[flow] / 5 == pytest.approx(share, rel=0.1, abs=rate * 0.02)


@settings(max_examples=25, deadline=None)
@given(
    rate=st.sampled_from([100 * 1024, 10**8]),
    flows=st.integers(2, 20),
    leavers=st.integers(1, 19),
    seed=st.integers(0, 2**32),
)
def test_those_who_stay_have_it_all_at_once_when_others_leave(rate: Bytes, flows: int, leavers: int, seed: int) -> None:
    assume(leavers < flows)
    askers = [
        Asker(str(flow), link=100.0 * rate, ends=2.0 if flow < leavers else float("inf")) for flow in range(flows)
    ]
    run = Run((FairBucket(rate, 0.0),), askers, 3.0, 0.002, seed).play()
    assert run.shares(since=2.0).total() == pytest.approx(rate, rel=0.05, abs=0.05 * rate)


@settings(max_examples=25, deadline=None)
@given(rate=st.sampled_from([100 * 1024, 10**8]), flows=st.integers(1, 20), seed=st.integers(0, 2**32))
def test_a_newcomer_has_its_share_at_once(rate: Bytes, flows: int, seed: int) -> None:
    askers = [Asker(str(flow), link=100.0 * rate) for flow in range(flows)]
    askers.append(Asker("new", link=100.0 * rate, begins=2.0))
    run = Run((FairBucket(rate, 0.0),), askers, 4.0, 0.002, seed).play()
    assert run.shares(since=2.0)["new"] == pytest.approx(2 * rate / (flows + 1), rel=0.1, abs=0.05 * rate)


@settings(max_examples=25, deadline=None)
@given(
    inner=st.sampled_from([10**6, 4 * 10**6]),
    outer=st.sampled_from([2 * 10**6, 10**7]),
    seed=st.integers(0, 2**32),
)
def test_limits_in_a_row_all_hold_and_the_tightest_is_used_up(inner: Bytes, outer: Bytes, seed: int) -> None:
    buckets = (FairBucket(inner, 0.0), FairBucket(outer, 0.0))
    askers = [Asker(str(number % 4), link=1e9) for number in range(16)]
    run = Run(buckets, askers, 4.0, 0.002, seed).play()
    for bucket in buckets:
        assert worst_excess(run.grants, bucket.rate) <= bucket.burst + 1
    assert run.shares().total() == pytest.approx(4 * min(inner, outer), rel=0.05)


def test_a_flow_in_two_limits_and_one_in_the_wider_alone_both_get_theirs() -> None:
    inner, outer = FairBucket(10**6, 0.0), FairBucket(10**7, 0.0)
    outside = Run((outer,), [Asker("outside", link=1e9)], 4.0)
    both = Run((inner, outer), [Asker("inside", link=1e9)], 4.0)
    calls = {0: 0.0, 1: 0.0}
    chance = random.Random(1)
    while (now := min(calls.values())) < 4.0:
        number = min(calls, key=calls.__getitem__)
        run = (outside, both)[number]
        calls[number] = run._ask(run.askers[0], now, chance)
    assert both.shares()["inside"] == pytest.approx(4 * 10**6, rel=0.05)
    assert outside.shares()["outside"] == pytest.approx(4 * 9 * 10**6, rel=0.05)


@pytest.mark.parametrize("rate", [100 * 1024, 10**9])
def test_a_thousand_flows_share_without_anybody_starving(rate: Bytes) -> None:
    bucket = FairBucket(rate, 0.0)
    run = Run((bucket,), [Asker(str(flow), link=100.0 * rate) for flow in range(1000)], 22.0, 0.002).play()
    shares = run.shares()
    assert shares.total() == pytest.approx(22 * rate, rel=0.05)
    assert min(shares[str(flow)] for flow in range(1000)) >= bucket.quantum
    assert (run.asked - len(run.grants)) / 22 < 2000, "asking in vain costs little"
