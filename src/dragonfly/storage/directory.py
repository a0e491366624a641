"""The storage directory itself: whose it is, who may use it, and where things lie in it.

    <directory>/lock                                    held by the one process that uses it
    <directory>/metadata/store.db                       tasks and finished pieces
    <directory>/content/tasks/<first 3>/<wire id>       one preallocated file for each task

Directories are 0700 and files 0600 unless the settings say otherwise. A directory that somebody else made, or may
write beyond that, is refused: whoever owns it could swap content under our feet.
"""

import fcntl
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from dragonfly.core.model.units import Bytes
from dragonfly.errors import InvalidIdentifier, StorageUnusable
from dragonfly.storage import room
from dragonfly.storage.os_errors import storage_error

DIRECTORY_MODE = 0o700
FILE_MODE = 0o600
_WIRE_ID = re.compile(r"[0-9a-f]{64}")


class StorageDirectory:
    """A directory this process has to itself until `close`. Raises StorageUnusable.

    New directories and files get the modes given; a directory that is there keeps its own.
    """

    def __init__(
        self, path: Path, *, keep: bool, file_mode: int = FILE_MODE, directory_mode: int = DIRECTORY_MODE
    ) -> None:
        self.path = path
        self._file_mode, self._directory_mode = file_mode, directory_mode
        self.content = path / "content" / "tasks"
        self.metadata = path / "metadata"
        try:
            _make_private(path, directory_mode)
            self._lock = _lock(path, file_mode)
            if not keep:
                shutil.rmtree(path / "content", ignore_errors=True)
                shutil.rmtree(self.metadata, ignore_errors=True)
            for inner in (path / "content", self.content, self.metadata):
                _make_private(inner, directory_mode)
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

    def create_file(self, path: Path, length: Bytes, *, sparse: bool) -> int:
        """A new file of this length, opened, with its disk blocks taken unless `sparse`. Raises OSError."""
        with suppress(FileExistsError):
            path.parent.mkdir(mode=self._directory_mode & 0o700)
            path.parent.chmod(self._directory_mode)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, self._file_mode)
        try:
            os.fchmod(fd, self._file_mode)  # whatever the umask
            if sparse:
                os.ftruncate(fd, length)
            else:
                room.take(fd, 0, length)
        except OSError:
            os.close(fd)
            path.unlink(missing_ok=True)
            raise
        return fd

    def remove_file(self, path: Path) -> None:
        """Raises StorageError; a file that is gone already is no error."""
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise storage_error(error, path) from error

    def figures(self) -> tuple[Bytes, Bytes]:
        """What the file system holds, and what of it this process may still write. Raises OSError."""
        figures = os.statvfs(self.path)
        return figures.f_blocks * figures.f_frsize, figures.f_bavail * figures.f_frsize

    def close(self) -> None:
        os.close(self._lock)


def _make_private(path: Path, mode: int) -> None:
    """Create the directory, or make sure that nobody writes to what is there who should not."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=mode & 0o700)
        path.chmod(mode)  # whatever the umask
    except FileExistsError:
        facts = path.stat()
        if not stat.S_ISDIR(facts.st_mode):
            raise StorageUnusable(path=path, reason="it is not a directory") from None
        if facts.st_uid != os.geteuid():
            raise StorageUnusable(path=path, reason=f"it belongs to user {facts.st_uid}, not to us") from None
        if facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH) & ~mode:
            raise StorageUnusable(path=path, reason="other users may write to it") from None


def _lock(path: Path, mode: int) -> int:
    fd = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        raise StorageUnusable(path=path, reason="another process uses it") from error
    return fd
