"""The leaves of a piece as its bytes pass: one BLAKE3 hash for each LEAF_LENGTH of them, the last leaf maybe shorter.

Whole leaves are hashed where they lie, in one call that lets other threads run; only a leaf that comes in parts costs
a hasher of its own.
"""

import os

from blake3 import blake3

from dragonfly.core.model.piece import LEAF_LENGTH, ROOT_LENGTH, Piece, PieceNumber
from dragonfly.core.model.units import Bytes
from dragonfly.errors import PieceDigestMismatch


def leaf_count(length: Bytes) -> int:
    """How many leaves a piece of this length has."""
    return -(-length // LEAF_LENGTH)


def root_of(leaves: bytes) -> bytes:
    """The root of a piece with these leaf hashes."""
    return bytes(blake3(leaves).digest())


def has_root(fd: int, piece: Piece) -> bool:
    """Whether the piece's bytes have its root; True where none is recorded. Raises OSError."""
    if not piece.root:
        return True
    hasher, end = LeafHasher(piece.number), piece.offset + piece.length
    for offset in range(piece.offset, end, LEAF_LENGTH):
        hasher.update(memoryview(os.pread(fd, min(LEAF_LENGTH, end - offset), offset)))
    hasher.end()
    return root_of(hasher.leaves) == piece.root


class LeafHasher:
    """Hashes one piece from its start. With `expected` hashes each leaf is compared as soon as it is full."""

    def __init__(self, number: PieceNumber, expected: bytes = b"") -> None:
        self._number = number
        self._expected = expected
        self._hashes = bytearray()
        self._partial = blake3()
        self._filled: Bytes = 0  # bytes of the leaf that comes in parts

    @property
    def leaves(self) -> bytes:
        """The hashes of the leaves that are full."""
        return bytes(self._hashes)

    @property
    def hashed(self) -> Bytes:
        """Bytes from the piece's start in full leaves; more than the piece has where its last leaf is short."""
        return len(self._hashes) // ROOT_LENGTH * LEAF_LENGTH

    def update(self, view: memoryview) -> None:
        """Take the next bytes. Raises PieceDigestMismatch at a wrong leaf."""
        while view:
            part = view[: LEAF_LENGTH - self._filled]
            view = view[len(part) :]
            if len(part) == LEAF_LENGTH:
                self._add(blake3(part).digest())
                continue
            self._partial.update(part)
            self._filled += len(part)
            if self._filled == LEAF_LENGTH:
                self.end()

    def end(self) -> None:
        """The piece ends here: what came of a leaf is its last one. Raises PieceDigestMismatch."""
        if self._filled:
            digest = self._partial.digest()
            self._partial, self._filled = blake3(), 0
            self._add(digest)

    def _add(self, digest: bytes) -> None:
        at = len(self._hashes)
        expected = self._expected[at : at + ROOT_LENGTH]
        if self._expected and digest != expected:
            got, wanted = f"blake3:{digest.hex()}", f"blake3:{expected.hex()} for leaf {at // ROOT_LENGTH}"
            raise PieceDigestMismatch(number=self._number, got=got, expected=wanted)
        self._hashes += digest
