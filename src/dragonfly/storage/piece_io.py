"""A piece being written and a piece being read: descriptors and offsets, no tables. The store lends the descriptors."""

import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from dragonfly.core.model.digest import Digest
from dragonfly.core.model.piece import Piece, PieceNumber
from dragonfly.core.model.ranges import ByteRange
from dragonfly.core.model.units import Bytes, Seconds
from dragonfly.errors import InvalidDigest, PieceDigestMismatch, PieceLengthMismatch
from dragonfly.storage.checksum import crc32
from dragonfly.storage.os_errors import storage_error


class DiskPieceWriter:
    """Writes one piece at its own offset, with a running CRC-32. For one thread at a time."""

    def __init__(
        self,
        fd: int,
        number: PieceNumber,
        span: ByteRange,
        *,
        path: Path,
        keep: Callable[[Piece], None],
        leave: Callable[[], None],
    ) -> None:
        self.number = number
        self.offset: Bytes = span.start
        self.length: Bytes = span.length
        self._fd = fd
        self._path = path
        self._keep = keep
        self._leave: Callable[[], None] | None = leave
        self.restart()

    @property
    def remaining(self) -> Bytes:
        """Bytes not written yet."""
        return self.length - self._written

    def restart(self) -> None:
        """Forget what was written, to take the piece from somebody else."""
        self._written: Bytes = 0
        self._crc = 0

    def write(self, view: memoryview) -> None:
        """Append. Raises PieceLengthMismatch beyond the piece's end, DiskFull, StorageError."""
        if self._leave is None:
            raise ValueError("the claim was given back")
        if len(view) > self.remaining:
            raise PieceLengthMismatch(number=self.number, got=self._written + len(view), expected=self.length)
        self._crc = crc32(view, self._crc)
        try:
            while view:
                count = os.pwrite(self._fd, view, self.offset + self._written)
                self._written += count
                view = view[count:]
        except OSError as error:
            raise storage_error(error, self._path, needed=self.remaining) from error

    def commit(self, *, parent_id: str | None, cost: Seconds, expected_digest: str = "") -> Piece:
        """Keep the piece. Raises PieceLengthMismatch if short, PieceDigestMismatch if it has not `expected_digest`."""
        if self._leave is None:
            raise ValueError("the claim was given back")
        if self.remaining:
            raise PieceLengthMismatch(number=self.number, got=self._written, expected=self.length)
        digest = Digest.crc32(self._crc)
        if expected_digest and _parsed(expected_digest) != digest:
            raise PieceDigestMismatch(number=self.number, got=str(digest), expected=expected_digest)
        piece = Piece(self.number, self.offset, self.length, str(digest), parent_id, cost)
        self._keep(piece)
        return piece

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        leave, self._leave = self._leave, None
        if leave is not None:
            leave()


class DiskPieceReader:
    """A finished piece, open for sendfile; its descriptor stays good until it is left, whatever happens to the task."""

    def __init__(self, fd: int, piece: Piece, leave: Callable[[], None]) -> None:
        self.fd = fd
        self.position: Bytes = piece.offset
        self.piece = piece
        self._leave: Callable[[], None] | None = leave

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        leave, self._leave = self._leave, None
        if leave is not None:
            leave()


def _parsed(text: str) -> Digest | None:
    """None for what is no digest; only CRC-32 is computed here, so another algorithm never matches."""
    try:
        return Digest.parse(text)
    except (InvalidDigest, ValueError):  # ValueError: a number of thousands of digits
        return None
