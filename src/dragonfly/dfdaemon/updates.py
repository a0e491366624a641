"""What happened in a flight, for all who watch it: a list that only grows, which each reads at its own pace."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from dragonfly.core.model.piece import Piece
from dragonfly.core.model.units import Bytes
from dragonfly.errors import DragonflyError


@dataclass(frozen=True, slots=True)
class PieceArrived:
    """A piece is here. `is_local`: it was here before the flight began."""

    piece: Piece
    is_local: bool = False


@dataclass(frozen=True, slots=True)
class Noticed:
    """Something the user should know."""

    notice: str


@dataclass(frozen=True, slots=True)
class LengthKnown:
    """The length of a file whose origin did not tell it."""

    content_length: Bytes
    piece_count: int


Update = PieceArrived | Noticed | LengthKnown


class Updates:
    """One flight's; it alone calls `publish` and `end`. For the event loop."""

    def __init__(self) -> None:
        self.is_over = False
        self._error: DragonflyError | None = None
        self._published: list[Update] = []
        self._news = asyncio.Event()

    def __iter__(self) -> Iterator[Update]:
        """Those so far."""
        return iter(self._published)

    def publish(self, update: Update) -> None:
        """Tell everyone who follows, now or later."""
        self._published.append(update)
        self._wake()

    def end(self, error: DragonflyError | None) -> None:
        """Nothing comes any more; `error` is why, where not all went well."""
        self.is_over, self._error = True, error
        self._wake()

    async def follow(self) -> AsyncIterator[Update]:
        """Every update from the first on, then the end. Raises the error it ended with."""
        position = 0
        while True:
            while position < len(self._published):
                yield self._published[position]
                position += 1
            if self.is_over:
                break
            await self._news.wait()
        if self._error is not None:
            raise self._error

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
