"""How each origin is best asked about a file: by a GET of its first byte, or by HEAD. Remembered for some minutes.

A GET of one byte is the better question: it tells whether ranges work, and signatures are made for it. But an origin
that ignores ranges answers it with the whole file, which every host would have sent for nothing. So a HEAD goes first
while nothing is known of an origin, and to those that ignore ranges:

    seen of an origin                                    then            ask first by
    nothing, or too long ago                             UNKNOWN         HEAD
    a 206                                                RANGED          GET
    a 200 to a request for less than the file            WHOLE           HEAD
    the same, after a HEAD that was of no use            HEADLESS        GET
    no answer to a HEAD, or a file unlike its HEAD's     HEADLESS        GET

A 200 to a request for every byte says nothing: Apache answers it so, and others an empty file.

A URL with a query is always asked by GET: it may be signed, and signatures are good for one method.

What an UNKNOWN origin's HEAD says is believed where ranges hardly matter: of a file of one piece, and, if it announces
no ranges, of one of a few. Of a longer file the first byte is asked for too, because ranges that are announced and do
not work would fail its download, and ranges that work unannounced should be used. What an origin sends unasked then is,
measured, the 128 KiB of a receive window, though its own count shows up to 4 MiB that wait in its kernel. A window that
is narrow from the start (SO_RCVBUF) makes it 6 KiB, at the price of a connection for each such question and with the
same count at the origin; TCP_WINDOW_CLAMP changes nothing.
"""

import threading
from collections.abc import Callable
from enum import Enum, auto
from typing import NamedTuple

from dragonfly.core.model.units import Bytes, MiB, Seconds
from dragonfly.source.protocol import SourceStat

REMEMBERED_FOR: Seconds = 600.0
REMEMBERED_AT_MOST = 1024
RANGED_AT_MOST: Bytes = 4 * MiB  # the shortest piece: such a file is read in one request with or without ranges
RANGELESS_AT_MOST: Bytes = 16 * MiB  # read again from its start if it breaks off, should there be ranges after all
Origin = tuple[str, str, int]
"""Scheme, host, port."""


class Habit(Enum):
    """What is known of an origin."""

    UNKNOWN = auto()
    RANGED = auto()
    WHOLE = auto()
    HEADLESS = auto()

    @property
    def wants_head(self) -> bool:
        """Whether a HEAD goes first."""
        return self in (Habit.UNKNOWN, Habit.WHOLE)

    def believes(self, head: SourceStat) -> bool:
        """Whether what a HEAD says is enough."""
        if self is Habit.WHOLE:
            return True
        limit = RANGED_AT_MOST if head.supports_ranges else RANGELESS_AT_MOST
        return head.content_length is not None and head.content_length <= limit


class _Seen(NamedTuple):
    habit: Habit
    at: Seconds


class Habits:
    """The habits of the origins met last. Thread-safe."""

    def __init__(self, clock: Callable[[], Seconds]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: dict[Origin, _Seen] = {}

    def of(self, origin: Origin) -> Habit:
        """UNKNOWN for those never seen, or not for `REMEMBERED_FOR`."""
        with self._lock:
            seen = self._seen.get(origin)
        if seen is None or self._clock() - seen.at > REMEMBERED_FOR:
            return Habit.UNKNOWN
        return seen.habit

    def learn(self, origin: Origin, habit: Habit) -> None:
        """It was seen now. The one seen longest ago is forgotten where there are too many."""
        with self._lock:
            self._seen.pop(origin, None)
            self._seen[origin] = _Seen(habit, self._clock())
            if len(self._seen) > REMEMBERED_AT_MOST:
                del self._seen[next(iter(self._seen))]

    def learn_no_ranges(self, origin: Origin, *, head_failed: bool = False) -> None:
        """It ignored a range of a longer file. `head_failed`: a HEAD was of no use just before."""
        is_headless = head_failed or self.of(origin) is Habit.HEADLESS
        self.learn(origin, Habit.HEADLESS if is_headless else Habit.WHOLE)
