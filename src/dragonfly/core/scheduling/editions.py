"""One generation of a task's content: how it is cut, and what its pieces hash to.

The roots are the word of those peers that the scheduler itself sent to the origin (witness.py says whose word counts).
The first root of a piece stands. An empty one says that nobody will ever tell a better one: such a piece is taken by
its checksum. Roots are kept once for the generation, in the order they became known; of a listener, a peer that was
promised to be told of them all, only how many of them it was told is remembered.
"""

from array import array
from collections.abc import Iterable

from dragonfly.core.model.ids import PeerId
from dragonfly.core.model.piece import PieceGeometry
from dragonfly.core.model.units import Bytes, Seconds

ROOTS_PER_MESSAGE = 4096  # about 150 KiB
MAX_CONCEDED = 1 << 17
"""No more roots are made up for pieces nobody told of, and none are promised where a file has more pieces: a stranger
may claim a length that costs nothing to claim. 2^17 pieces of 4 MiB are 512 GiB."""

Roots = tuple[tuple[int, bytes], ...]


class Edition:
    """`members` counts its peers; `listeners` has how many roots each was told.

    `settled_length` is a length the origin did not tell, from a witness that read to the end. `told_at` is when news
    went out last, `is_due` whether a reminder is set for the next.
    """

    __slots__ = (
        *("_is_whole", "_order", "_recent", "_roots"),
        *("generation", "geometry", "is_due", "listeners", "members", "settled_length", "told_at"),
    )

    def __init__(self, generation: str) -> None:
        self.generation = generation
        self.geometry: PieceGeometry | None = None
        self.settled_length: Bytes | None = None
        self.members = 0
        self.is_due = self._is_whole = False
        self.told_at: Seconds = float("-inf")
        self.listeners: dict[PeerId, int] = {}
        self._roots: dict[int, bytes] = {}
        self._order = array("I")
        self._recent: tuple[int, int, list[Roots]] = (0, 0, [])  # the latest answer of `since`, with what it is for

    def __len__(self) -> int:
        return len(self._order)

    def differs_from(self, other: "Edition") -> bool:
        """Whether the two are known to be different content; a peer that names no generation may have any."""
        if self is other or not self.generation or not other.generation:
            return False
        return self.generation != other.generation

    @property
    def is_whole(self) -> bool:
        """Whether every piece of it is known, as far as anybody can say who has them all."""
        geometry = self.geometry
        if not self._is_whole and geometry is not None and len(self._order) >= geometry.piece_count:
            self._is_whole = all(number in self._roots for number in range(geometry.piece_count))
        return self._is_whole

    def root(self, number: int) -> bytes | None:
        """The root of a piece, empty where none will come; None while the piece is not known."""
        return self._roots.get(number)

    def learn(self, number: int, root: bytes) -> bool:
        """Take in a piece and its root; False, and no change, where the piece is known already."""
        if number in self._roots:
            return False
        self._roots[number] = root
        self._order.append(number)
        return True

    def concede(self, numbers: Iterable[int], *, are_all: bool = False) -> bool:
        """These pieces are there and nobody will tell their roots; whether any of them was unknown.

        `are_all`: there are no more than these and those known.
        """
        self._is_whole |= are_all
        before = len(self._order)
        for number in numbers:
            self.learn(number, b"")
        return len(self._order) > before

    def knows(self, numbers: Iterable[int]) -> bool:
        return all(number in self._roots for number in numbers)

    def since(self, count: int) -> list[Roots]:
        """What became known after the first `count` roots, in portions for one message each; made once for many."""
        start, end, portions = self._recent
        if (start, end) != (count, len(self._order)) or not portions:
            roots, order = self._roots, self._order
            starts = range(count, len(order), ROOTS_PER_MESSAGE)
            portions = [tuple((n, roots[n]) for n in order[at : at + ROOTS_PER_MESSAGE]) for at in starts]
            self._recent = count, len(order), portions
        return portions
