"""A bandwidth limit shared fairly: how many bytes a flow may move now, or when to ask again.

Two things are kept apart. *How much* in all is a token bucket: tokens come at `rate`, at most `burst` are saved,
nothing is granted without them; so no window of time sees more than `rate * time + burst`, whatever the callers do.
*Whose turn* it is among flows that wait is start-time fair queueing (Goyal, Vin and Cheng, 1996):

- a flow that asks begins a turn with a start tag: where its last turn ended, counted in bytes, or the clock if later;
- the clock is the start tag last served in order, so being away earns no credit. Moving what was granted is not being
  away: a flow that asked within `GRACE` may be behind the clock by a burst;
- the waiting flow with the smallest start tag is first; its turn lasts until it has had a quantum, in a grant or more.

Callers are not woken, they ask again. Each refusal says when: the flow's place in the line tells. Places are kept while
their flows sleep, but not at the price of bandwidth: when the bucket is almost full because the first in line is late,
whoever asks is served; the late one finds its place and catches up. One that stays away for `GRACE` loses its place.
Several threads may ask for one flow; they share its place and are called one after the other.

Invariants: 0 <= tokens <= burst; every waiting flow stands in the line once, in order of its tag; a flow nobody has
asked for during `FORGET_AFTER` is not remembered. A grant costs O(log n) comparisons and one short memory move in a
list of n waiting flows. Left to others: sleeping, threads, moving the bytes, giving back what was not moved.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Final

from dragonfly.core.model.units import Bytes, KiB, Seconds

BURST_TIME: Final[Seconds] = 0.05  # 5 % of a second: the accuracy promised over any second
LEAST_BURST: Final[Bytes] = KiB  # below 20 KiB/s
QUANTA_PER_BURST: Final = 5  # a turn is 10 ms of the rate; the rest of the burst forgives sleepers that wake late
GRACE: Final[Seconds] = 0.1  # how late a flow may ask again and keep its place
FORGET_AFTER: Final[Seconds] = 5.0
SWEEP_EVERY: Final[Seconds] = 1.0
LEAST_WAIT: Final[Seconds] = 1e-6  # rounding must not make the first in line ask twice at one moment
ASKING_INTERVAL: Final[Seconds] = 0.001  # on average, all that wait together: 1000 of them ask once a second


@dataclass(frozen=True, slots=True)
class Grant:
    """`count` bytes may move now; if that is 0, ask again in `retry_in` seconds."""

    count: Bytes
    retry_in: Seconds = 0.0


class _Flow:
    """What is remembered of one flow. Tags are bytes on the bucket's own clock."""

    __slots__ = ("calls", "end", "place", "seen", "start", "turn")

    def __init__(self) -> None:
        self.start: Bytes = -1
        self.end: Bytes = -1  # how far its turn has come; the clock begins at 0
        self.turn = 0
        self.place: _Place | None = None  # in the line, while it waits
        self.calls: list[Seconds] = []  # when its askers were told to come back, in order
        self.seen: Seconds = float("-inf")

    def is_absent(self, now: Seconds) -> bool:
        """Whether all its askers are late by more than the grace."""
        return not self.calls or self.calls[-1] + GRACE < now


_Place = tuple[Bytes, int, _Flow]  # start tag, number of the turn


class FairBucket:
    """At most `rate` bytes per second between all flows, in equal shares for those that want more than theirs."""

    def __init__(self, rate: Bytes, now: Seconds) -> None:
        self._tokens = 0.0
        self._filled_at = self._swept_at = now
        self._clock: Bytes = 0
        self._turns = 0
        self._flows: dict[Hashable, _Flow] = {}
        self._line: list[_Place] = []
        self._set_rate(rate)
        self._tokens = float(self.burst)

    @property
    def flow_count(self) -> int:
        """Flows remembered."""
        return len(self._flows)

    def change_rate(self, rate: Bytes, now: Seconds) -> None:
        """From now on `rate` bytes per second; at least 1. Flows keep their places."""
        self._fill(now)
        self._set_rate(rate)

    def grant(self, flow: Hashable, wanted: Bytes, now: Seconds) -> Grant:
        """How many of `wanted` (at least 1) bytes this flow may move now. They count as moved."""
        return grant_from((self,), flow, wanted, now)

    def offer(self, flow: Hashable, wanted: Bytes, now: Seconds) -> Grant:
        """What `grant` would give, without taking it: `charge` follows at the same `now`, or `expect`."""
        self._fill(now)
        if now - self._swept_at >= SWEEP_EVERY:
            self._sweep(now)
        asker = self._flow(flow)
        del asker.calls[: bisect_right(asker.calls, now)]
        self._stand_in_line(asker, now)
        self._drop_absent(asker, now)
        is_first = self._line[0][2] is asker
        available = int(self._tokens)
        if is_first and available >= min(wanted, self.quantum):
            return Grant(min(wanted, available, self._lead_allowed(asker)))
        if not is_first and available >= self._spare_from:
            return Grant(min(wanted, available, self.quantum))
        return Grant(0, self._call_again(asker, wanted, now))

    def charge(self, flow: Hashable, count: Bytes) -> None:
        """Take `count` of what was offered to this flow at this very moment."""
        payer = self._flow(flow)
        if self._line and self._line[0][2] is payer:
            self._clock = max(self._clock, payer.start)
        self._leave_line(payer)
        payer.end += count
        self._tokens -= count

    def expect(self, flow: Hashable, at: Seconds) -> None:
        """Keep this flow's place: it was offered something here, but has to wait until `at` for another reason."""
        insort(self._flow(flow).calls, at)

    def give_back(self, flow: Hashable, count: Bytes) -> None:
        """`count` bytes granted to this flow were not moved after all; others may have them."""
        self._tokens = min(self._tokens + count, float(self.burst))
        if flow in self._flows:
            self._flows[flow].end -= count

    # --- tokens

    def _set_rate(self, rate: Bytes) -> None:
        self.rate = max(rate, 1)
        self.burst: Bytes = max(int(self.rate * BURST_TIME), LEAST_BURST)
        self.quantum: Bytes = self.burst // QUANTA_PER_BURST
        self._spare_from = self.burst - self.quantum
        self._tokens = min(self._tokens, float(self.burst))

    def _fill(self, now: Seconds) -> None:
        if now > self._filled_at:
            self._tokens = min(self._tokens + (now - self._filled_at) * self.rate, float(self.burst))
            self._filled_at = now

    # --- the line

    def _flow(self, name: Hashable) -> _Flow:
        flow = self._flows.get(name)
        if flow is None:
            flow = self._flows[name] = _Flow()
        return flow

    def _stand_in_line(self, flow: _Flow, now: Seconds) -> None:
        was_away, flow.seen = flow.seen + GRACE < now, now
        if flow.place is not None:
            return
        earliest = self._clock if was_away else self._clock - self.burst
        if flow.end < earliest or flow.end - flow.start >= self.quantum:
            self._turns += 1
            flow.turn = self._turns
            flow.start = flow.end = max(flow.end, earliest)
        flow.place = (flow.start, flow.turn, flow)
        insort(self._line, flow.place)

    def _leave_line(self, flow: _Flow) -> None:
        if flow.place is not None:
            del self._line[bisect_left(self._line, flow.place)]
            flow.place = None

    def _drop_absent(self, asker: _Flow, now: Seconds) -> None:
        while (first := self._line[0][2]) is not asker and first.is_absent(now):
            self._leave_line(first)

    def _lead_allowed(self, first: _Flow) -> Bytes:
        """How much the first in line may have in one go."""
        if len(self._line) == 1:
            return self.burst
        return max(self._line[1][2].start - first.end, 0) + self.quantum

    def _call_again(self, asker: _Flow, wanted: Bytes, now: Seconds) -> Seconds:
        """When this flow's turn comes if everybody ahead takes a quantum, but soon enough to use what they leave."""
        assert asker.place is not None
        count, ahead = len(self._line), bisect_left(self._line, asker.place)
        turn_time = self.quantum / self.rate
        wait = (ahead * self.quantum + min(wanted, self.quantum) - self._tokens) / self.rate
        if asker.calls and asker.calls[0] <= now + wait + turn_time / 2:  # another asker will be there for that turn
            wait = asker.calls[-1] - now + count * turn_time
        longest = max((self._spare_from - self._tokens) / self.rate, count * ASKING_INTERVAL)
        wait = max(min(wait, longest), turn_time / 4 if ahead else LEAST_WAIT)
        insort(asker.calls, now + wait)
        return wait

    def _sweep(self, now: Seconds) -> None:
        self._swept_at = now
        for place in [place for place in self._line if place[2].is_absent(now)]:
            self._leave_line(place[2])
        for name, flow in list(self._flows.items()):
            if flow.seen + FORGET_AFTER < now and flow.place is None:
                del self._flows[name]


def grant_from(buckets: Sequence[FairBucket], flow: Hashable, wanted: Bytes, now: Seconds) -> Grant:
    """What all `buckets` allow together, taken from each of them or from none."""
    count = wanted
    for position, bucket in enumerate(buckets):
        offer = bucket.offer(flow, count, now)
        if not offer.count:
            for earlier in buckets[:position]:
                earlier.expect(flow, now + offer.retry_in)
            return offer
        count = offer.count
    for bucket in buckets:
        bucket.charge(flow, count)
    return Grant(count)
