"""Delivers a finished task to the path its caller named: never half a file, never an old file lost.

| what stands at the path | what happens |
|---|---|
| nothing | a copy under a temporary name beside it, then linked into place: never over a file that came meanwhile |
| an empty file that belongs to this daemon's own user | a hard link takes its place, if it is the first |
| an empty file of somebody else (dfget makes one to show that the caller may write there) | filled in place |
| any other file, with `overwrite` | a copy beside it, renamed over it |
| any other file | OutputExists |

A hard link is taken only there, or where the caller asks for one. Where links do not reach, the bytes are copied
inside the kernel, as a reflink where the file system knows them.
"""

import errno
import hashlib
import os
import stat
import uuid
from collections.abc import Callable
from pathlib import Path

from isal import isal_zlib

from dragonfly.core.model.digest import Digest
from dragonfly.core.model.ranges import ByteRange
from dragonfly.core.model.units import Bytes, MiB
from dragonfly.dfdaemon.request import OutputRequest
from dragonfly.errors import (
    ContentDigestMismatch,
    OutputExists,
    OutputIsDirectory,
    OutputParentMissing,
    OutputUnwritable,
)

COPY_CHUNK: Bytes = 64 * MiB


def check(output: OutputRequest) -> None:
    """Refuse before the download what could not be delivered after it. Raises OutputError."""
    standing = _lstat(output.path)
    if not output.path.parent.is_dir():
        raise OutputParentMissing(path=output.path.parent)
    if standing is None:
        return
    if stat.S_ISDIR(standing.st_mode):
        raise OutputIsDirectory(path=output.path)
    if not stat.S_ISREG(standing.st_mode):
        raise OutputUnwritable(path=output.path, reason="it is not a regular file")
    if not output.overwrite:
        raise OutputExists(path=output.path)


def deliver(content: Path, output: OutputRequest, span: ByteRange | None = None) -> None:
    """Put `content`, or the `span` of it, at the output.

    Blocking; raises OutputError, and then everything stands as before.
    """
    check(output)
    try:
        _deliver(content, output, _lstat(output.path), span)
    except OSError as error:
        raise OutputUnwritable(path=output.path, reason=error.strerror or str(error)) from error


def _deliver(content: Path, output: OutputRequest, standing: os.stat_result | None, span: ByteRange | None) -> None:
    is_empty = standing is not None and standing.st_size == 0
    if is_empty and standing is not None and standing.st_uid != os.geteuid() and not output.force_hard_link:
        _fill(content, output.path, span)
    elif standing is None:
        _place(content, output, span, lambda made: _link_into_place(made, output.path), mode=None)
    else:
        mode = stat.S_IMODE(standing.st_mode)
        link = is_empty and span is None and content.stat().st_nlink == 1  # one output may share its bytes
        _place(content, output, span, lambda made: os.replace(made, output.path), mode=mode, may_link=link)


def _place(
    content: Path,
    output: OutputRequest,
    span: ByteRange | None,
    put: Callable[[Path], None],
    *,
    mode: int | None,
    may_link: bool = False,
) -> None:
    """Make the file under a temporary name beside the output, then put it there in one step."""
    made = output.path.with_name(f".{output.path.name[:64]}.{uuid.uuid4().hex}.dragonfly")
    try:
        if not ((may_link or output.force_hard_link) and _linked(content, made, must=output.force_hard_link)):
            _copy(content, made, span)
        if mode is not None and made.stat().st_nlink <= 2:  # the cache's name and ours: nobody else's file
            made.chmod(mode)
        put(made)
    finally:
        made.unlink(missing_ok=True)


def _linked(content: Path, made: Path, *, must: bool) -> bool:
    try:
        os.link(content, made)
    except OSError:
        if must:
            raise
        return False
    return True


def _link_into_place(made: Path, path: Path) -> None:
    """As a rename that refuses to replace."""
    try:
        os.link(made, path)
    except FileExistsError:
        raise OutputExists(path=path) from None


def _copy(content: Path, made: Path, span: ByteRange | None) -> None:
    with content.open("rb") as source:
        target = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
        try:
            _copy_span(source.fileno(), target, span)
        finally:
            os.close(target)


def _fill(content: Path, path: Path, span: ByteRange | None) -> None:
    with content.open("rb") as source:
        target = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK)  # a pipe put there would block
        try:
            if os.fstat(target).st_size != 0:  # it grew since it was looked at
                raise OutputExists(path=path)
            _copy_span(source.fileno(), target, span)
        except OSError:
            os.ftruncate(target, 0)
            raise
        finally:
            os.close(target)


def _copy_span(source: int, target: int, span: ByteRange | None) -> None:
    """Copy a span, or everything; EIO where the source is shorter than that."""
    copy: Callable[[int, int, int], int] = getattr(os, "copy_file_range", _copy_through_memory)
    left = os.fstat(source).st_size if span is None else span.length
    os.lseek(source, span.start if span else 0, os.SEEK_SET)
    while left:
        try:
            copied = copy(source, target, min(left, COPY_CHUNK))
        except OSError:
            if copy is _copy_through_memory:
                raise
            copy = _copy_through_memory  # some pairs of file systems have no copy inside the kernel
            continue
        if copied == 0:
            raise OSError(errno.EIO, "the stored file ends too early")
        left -= copied


def _copy_through_memory(source: int, target: int, count: int) -> int:
    return os.sendfile(target, source, None, count)


def _lstat(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OutputUnwritable(path=path, reason=error.strerror or str(error)) from error


def verify(content: Path, expected: Digest) -> None:
    """Compare the whole content with the digest the caller gave. Blocking; raises ContentDigestMismatch."""
    got = _digest(content, expected.algorithm)
    if got != expected:
        raise ContentDigestMismatch(got=got, expected=expected)


def _digest(content: Path, algorithm: str) -> Digest:
    with content.open("rb") as file:
        if algorithm != "crc32":
            return Digest(algorithm, hashlib.file_digest(file, algorithm).hexdigest())
        value = 0
        while chunk := file.read(MiB):
            value = isal_zlib.crc32(chunk, value)
        return Digest.crc32(value)
