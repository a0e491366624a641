"""Which piece next, of those some parent has: the rarest first, ties by chance.

Rarest first keeps the swarm's copies apart, so that peers have something to give to each other; the random tie keeps
peers that see the same counts from all asking for the same piece at once.
"""

import random
from collections.abc import Container, Iterable

from dragonfly.core.model.ids import PeerId
from dragonfly.core.model.piece import PieceNumber, PieceSet


class PieceQueue:
    """The pieces a download still has to ask for, and which parents hold each."""

    def __init__(self, wanted: PieceSet, rng: random.Random) -> None:
        self.waiting = wanted
        self._holders: dict[PieceNumber, set[PeerId]] = {}
        self._told: PieceSet | None = None  # None: nothing was promised
        self._short = PieceSet()  # not to be asked for before the length is known: they would be cut wrongly
        self._rng = rng

    def hold_back(self) -> None:
        """From now on give out only pieces that were told of, unless that began earlier."""
        if self._told is None:
            self._told = PieceSet()

    def tell(self, numbers: Iterable[PieceNumber]) -> None:
        """These may be given out."""
        if self._told is not None:
            for number in numbers:
                self._told.add(number)

    def hold_nothing_back(self) -> None:
        """Nobody will tell of pieces any more."""
        self._told = None

    def is_held_back(self, number: PieceNumber) -> bool:
        """Whether something has to be told before the piece may be asked for: its root, or where the file ends."""
        return number in self._short or (self._told is not None and number not in self._told)

    @property
    def holds_back(self) -> bool:
        """Whether a waiting piece that some parent has is held back."""
        return any(
            holders and number in self.waiting and self.is_held_back(number)
            for number, holders in self._holders.items()
        )

    def cut(self, piece_count: int) -> None:
        """The file ends after so many pieces."""
        self._short = PieceSet()
        self.waiting = self.waiting & PieceSet.full(piece_count)
        self._holders = {number: holders for number, holders in self._holders.items() if number < piece_count}

    def announce(self, number: PieceNumber, parent_id: PeerId, *, is_short: bool = False) -> None:
        """`parent_id` has `number` from now on. A short one waits for `cut`, or for somebody who has it whole."""
        if is_short and not self._holders.get(number):
            self._short.add(number)
        elif not is_short:
            self._short.discard(number)
        self._holders.setdefault(number, set()).add(parent_id)

    def forget_parent(self, parent_id: PeerId) -> None:
        """`parent_id` can give nothing any more."""
        for holders in self._holders.values():
            holders.discard(parent_id)

    def forget(self, number: PieceNumber, parent_id: PeerId) -> None:
        """`parent_id` does not have `number` after all."""
        self._holders.get(number, set()).discard(parent_id)

    def take(self, number: PieceNumber) -> None:
        """`number` was asked for, or came some other way."""
        self.waiting.discard(number)

    def give_back(self, number: PieceNumber) -> None:
        """The attempt at `number` failed; it waits again."""
        self.waiting.add(number)

    def done(self, number: PieceNumber) -> None:
        """`number` is here; who else has it no longer matters."""
        self.waiting.discard(number)
        self._holders.pop(number, None)

    def holders(self, number: PieceNumber) -> frozenset[PeerId]:
        return frozenset(self._holders.get(number, ()))

    def is_useful(self, parent_id: PeerId) -> bool:
        """Whether the parent holds a piece that still waits."""
        return any(parent_id in holders and number in self.waiting for number, holders in self._holders.items())

    def rarest(self, free_parents: Container[PeerId]) -> PieceNumber | None:
        """A waiting piece that a free parent holds, among those with the fewest holders; None if there is none.

        Costs one pass over the announced pieces, tens of microseconds for a thousand.
        """
        best: list[PieceNumber] = []
        fewest = 0
        for number, holders in self._holders.items():
            if (
                number not in self.waiting
                or self.is_held_back(number)
                or not any(holder in free_parents for holder in holders)
            ):
                continue
            if not best or len(holders) < fewest:
                best, fewest = [number], len(holders)
            elif len(holders) == fewest:
                best.append(number)
        return self._rng.choice(best) if best else None
