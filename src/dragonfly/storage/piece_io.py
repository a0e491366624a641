"""A piece being written, read, or followed: descriptors and offsets, no tables. The store lends the descriptors."""

import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from dragonfly.core.model.digest import Digest
from dragonfly.core.model.piece import ROOT_LENGTH, Piece, PieceNumber
from dragonfly.core.model.units import Bytes, Seconds
from dragonfly.errors import InvalidDigest, PieceDigestMismatch, PieceLengthMismatch
from dragonfly.storage.checksum import crc32
from dragonfly.storage.in_flight import InFlight
from dragonfly.storage.leaves import LeafHasher, leaf_count, root_of
from dragonfly.storage.os_errors import storage_error


class _Lent:
    """Something of the store's, given back once, when the context is left."""

    def __init__(self, give_back: Callable[[], None]) -> None:
        self._give_back: Callable[[], None] | None = give_back

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        give_back, self._give_back = self._give_back, None
        if give_back is not None:
            give_back()


class FilePieceWriter(_Lent):
    """Writes one piece at its own offset, with a running CRC-32 and leaf by leaf. For one thread at a time.

    `keep` takes the piece into the store's tables, `leave` gives the claim back.
    """

    def __init__(
        self,
        fd: int,
        flight: InFlight,
        offset: Bytes,
        *,
        path: Path,
        hashes_leaves: bool,
        keep: Callable[[Piece], None],
        leave: Callable[[], None],
    ) -> None:
        super().__init__(leave)
        self.number = flight.number
        self.offset: Bytes = offset
        self._fd = fd
        self._flight = flight
        self._path = path
        self._hashes_leaves = hashes_leaves
        self._keep = keep
        self._is_committed = False
        self.restart()

    @property
    def length(self) -> Bytes:
        """Of the whole piece, as far as it is known."""
        return self._flight.length

    @property
    def remaining(self) -> Bytes:
        """Bytes not written yet."""
        return max(self.length - self._written, 0)

    def restart(self, *, leaves: bytes = b"", digest: str = "", is_certain: bool = False) -> None:
        """Take the piece from its start, from somebody (else)."""
        self._check_claim()
        if leaves and len(leaves) != leaf_count(self.length) * ROOT_LENGTH:
            got, expected = f"{len(leaves)} bytes of leaves", f"{leaf_count(self.length)} leaves"
            raise PieceDigestMismatch(number=self.number, got=got, expected=expected)
        self._hasher = LeafHasher(self.number, leaves) if leaves or self._hashes_leaves else None
        self._proves_leaves, self._is_certain = bool(leaves), is_certain
        self._must_match = self._flight.begin(digest)
        self._written: Bytes = 0
        self._crc = 0
        self._is_spoilt = False

    def write(self, view: memoryview) -> None:
        """Append. Raises PieceLengthMismatch beyond the piece's end, PieceDigestMismatch, DiskFull, StorageError."""
        self._check_claim()
        if self._is_spoilt:
            raise ValueError("a write failed; only a restart helps")
        if len(view) > self.remaining:
            raise PieceLengthMismatch(number=self.number, got=self._written + len(view), expected=self.length)
        self._is_spoilt = True
        self._crc = crc32(view, self._crc)
        if self._hasher is not None:
            self._hasher.update(view)
            if len(view) == self.remaining:
                self._hasher.end()
        try:
            self._put(view)
        except OSError as error:
            raise storage_error(error, self._path, needed=self.remaining) from error
        self._is_spoilt = False
        if self._is_certain:
            self._flight.advance(self._written)
        elif self._proves_leaves and self._hasher is not None:
            self._flight.advance(self._hasher.hashed)

    def commit(self, *, parent_id: str | None, cost: Seconds, expected_digest: str = "", root: bytes = b"") -> Piece:
        """Keep the piece. Raises PieceLengthMismatch if short, PieceDigestMismatch for another digest or root."""
        self._check_claim()
        if self.remaining or self._is_spoilt:
            raise PieceLengthMismatch(number=self.number, got=self._written, expected=self.length)
        digest = Digest.crc32(self._crc)
        if expected_digest and _parsed(expected_digest) != digest:
            raise PieceDigestMismatch(number=self.number, got=str(digest), expected=expected_digest)
        leaves, ours = self._hashed()
        if root and root != ours:
            got = f"blake3:{ours.hex()}" if ours else "no root"
            raise PieceDigestMismatch(number=self.number, got=got, expected=f"blake3:{root.hex()}")
        piece = Piece(self.number, self.offset, self.length, str(digest), parent_id, cost, ours, leaves)
        self._keep(piece)
        self._is_committed = True
        return piece

    def _check_claim(self) -> None:
        if self._give_back is None or self._is_committed:
            raise ValueError("the claim was given back")

    def _put(self, view: memoryview) -> None:
        """Write where nobody may read yet; what followers may have read already is compared. Raises OSError."""
        if self._written < self._must_match:
            old = view[: self._must_match - self._written]
            view = view[len(old) :]
            there = os.pread(self._fd, len(old), self.offset + self._written)
            if there != old:
                raise PieceDigestMismatch(number=self.number, got="other bytes", expected="those that came before")
            self._written += len(old)
        while view:
            count = os.pwrite(self._fd, view, self.offset + self._written)
            self._written += count
            view = view[count:]

    def _hashed(self) -> tuple[bytes, bytes]:
        """The leaves and the root; both empty where nothing was hashed."""
        if self._hasher is None:
            return b"", b""
        self._hasher.end()  # a piece that became shorter ends where its writer did not know
        return self._hasher.leaves, root_of(self._hasher.leaves)


class FilePieceReader(_Lent):
    """A finished piece, open for sendfile; its descriptor stays good until it is left, whatever happens to the task."""

    def __init__(self, fd: int, piece: Piece, leave: Callable[[], None]) -> None:
        super().__init__(leave)
        self.fd = fd
        self.position: Bytes = piece.offset
        self.piece = piece


class FilePieceFollower(_Lent):
    """A piece open for sendfile below its watermark; the descriptor stays good until it is left."""

    def __init__(self, fd: int, flight: InFlight, offset: Bytes, leave: Callable[[], None]) -> None:
        super().__init__(leave)
        self.fd = fd
        self.position: Bytes = offset
        self.number: PieceNumber = flight.number
        self._flight = flight

    @property
    def length(self) -> Bytes:
        """Of the whole piece, as far as it is known."""
        return self._flight.length

    @property
    def digest(self) -> str:
        """Of the whole piece; "" where nobody has said so yet."""
        return self._flight.digest

    def wait_beyond(self, count: Bytes, timeout: Seconds) -> Bytes:
        """How many bytes may be read: more than `count`, or what there is at the timeout. Raises PieceNotFound."""
        return self._flight.wait_beyond(count, timeout)


def _parsed(text: str) -> Digest | None:
    """None for what is no digest; only CRC-32 is computed here, so another algorithm never matches."""
    try:
        return Digest.parse(text)
    except (InvalidDigest, ValueError):  # ValueError: a number of thousands of digits
        return None
