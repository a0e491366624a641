"""Directories that one running process owns, and that the next one tidies up if their owner was killed.

Ownership is a lock on a file inside; the kernel lets go of it however the owner ends.
"""

import fcntl
import os
import shutil
import stat
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Literal, get_args

from dragonfly.core.model.units import Seconds
from dragonfly.errors import ServiceError, StorageUnusable

LOCK_NAME = "lock"
_UNFINISHED_LOCK = "lock.new"
_STALE_WITHOUT_LOCK: Seconds = 3600.0  # younger ones may be in the making, or of a process that locks nothing

Purpose = Literal["up", "demo"]


class DirectoryLock:
    """The ownership of a directory; raises ServiceError if somebody has it, StorageUnusable if it cannot be had."""

    def __init__(self, directory: Path, name: str = LOCK_NAME) -> None:
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = os.open(directory / name, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageUnusable(path=directory, reason=error.strerror) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._file)
            raise ServiceError(reason=f"the data directory {directory} is in use by another `dragonfly up`") from error

    def release(self) -> None:
        os.close(self._file)


class PrivateDirectory:
    """A new directory that only we can enter, gone after `remove`."""

    def __init__(self, base: Path, purpose: Purpose = "up") -> None:
        try:
            self.path = Path(tempfile.mkdtemp(prefix=_prefix(purpose), dir=base))
        except OSError as error:
            raise StorageUnusable(path=base, reason=error.strerror) from error
        self._lock = DirectoryLock(self.path, _UNFINISHED_LOCK)
        (self.path / _UNFINISHED_LOCK).rename(self.path / LOCK_NAME)  # nobody ever sees a lock that is not taken yet

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.release()


def remove_orphans(base: Path) -> None:
    """Remove our directories in `base` whose owners are gone, whatever they were for."""
    for purpose in get_args(Purpose):
        for directory in base.glob(f"{_prefix(purpose)}*"):
            with suppress(OSError, ServiceError, StorageUnusable):  # just gone, or still in use
                _remove_orphan(directory)


def _remove_orphan(directory: Path) -> None:
    status = directory.lstat()
    if status.st_uid != os.getuid() or not stat.S_ISDIR(status.st_mode):
        return
    if (directory / LOCK_NAME).exists() or time.time() - status.st_mtime > _STALE_WITHOUT_LOCK:
        lock = DirectoryLock(directory)
        shutil.rmtree(directory, ignore_errors=True)
        lock.release()


def _prefix(purpose: Purpose) -> str:
    return f"dragonfly-{purpose}-"


def short_base() -> Path:
    """Where sockets go: their paths have to be short, whatever the data directory."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    usable = runtime.startswith("/") and len(runtime.encode()) <= 40 and os.access(runtime, os.W_OK | os.X_OK)
    return Path(runtime) if usable else Path("/tmp")
