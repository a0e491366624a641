"""The storage directory itself: whose it is, who may use it, and where things lie in it.

    <directory>/lock                                    held by the one process that uses it
    <directory>/metadata/store.db                       tasks and finished pieces
    <directory>/content/tasks/<first 3>/<wire id>       one preallocated file for each task

Directories are 0700 and files 0600. A directory that somebody else made, or may write, is refused: whoever owns it
could swap content under our feet.
"""

import errno
import fcntl
import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from dragonfly.core.model.units import Bytes
from dragonfly.errors import DiskFull, InvalidIdentifier, StorageUnusable
from dragonfly.storage.os_errors import storage_error

DIRECTORY_MODE = 0o700
FILE_MODE = 0o600
_WIRE_ID = re.compile(r"[0-9a-f]{64}")


class StorageDirectory:
    """A directory this process has to itself until `close`. Raises StorageUnusable."""

    def __init__(self, path: Path, *, keep: bool) -> None:
        self.path = path
        self.content = path / "content" / "tasks"
        self.metadata = path / "metadata"
        try:
            _make_private(path)
            self._lock = _lock(path)
            if not keep:
                shutil.rmtree(path / "content", ignore_errors=True)
                shutil.rmtree(self.metadata, ignore_errors=True)
            for inner in (path / "content", self.content, self.metadata):
                _make_private(inner)
        except OSError as error:
            raise StorageUnusable(path=path, reason=error.strerror or str(error)) from error

    def content_file(self, wire_id: str) -> Path:
        """Where a task's bytes lie. Raises InvalidIdentifier unless it is 64 hex digits: no name climbs out."""
        if not _WIRE_ID.fullmatch(wire_id):
            raise InvalidIdentifier(kind="task id", text=wire_id)
        return self.content / wire_id[:3] / wire_id

    def content_files(self) -> Iterator[Path]:
        """Every file below the content directory, whoever put it there."""
        for folder, _, names in os.walk(self.content):
            yield from (Path(folder, name) for name in names)

    def create_file(self, path: Path, length: Bytes, *, leave_free: Bytes) -> int:
        """A new file with its disk blocks taken, opened. Raises DiskFull, StorageError."""
        free = self._free() - leave_free
        if length > free:
            raise DiskFull(path=path, needed=length, free=max(free, 0))
        try:
            path.parent.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
        except OSError as error:
            raise storage_error(error, path, needed=length, free=free) from error
        try:
            _take_blocks(fd, length)
        except OSError as error:
            os.close(fd)
            path.unlink(missing_ok=True)
            raise storage_error(error, path, needed=length, free=free) from error
        return fd

    def remove_file(self, path: Path) -> None:
        """Raises StorageError; a file that is gone already is no error."""
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise storage_error(error, path) from error

    def _free(self) -> Bytes:
        """Bytes this process may still write."""
        figures = os.statvfs(self.path)
        return figures.f_bavail * figures.f_frsize

    def close(self) -> None:
        os.close(self._lock)


def _take_blocks(fd: int, length: Bytes) -> None:
    """Allocate now, so that want of room shows before the first byte. Raises OSError."""
    if length == 0:
        return
    try:
        os.posix_fallocate(fd, 0, length)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
            raise
        os.ftruncate(fd, length)  # a file system without the call


def _make_private(path: Path) -> None:
    """Create the directory, or make sure that what is there is ours alone to write."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=DIRECTORY_MODE)
    except FileExistsError:
        facts = path.stat()
        if not stat.S_ISDIR(facts.st_mode):
            raise StorageUnusable(path=path, reason="it is not a directory") from None
        if facts.st_uid != os.geteuid():
            raise StorageUnusable(path=path, reason=f"it belongs to user {facts.st_uid}, not to us") from None
        if facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise StorageUnusable(path=path, reason="other users may write to it") from None


def _lock(path: Path) -> int:
    fd = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        raise StorageUnusable(path=path, reason="another process uses it") from error
    return fd
