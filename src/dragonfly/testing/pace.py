"""One bandwidth limit shared by many threads.

Time is cut into slots as long as the bytes they carry. Every taker gets the next free one and sends when it is over, so
the rate is exact however many threads take part, and each gets its turn. Who overslept is not punished: slots may lie
up to `PATIENCE` in the past before they are lost. So the whole catches up, while an idle time earns nothing.
"""

import threading
import time
from collections.abc import Callable

from dragonfly.core.model.units import Bytes, KiB, MiB, Seconds

PATIENCE: Seconds = 0.1
_TURNS_PER_SECOND = 50  # at 200 MiB/s half the CPU time of 200 turns, a third of that of 800
_TURN_LIMIT: Bytes = 4 * MiB


class Pace:
    """At most `rate` bytes a second between all who take from it; None means no limit. Thread-safe."""

    def __init__(
        self,
        rate: Bytes | None,
        *,
        clock: Callable[[], Seconds] = time.monotonic,
        sleep: Callable[[Seconds], object] = time.sleep,
    ) -> None:
        self._rate = rate
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._free_at: Seconds = clock()

    @property
    def turn(self) -> Bytes:
        """How much to take at a time."""
        return MiB if self._rate is None else min(max(self._rate // _TURNS_PER_SECOND, KiB), _TURN_LIMIT)

    def take(self, count: Bytes) -> None:
        """Wait until `count` bytes may be sent."""
        if self._rate is None:
            return
        with self._lock:
            now = self._clock()
            if now - self._free_at > PATIENCE:
                self._free_at = now
            self._free_at += count / self._rate
            wait = self._free_at - now
        if wait > 0:
            self._sleep(wait)
