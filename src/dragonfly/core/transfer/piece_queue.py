"""Which piece next, of those some parent has: the rarest first, ties by chance.

Rarest first keeps the swarm's copies apart, so that peers have something to give to each other; the random tie keeps
peers that see the same counts from all asking for the same piece at once.
"""

import random
from collections.abc import Container

from dragonfly.core.model.ids import PeerId
from dragonfly.core.model.piece import PieceNumber, PieceSet


class PieceQueue:
    """The pieces a download still has to ask for, and which parents hold each."""

    def __init__(self, wanted: PieceSet, rng: random.Random) -> None:
        self.waiting = wanted
        self._holders: dict[PieceNumber, set[PeerId]] = {}
        self._rng = rng

    def announce(self, number: PieceNumber, parent_id: PeerId) -> None:
        """`parent_id` has `number` from now on."""
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
            if number not in self.waiting or not any(holder in free_parents for holder in holders):
                continue
            if not best or len(holders) < fewest:
                best, fewest = [number], len(holders)
            elif len(holders) == fewest:
                best.append(number)
        return self._rng.choice(best) if best else None
