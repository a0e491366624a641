"""The finished pieces of one task, 49 bytes each: a terabyte in pieces of 64 MiB is 16384 of them."""

from collections.abc import Iterator
from struct import Struct
from typing import Final

from dragonfly.core.model.digest import Digest
from dragonfly.core.model.piece import Piece, PieceGeometry, PieceNumber, PieceSet

_ROW: Final = Struct("<dII?32s")  # cost, CRC-32, which parent, whether there is a root, the root
_ROWS: Final = 64  # in a block; a block is made when the first of its pieces comes


class PieceTable:
    """`have` says which pieces there are. The leaves of a piece are not kept here."""

    __slots__ = ("_blocks", "_parents", "have")

    def __init__(self) -> None:
        self.have = PieceSet()
        self._blocks: dict[int, bytearray] = {}
        self._parents: dict[str | None, int] = {}

    def put(self, piece: Piece) -> None:
        """Add a piece. Raises ValueError for one whose digest is no CRC-32."""
        digest = Digest.parse(piece.digest)
        if digest.algorithm != "crc32":
            raise ValueError(piece.digest)
        block, row = divmod(piece.number, _ROWS)
        parent = self._parents.setdefault(piece.parent_id, len(self._parents))
        rows = self._blocks.setdefault(block, bytearray(_ROW.size * _ROWS))
        _ROW.pack_into(rows, row * _ROW.size, piece.cost, int(digest.value), parent, bool(piece.root), piece.root)
        self.have.add(piece.number)

    def get(self, number: PieceNumber, geometry: PieceGeometry) -> Piece | None:
        """One piece; None where it is not here."""
        return next(self.some(PieceSet([number]), geometry), None) if number in self.have else None

    def some(self, wanted: PieceSet, geometry: PieceGeometry) -> Iterator[Piece]:
        """The wanted pieces that are here, by number. May run while others are put."""
        numbers = wanted & self.have
        parents = list(self._parents)  # looked at after the numbers: it holds the parents of all of them
        for number in numbers:
            block, row = divmod(number, _ROWS)
            cost, crc, parent, has_root, root = _ROW.unpack_from(self._blocks[block], row * _ROW.size)
            span = geometry.span(number)
            digest, root = str(Digest.crc32(crc)), root if has_root else b""
            yield Piece(number, span.start, span.length, digest, parents[parent], cost, root)
