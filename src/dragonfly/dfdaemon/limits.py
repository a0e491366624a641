"""The daemon's bandwidth limits, for the threads that move bytes.

Every byte counts where it is received or sent: from parents and origins alike, also those of a piece that turns out
wrong and is fetched again. A download passes up to three limits, all at once: prefetch, back-to-source, all downloads.
The arithmetic is `core.transfer.bandwidth`; here are the clock, the lock (never held while waiting) and the sleep.
"""

import time
from collections.abc import Callable, Hashable, Sequence
from threading import Lock
from typing import Final

from dragonfly.core.model.units import Bytes, KiB, Seconds
from dragonfly.core.transfer.bandwidth import FairBucket, Grant, grant_from
from dragonfly.errors import DownloadCancelled

UNLIMITED: Final[Bytes] = 50 * 10**9
"""Bytes per second from which on a limit is none: the reference's default, more than any host's links carry."""

WAIT_SLICE: Final[Seconds] = 0.25  # how late a stopped download is noticed
PORTIONS_PER_TURN: Final = 4  # what a dozen busy threads were granted and did not move yet stays below 3 % of a second
LEAST_PORTION: Final[Bytes] = KiB

Clock = Callable[[], Seconds]
Sleep = Callable[[Seconds], object]


class Limiter:
    """Limits in a row that hold together. Thread-safe; those that share a bucket share the lock."""

    def __init__(self, buckets: Sequence[FairBucket], lock: Lock, *, clock: Clock, sleep: Sleep) -> None:
        self._buckets = tuple(buckets)
        self._lock = lock
        self._clock = clock
        self._sleep = sleep

    @property
    def is_unlimited(self) -> bool:
        return not self._limiting()

    @property
    def portion(self) -> Bytes:
        """How much to move at a time so that the limit holds over any second, however many threads are at it."""
        quantum = min((bucket.quantum for bucket in self._limiting()), default=UNLIMITED)
        return max(quantum // PORTIONS_PER_TURN, min(quantum, LEAST_PORTION))

    def grant(self, flow: Hashable, wanted: Bytes) -> Grant:
        """How many of `wanted` bytes may move now, or when to ask again. Never waits."""
        buckets = self._limiting()
        if not buckets:
            return Grant(wanted)
        with self._lock:
            return grant_from(buckets, flow, wanted, self._clock())

    def take(self, flow: Hashable, count: Bytes, stopped: Callable[[], bool]) -> None:
        """Wait until `count` bytes may move. Raises DownloadCancelled once `stopped` says so; nothing is taken then."""
        taken: Bytes = 0
        while taken < count:
            grant = self.grant(flow, count - taken)
            taken += grant.count
            until = self._clock() + grant.retry_in
            while (left := until - self._clock()) > 0:
                if stopped():
                    self.give_back(flow, taken)
                    raise DownloadCancelled
                self._sleep(min(left, WAIT_SLICE))

    def give_back(self, flow: Hashable, count: Bytes) -> None:
        """`count` bytes that were granted or taken did not move after all."""
        with self._lock:
            for bucket in self._limiting():
                bucket.give_back(flow, count)

    def _limiting(self) -> tuple[FairBucket, ...]:
        return tuple(bucket for bucket in self._buckets if bucket.rate < UNLIMITED)


class Pace:
    """The limits on one transfer: called before each receive with the most it may bring, at best a `portion`.

    Raises DownloadCancelled when the transfer is stopped while it waits.
    """

    __slots__ = ("_flow", "_limiter", "_stopped")

    def __init__(self, limiter: Limiter, flow: Hashable, stopped: Callable[[], bool]) -> None:
        self._limiter = limiter
        self._flow = flow
        self._stopped = stopped

    @property
    def portion(self) -> Bytes:
        """The longest receive that keeps to the limit over any second."""
        return self._limiter.portion

    def __call__(self, count: Bytes) -> None:
        self._limiter.take(self._flow, count, self._stopped)

    def unused(self, count: Bytes) -> None:
        """The last receive brought `count` bytes less than asked for."""
        self._limiter.give_back(self._flow, count)


class BandwidthLimits:
    """All limits of one daemon, in bytes per second; from `UNLIMITED` on there is none."""

    def __init__(
        self,
        *,
        download: Bytes = UNLIMITED,
        back_to_source: Bytes = UNLIMITED,
        prefetch: Bytes = UNLIMITED,
        upload: Bytes = UNLIMITED,
        clock: Clock = time.monotonic,
        sleep: Sleep = time.sleep,
    ) -> None:
        now = clock()
        self._clock, self._sleep = clock, sleep
        self._download, self._back_to_source = FairBucket(download, now), FairBucket(back_to_source, now)
        self._prefetch, self._upload = FairBucket(prefetch, now), FairBucket(upload, now)
        self._downloads, self._uploads = Lock(), Lock()
        self.upload = Limiter((self._upload,), self._uploads, clock=clock, sleep=sleep)

    def downloads(self, *, from_source: bool, is_prefetch: bool) -> Limiter:
        """What holds for downloads of this sort."""
        buckets = [self._download]
        if from_source:
            buckets.insert(0, self._back_to_source)
        if is_prefetch:
            buckets.insert(0, self._prefetch)
        return Limiter(buckets, self._downloads, clock=self._clock, sleep=self._sleep)

    def pace_of(
        self, flow: Hashable, *, from_source: bool, is_prefetch: bool = False, stopped: Callable[[], bool]
    ) -> Pace | None:
        """What a transfer of this flow (a task) calls before each receive; None where nothing limits it."""
        limiter = self.downloads(from_source=from_source, is_prefetch=is_prefetch)
        return None if limiter.is_unlimited else Pace(limiter, flow, stopped)

    def change(
        self,
        *,
        download: Bytes | None = None,
        back_to_source: Bytes | None = None,
        prefetch: Bytes | None = None,
        upload: Bytes | None = None,
    ) -> None:
        """Change some limits while running; transfers that began without any stay without."""
        with self._downloads, self._uploads:
            now = self._clock()
            for bucket, rate in (
                (self._download, download),
                (self._back_to_source, back_to_source),
                (self._prefetch, prefetch),
                (self._upload, upload),
            ):
                if rate is not None:
                    bucket.change_rate(rate, now)
