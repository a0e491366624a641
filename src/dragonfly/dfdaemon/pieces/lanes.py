"""Connections to parents, each with a queue of those who have asked on it: requests are sent ahead of their turn.

    ask ──► turn 1 (reads its answer) ◄─ turn 2 (waits) ◄─ turn 3 (waits)         one lane: answers come in order
               │ done            │ left, or failed
               ▼                 ▼
         turn 2 reads        the lane breaks: all behind ask again elsewhere

A connection proves itself: only one that has answered twice is asked ahead. A peer that closes after each answer (the
reference does) never gets that far, and must not: a socket closed over an unread request is reset, and takes the end
of the answer before it along. Until enough connections are proven, each request has its own.

A turn that is left while its answer is due breaks the lane as soon as that answer is next: nobody reads a stranger's
answer, and those before it are not disturbed. A lane that is readable while nobody has asked is dead or lying, and
dropped; so is one that was idle for long, since our servers end those.

One lock guards all tables; under it nothing waits, sends of 74 bytes included.
"""

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from threading import Condition, Lock
from types import TracebackType
from typing import Final, Self

from dragonfly.core.model.units import Seconds
from dragonfly.dfdaemon.pieces.channel import Channel
from dragonfly.dfdaemon.pieces.socket import Address

MAX_IDLE: Final = 256  # over all parents
MAX_AGE: Final[Seconds] = 45.0  # our servers close after 60 s without a request
PROVEN: Final = 2  # answers
MAX_QUEUE: Final = 8  # on one lane: more gain nothing, and lose more when it breaks


class LaneBroken(Exception):
    """The connection ended before it was this turn's: to be asked again on another one."""


class Lane:
    """One connection. Its fields belong to Lanes, under its lock; the channel's reading side to the first turn."""

    __slots__ = ("address", "answered", "channel", "idle_since", "is_broken", "is_spoiled", "turns")

    def __init__(self, address: Address, channel: Channel) -> None:
        self.address = address
        self.channel = channel
        self.turns: deque[Turn] = deque()
        self.answered = 0
        self.idle_since: Seconds = 0.0
        self.is_spoiled = False  # takes no more requests; the turns that stand may yet have their answers
        self.is_broken = False


class Turn:
    """One request that was sent. A context manager: left before `done`, it takes its lane out of use."""

    def __init__(self, lanes: "Lanes", lane: Lane, came: Condition) -> None:
        self._lanes = lanes
        self._lane = lane
        self.channel = lane.channel
        self.came = came  # it is the lane's first, or the lane broke
        self.is_first_of_lane = lane.answered == 0
        self.is_left = False

    def wait(self, timeout: Seconds) -> bool:
        """Whether the answer is next to be read, within `timeout`. Raises LaneBroken."""
        return self._lanes.wait(self._lane, self, timeout)

    def done(self) -> None:
        """The answer was read whole: the next may read."""
        if not self.is_left:
            self.is_left = True
            self._lanes.done(self._lane, self)

    def leave(self) -> None:
        """The answer will not be read; nothing after `done`."""
        if not self.is_left:
            self.is_left = True
            self._lanes.leave(self._lane, self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()


class Lanes:
    """All lanes by address. Thread-safe. `connect` may block and raises for itself."""

    def __init__(
        self,
        connect: Callable[[Address], Channel],
        *,
        max_per_address: int,
        clock: Callable[[], Seconds] = time.monotonic,
    ) -> None:
        self._connect = connect
        self._max_per_address = max_per_address
        self._clock = clock
        self._lock = Lock()
        self._lanes: dict[Address, list[Lane]] = {}
        self._idle: dict[Lane, None] = {}  # longest idle first
        self._closed = False

    def ask(self, address: Address, request: bytes, *, afresh: bool = False) -> Turn:
        """Send the request, on a lane that stands or, `afresh` or for want of one, on a new one. Raises OSError."""
        if not afresh:
            with self._lock:
                lane = self._choose(address)
                if lane is not None:
                    with suppress(OSError):  # broken: a new one tells why
                        return self._join(lane, request)
        lane = Lane(address, self._connect(address))
        with self._lock:
            self._lanes.setdefault(address, []).append(lane)
            return self._join(lane, request)

    def close(self) -> None:
        """Drop the idle lanes, and the others as soon as they are."""
        with self._lock:
            self._closed = True
            for lane in list(self._idle):
                self._break(lane)

    # --- for turns

    def wait(self, lane: Lane, turn: Turn, timeout: Seconds) -> bool:
        """Whether the turn is the lane's first, within `timeout`. Raises LaneBroken."""
        with self._lock:
            turn.came.wait_for(lambda: lane.is_broken or lane.turns[0] is turn, timeout)
            if lane.is_broken:
                raise LaneBroken
            return lane.turns[0] is turn

    def done(self, lane: Lane, turn: Turn) -> None:
        """The first turn has its answer."""
        with self._lock:
            assert lane.turns[0] is turn
            lane.turns.popleft()
            lane.answered += 1
            if not lane.turns and not lane.is_spoiled:
                self._rest(lane)
            elif not lane.turns or lane.turns[0].is_left:
                self._break(lane)
            else:
                lane.turns[0].came.notify()

    def leave(self, lane: Lane, turn: Turn) -> None:
        """A turn gives up: at once if it is the first, else when it would be."""
        with self._lock:
            if not lane.is_broken and lane.turns[0] is turn:
                self._break(lane)

    # --- the lock is held by the caller

    def _choose(self, address: Address) -> Lane | None:
        """The freshest idle lane, else a proven one with few before us; None where a new one is better."""
        lanes = self._lanes.get(address, [])
        idle = [lane for lane in lanes if not lane.turns]
        for lane in sorted(idle, key=lambda lane: lane.idle_since, reverse=True):
            del self._idle[lane]
            if self._clock() - lane.idle_since < MAX_AGE and _is_quiet(lane.channel):
                return lane
            self._break(lane)
        if len(lanes) < self._max_per_address:
            return None
        ready = [lane for lane in lanes if _is_proven(lane) and len(lane.turns) < MAX_QUEUE]
        return min(ready, key=lambda lane: len(lane.turns), default=None)

    def _join(self, lane: Lane, request: bytes) -> Turn:
        try:
            lane.channel.send_now(request)
        except OSError:
            lane.is_spoiled = True
            if not lane.turns:  # else one reads from it just now
                self._break(lane)
            raise
        turn = Turn(self, lane, Condition(self._lock))
        lane.turns.append(turn)
        return turn

    def _rest(self, lane: Lane) -> None:
        """Keep an idle lane, if it is quiet and not one too many."""
        standing = self._lanes[lane.address]
        too_many = sum(map(_is_proven, standing)) > self._max_per_address
        if self._closed or too_many or not _is_quiet(lane.channel):
            self._break(lane)
            return
        lane.idle_since = self._clock()
        self._idle[lane] = None
        while (oldest := next(iter(self._idle))) and (
            len(self._idle) > MAX_IDLE or lane.idle_since - oldest.idle_since >= MAX_AGE
        ):
            self._break(oldest)

    def _break(self, lane: Lane) -> None:
        lane.is_broken = True
        self._idle.pop(lane, None)
        standing = self._lanes[lane.address]
        standing.remove(lane)
        if not standing:
            del self._lanes[lane.address]
        with suppress(OSError):
            lane.channel.close()
        for turn in lane.turns:
            turn.came.notify()


def _is_proven(lane: Lane) -> bool:
    return lane.answered >= PROVEN and not lane.is_spoiled


def _is_quiet(channel: Channel) -> bool:
    """Whether it is open and nothing has arrived on it: an end, or bytes nobody asked for, spoil it."""
    try:
        return channel.take(1) is None
    except OSError:
        return False
