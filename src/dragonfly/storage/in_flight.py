"""A piece on its way in: who writes it, who follows it, and how far it may be read.

                     claimed                     committed
    awaited ───────────────────► being written ───────────► kept
       ▲                              │ given up
       └──────────────────────────────┘   (with nobody following it is forgotten; with the task it is gone)

The watermark counts the bytes from the piece's start that are certain. While somebody follows the piece it never falls,
not even when another writer begins anew: what was told to a follower was true, so the next writer has to bring the same
bytes, and they are compared instead of written. With nobody following a new writer begins at nothing.

Each piece has a condition of its own, so that a piece wakes those who wait for it and nobody else. The store's lock may
be held while this one is taken, never the other way round.
"""

from threading import Condition, Lock
from time import monotonic
from typing import Final

from dragonfly.core.model.piece import PieceNumber
from dragonfly.core.model.units import Bytes, Seconds
from dragonfly.errors import PieceNotFound

TAKEOVER_TIMEOUT: Final[Seconds] = 2.0  # a download that lost a parent asks the next one within milliseconds


class InFlight:
    """One piece between its first claim, or its first follower, and its commit. Thread-safe."""

    __slots__ = (
        "_changed",
        "_digest",
        "_followers",
        "_given_up_at",
        "_has_writer",
        "_is_gone",
        "_is_kept",
        "_length",
        "_watermark",
        "_wire_id",
        "number",
    )

    def __init__(self, wire_id: str, number: PieceNumber, length: Bytes) -> None:
        self.number = number
        self._wire_id = wire_id
        self._length = length
        self._changed = Condition(Lock())
        self._digest = ""
        self._watermark: Bytes = 0
        self._followers = 0
        self._has_writer = self._is_kept = self._is_gone = False
        self._given_up_at: Seconds | None = None  # since then a writer is missing that there was

    @classmethod
    def kept(cls, wire_id: str, number: PieceNumber, length: Bytes, digest: str) -> "InFlight":
        """A piece that is here already, for whoever follows it."""
        made = cls(wire_id, number, length)
        made.keep(digest)
        return made

    # --- facts; each may be old the moment it is read, unless the store's lock is held

    @property
    def length(self) -> Bytes:
        return self._length

    @property
    def digest(self) -> str:
        return self._digest

    @property
    def has_writer(self) -> bool:
        return self._has_writer

    @property
    def is_idle(self) -> bool:
        """Whether nobody writes it and nobody follows it."""
        return not self._has_writer and self._followers == 0

    # --- the writer's side

    def take(self) -> None:
        """There is a writer now."""
        with self._changed:
            self._has_writer, self._given_up_at = True, None
            self._changed.notify_all()

    def begin(self, digest: str) -> Bytes:
        """The writer starts at the piece's first byte; how many bytes it must not overwrite but match."""
        with self._changed:
            if self._followers == 0:
                self._watermark = 0
            self._digest = digest or self._digest
            return self._watermark

    def advance(self, watermark: Bytes) -> None:
        """So much is certain."""
        with self._changed:
            if watermark > self._watermark:
                self._watermark = min(watermark, self._length)
                self._changed.notify_all()

    def shorten(self, length: Bytes) -> None:
        """The task ends within this piece, or before it (0)."""
        with self._changed:
            self._length = length
            self._watermark = min(self._watermark, length)
            self._is_gone |= length == 0
            self._changed.notify_all()

    def keep(self, digest: str) -> None:
        """It is committed."""
        with self._changed:
            self._digest, self._watermark = digest, self._length
            self._is_kept, self._has_writer = True, False
            self._changed.notify_all()

    def give_up(self) -> None:
        """The writer left without a commit."""
        with self._changed:
            if not self._is_kept:
                self._has_writer, self._given_up_at = False, monotonic()
                self._changed.notify_all()

    def leave_task(self) -> None:
        """The task was deleted; nothing of it comes any more."""
        with self._changed:
            self._is_gone = True
            self._changed.notify_all()

    # --- the readers' side

    def follow(self) -> None:
        """One more follower."""
        with self._changed:
            self._followers += 1

    def unfollow(self) -> None:
        """One less."""
        with self._changed:
            self._followers -= 1

    def wait_for_writer(self, timeout: Seconds) -> bool:
        """Whether it is being written, or was kept, within the timeout."""
        with self._changed:
            self._changed.wait_for(lambda: self._has_writer or self._is_kept or self._is_gone, timeout)
            return (self._has_writer or self._is_kept) and not self._is_gone

    def wait_for_end(self, timeout: Seconds) -> None:
        """Until it is kept or given up, at most for the timeout."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_kept or self._is_gone or not self._has_writer, timeout)

    def wait_beyond(self, count: Bytes, timeout: Seconds) -> Bytes:
        """The watermark, once it is above `count`, the piece is kept or the timeout is over.

        Raises PieceNotFound where the task is gone, or no writer came within TAKEOVER_TIMEOUT of the last one's end.
        """
        until = monotonic() + timeout
        with self._changed:
            while True:
                if self._watermark > count or self._is_kept:
                    return self._watermark
                now = monotonic()
                lost_at = self._lost_at(until)
                if self._is_gone or (lost_at is not None and now >= lost_at):
                    raise PieceNotFound(number=self.number, task_id=self._wire_id)
                if now >= until:
                    return self._watermark
                self._changed.wait((until if lost_at is None else lost_at) - now)

    def _lost_at(self, until: Seconds) -> Seconds | None:
        """When a follower who waits that long gives up on another writer; None while there is one."""
        if self._has_writer:
            return None
        return min(until, (until if self._given_up_at is None else self._given_up_at) + TAKEOVER_TIMEOUT)
