"""The file of a download whose bytes the daemon sends (--transfer-from-dfdaemon): each piece at its place, once.

A piece's `offset` and `length` say where its content lies in the whole file; the output begins at the range's start.
Pieces come whole with their CRC, which is checked, but for those that a range cuts: their CRC is of bytes that are not
here. Nothing is held in memory but the piece that is being written.
"""

import errno
import hashlib
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from dragonfly.core.model.digest import Digest
from dragonfly.core.model.units import Bytes, MiB
from dragonfly.errors import (
    ContentDigestMismatch,
    ContentLengthMismatch,
    InternalFailure,
    InvalidDigest,
    OutputUnwritable,
    PieceDigestMismatch,
    PieceLengthMismatch,
)

if TYPE_CHECKING:
    from dragonfly.wire.pb.common_pb2 import Piece

_READ_LENGTH: Bytes = 1 * MiB
_CANNOT_PREALLOCATE = frozenset({errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.ENODEV})


class Received:
    """The draft at `path`, being filled; a context manager that closes it."""

    def __init__(self, path: Path, name: str) -> None:
        self._path, self._name = path, name
        self._file = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        self._start: Bytes = 0  # of the output, in the whole file
        self._length: Bytes | None = None
        self._is_cut = False
        self._places: dict[int, tuple[Bytes, Bytes]] = {}  # piece number -> position in the output and length

    def close(self) -> None:
        """The draft is as it is."""
        os.close(self._file)

    def begin(self, start: Bytes, length: Bytes | None, *, is_cut: bool) -> None:
        """Where the output begins in the whole file, and how long it is. Told again once an open length is known."""
        if self._places and start != self._start:
            raise InternalFailure(reason="the daemon moved the range after it had sent pieces of it")
        was_known = self._length is not None
        self._start, self._length, self._is_cut = start, length, is_cut
        if length and not was_known and not self._places:
            self._preallocate(length)

    def write(self, piece: "Piece") -> None:
        """Put a piece at its place; again is nothing. Raises PieceLengthMismatch, PieceDigestMismatch."""
        if piece.number in self._places:
            return
        content = piece.content
        position = piece.offset - self._start
        if len(content) != piece.length:
            raise PieceLengthMismatch(number=piece.number, got=len(content), expected=piece.length)
        if position < 0 or (self._length is not None and position + len(content) > self._length):
            raise ContentLengthMismatch(
                path=self._name, got=position + len(content), expected=self._length if position >= 0 else 0
            )
        if piece.digest and not self._may_be_cut(position, len(content)):
            _check_crc(piece, content)
        self._write_at(position, content)
        self._places[piece.number] = (position, len(content))

    def check_whole(self, length: Bytes) -> None:
        """Raises ContentLengthMismatch where a byte is missing or came twice."""
        end = 0
        for position, part in sorted(self._places.values()):
            if position != end:
                break
            end += part
        if end != length:
            raise ContentLengthMismatch(path=self._name, got=end, expected=length)

    def verify(self, digest: Digest, between: Callable[[], object]) -> None:
        """Read all of it and compare; `between` is called every MiB. Raises ContentDigestMismatch."""
        found, position = _Hash(digest.algorithm), 0
        while block := self._read_at(position):
            between()
            found.update(block)
            position += len(block)
        if found.digest() != digest:
            raise ContentDigestMismatch(got=found.digest(), expected=digest)

    def _may_be_cut(self, position: Bytes, length: Bytes) -> bool:
        """With a range, the pieces at its two edges are cut unless an edge of a piece happens to lie there."""
        at_front = position == 0 and self._start > 0
        return self._is_cut and (at_front or self._length is None or position + length == self._length)

    def _preallocate(self, length: Bytes) -> None:
        """Full disks are found at once, and the file lies in one run where the file system can do that."""
        try:
            os.posix_fallocate(self._file, 0, length)
        except OverflowError:
            raise OutputUnwritable(path=self._name, reason=f"no file can have {length} bytes") from None
        except OSError as error:
            if error.errno not in _CANNOT_PREALLOCATE:
                raise self._unwritable(error) from error

    def _write_at(self, position: Bytes, content: bytes) -> None:
        view = memoryview(content)
        try:
            while view:
                written = os.pwrite(self._file, view, position)
                view, position = view[written:], position + written
        except OSError as error:
            raise self._unwritable(error) from error

    def _read_at(self, position: Bytes) -> bytes:
        try:
            return os.pread(self._file, _READ_LENGTH, position)
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> OutputUnwritable:
        return OutputUnwritable(path=self._name, reason=error.strerror or str(error))


class _Hash:
    """One interface to the digests of --digest."""

    def __init__(self, algorithm: str) -> None:
        self._algorithm = algorithm
        self._hash = None if algorithm == "crc32" else hashlib.new(algorithm)
        self._crc = 0

    def update(self, block: bytes) -> None:
        if self._hash is None:
            self._crc = zlib.crc32(block, self._crc)
        else:
            self._hash.update(block)

    def digest(self) -> Digest:
        if self._hash is None:
            return Digest.crc32(self._crc)
        return Digest(self._algorithm, self._hash.hexdigest())


def _check_crc(piece: "Piece", content: bytes) -> None:
    try:
        expected = Digest.parse(piece.digest)
    except InvalidDigest:
        raise PieceDigestMismatch(number=piece.number, got="unread", expected=piece.digest) from None
    if expected.algorithm != "crc32":  # no daemon sends another; what cannot be checked is left to --digest
        return
    got = Digest.crc32(zlib.crc32(content))
    if got != expected:
        raise PieceDigestMismatch(number=piece.number, got=got, expected=expected)
