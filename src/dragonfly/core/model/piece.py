"""Pieces: how a file is cut, and sets of pieces.

Every process that knows a content length and a piece length knows every piece: nothing here is ever sent.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import NewType

from dragonfly.core.model.ranges import ByteRange
from dragonfly.core.model.units import Bytes, KiB, MiB
from dragonfly.errors import InvalidContentLength, InvalidPieceLength

PieceNumber = NewType("PieceNumber", int)

MIN_PIECE_LENGTH: Bytes = 4 * MiB
MAX_PIECE_LENGTH: Bytes = 64 * MiB
PIECE_COUNT_GOAL = 500
MAX_REQUESTED_PIECE_LENGTH: Bytes = 1024 * MiB  # what one message of the piece protocol may carry
MAX_PIECE_COUNT = 1 << 22
"""No task has more: 256 TiB in pieces of 64 MiB. A set of so many takes 512 KiB, whatever a stranger sends."""

LEAF_LENGTH: Bytes = 256 * KiB
"""Pieces are hashed by BLAKE3 in leaves of this length, the last one maybe shorter."""
ROOT_LENGTH = 32
"""Bytes of a leaf's hash, and of a piece's root: the hash of its leaves' hashes, one after the other."""


class TrafficType(IntEnum):
    """Where a piece came from. The numbers are the wire's."""

    BACK_TO_SOURCE = 0
    REMOTE_PEER = 1
    LOCAL_PEER = 2


def piece_length(content_length: Bytes) -> Bytes:
    """Length of every piece but the last, in [4 MiB, 64 MiB], a power of two.

    Aims at no more than 500 pieces; above 31.25 GiB the cap wins and the count grows.
    Source: Dragonfly client 1.5.1, resource/piece.rs. Raises InvalidContentLength if negative; 0 yields the minimum.
    """
    if content_length < 0:
        raise InvalidContentLength(length=content_length)
    wanted = max(content_length // PIECE_COUNT_GOAL, 1)
    power = 1 << (wanted - 1).bit_length()
    return min(max(power, MIN_PIECE_LENGTH), MAX_PIECE_LENGTH)


def check_requested_piece_length(length: Bytes) -> Bytes:
    """The length a caller asked for; raises InvalidPieceLength below 4 MiB or above 1 GiB."""
    if not MIN_PIECE_LENGTH <= length <= MAX_REQUESTED_PIECE_LENGTH:
        raise InvalidPieceLength(length=length, minimum=MIN_PIECE_LENGTH, maximum=MAX_REQUESTED_PIECE_LENGTH)
    return length


@dataclass(frozen=True, slots=True)
class PieceGeometry:
    """How one task is cut: `content_length` bytes into pieces of `piece_length`, the last one maybe shorter.

    `is_open`: the origin did not tell the length; `content_length` is then as much as a task can have.
    Raises InvalidContentLength for a negative length, InvalidPieceLength where that makes more than MAX_PIECE_COUNT.
    """

    content_length: Bytes
    piece_length: Bytes
    is_open: bool = False

    def __post_init__(self) -> None:
        if self.content_length < 0:
            raise InvalidContentLength(length=self.content_length)
        minimum = max(-(-self.content_length // MAX_PIECE_COUNT), 1)
        if self.piece_length < minimum:
            raise InvalidPieceLength(length=self.piece_length, minimum=minimum, maximum=MAX_REQUESTED_PIECE_LENGTH)

    @classmethod
    def of(cls, content_length: Bytes, requested_piece_length: Bytes | None = None) -> "PieceGeometry":
        """The geometry every peer computes for this length, unless the caller asked for a piece length."""
        return cls(content_length, requested_piece_length or piece_length(content_length))

    @classmethod
    def open(cls, requested_piece_length: Bytes | None = None) -> "PieceGeometry":
        """The geometry of a file whose length nobody knows yet."""
        length = requested_piece_length or MIN_PIECE_LENGTH
        return cls(length * MAX_PIECE_COUNT, length, is_open=True)

    def closed(self, content_length: Bytes) -> "PieceGeometry":
        """The same cut, now that the length is known."""
        return PieceGeometry(content_length, self.piece_length)

    @property
    def piece_count(self) -> int:
        """Number of pieces; 0 for an empty file, MAX_PIECE_COUNT while the length is open."""
        return -(-self.content_length // self.piece_length)

    def span(self, number: PieceNumber) -> ByteRange:
        """The bytes of one piece. Raises IndexError for a number the task does not have."""
        if not 0 <= number < self.piece_count:
            raise IndexError(f"piece {number} of {self.piece_count}")
        start = number * self.piece_length
        return ByteRange(start, min(self.piece_length, self.content_length - start))

    def numbers(self) -> Iterator[PieceNumber]:
        """Every piece number, in order."""
        return map(PieceNumber, range(self.piece_count))

    def length_of(self, pieces: "PieceSet") -> Bytes:
        """Bytes in these pieces together; a number the task does not have counts nothing."""
        count = len(pieces & PieceSet.full(self.piece_count))
        last = PieceNumber(self.piece_count - 1)
        missing = self.piece_length - self.span(last).length if last in pieces else 0
        return count * self.piece_length - missing

    def pieces_in(self, span: ByteRange) -> Iterator[PieceNumber]:
        """Numbers of the pieces that hold a byte of `span`, in order; none for a span behind the end."""
        end = min(span.end, self.content_length)
        if span.start >= end:
            return iter(())
        return map(PieceNumber, range(span.start // self.piece_length, (end - 1) // self.piece_length + 1))


class PieceSet:
    """A mutable set of piece numbers in one integer: 128 bytes for a thousand pieces, counted by the machine.

    A number outside 0 to MAX_PIECE_COUNT - 1 is never in it; adding one raises IndexError.
    """

    __slots__ = ("_bits",)

    def __init__(self, numbers: Iterable[int] = ()) -> None:
        self._bits = 0
        for number in numbers:
            self.add(number)

    @classmethod
    def full(cls, count: int) -> "PieceSet":
        """All of the first `count` pieces."""
        if not 0 <= count <= MAX_PIECE_COUNT:
            raise IndexError(f"{count} pieces")
        made = cls()
        made._bits = (1 << count) - 1
        return made

    @classmethod
    def of(cls, geometry: PieceGeometry, span: ByteRange | None = None) -> "PieceSet":
        """The pieces that hold a byte of `span`; all of them without one."""
        return cls.full(geometry.piece_count) if span is None else cls(geometry.pieces_in(span))

    def add(self, number: int) -> None:
        if not 0 <= number < MAX_PIECE_COUNT:
            raise IndexError(f"piece {number}")
        self._bits |= 1 << number

    def discard(self, number: int) -> None:
        if number in self:
            self._bits ^= 1 << number

    def __contains__(self, number: int) -> bool:
        return number >= 0 and bool(self._bits >> number & 1)

    def __len__(self) -> int:
        return self._bits.bit_count()

    def __bool__(self) -> bool:
        return self._bits != 0

    def __iter__(self) -> Iterator[PieceNumber]:
        bits = self._bits
        while bits:
            lowest = bits & -bits
            yield PieceNumber(lowest.bit_length() - 1)
            bits ^= lowest

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PieceSet) and self._bits == other._bits

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __sub__(self, other: "PieceSet") -> "PieceSet":
        made = PieceSet()
        made._bits = self._bits & ~other._bits
        return made

    def __and__(self, other: "PieceSet") -> "PieceSet":
        made = PieceSet()
        made._bits = self._bits & other._bits
        return made

    def __or__(self, other: "PieceSet") -> "PieceSet":
        made = PieceSet()
        made._bits = self._bits | other._bits
        return made

    def __repr__(self) -> str:
        return f"PieceSet({list(self)})"


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece that was fetched: where it lies, its digest (`crc32:<decimal>`), who gave it and how long that took.

    `parent_id` is None where it came from the origin or from this disk; `cost` is in seconds. `leaves` are the hashes
    of its leaves and `root` the hash of those; both empty where they were not computed.
    """

    number: PieceNumber
    offset: Bytes
    length: Bytes
    digest: str
    parent_id: str | None = None
    cost: float = 0.0
    root: bytes = b""
    leaves: bytes = b""
