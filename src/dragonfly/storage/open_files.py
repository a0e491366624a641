"""Open descriptors of content files: one for each file in use, a bounded number kept for the next use.

A file is in use while somebody holds it between `acquire` and `release`; its descriptor is closed only when nobody
does. A retired file is never opened again, so a reader that comes late cannot meet a newer file of the same name.
"""

import os
from collections import OrderedDict
from pathlib import Path
from threading import Lock


class ContentFile:
    """One task's file. The fields besides `path` belong to OpenFiles."""

    __slots__ = ("fd", "path", "retired", "users")

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = -1
        self.users = 0
        self.retired = False


class OpenFiles:
    """Descriptors by file, the least recently used closed first. Thread-safe; opens and closes outside its lock."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._closed = False
        self._lock = Lock()
        self._kept: OrderedDict[ContentFile, None] = OrderedDict()  # open and not retired

    def acquire(self, file: ContentFile) -> int:
        """A descriptor, good until `release`. Raises FileNotFoundError if retired, OSError."""
        with self._lock:
            if file.retired or self._closed:
                raise FileNotFoundError(file.path)
            if file.fd >= 0:
                return self._use(file)
        fd = os.open(file.path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        return self._adopt(file, fd)

    def adopt(self, file: ContentFile, fd: int) -> None:
        """Take over the descriptor of a file just created."""
        self._adopt(file, fd)
        self.release(file)

    def release(self, file: ContentFile) -> None:
        with self._lock:
            file.users -= 1
            unused = [self._drop(file)] if file.users == 0 and file not in self._kept else []
        _close_all(unused)

    def retire(self, file: ContentFile) -> None:
        """Open it no more; whoever has it keeps it."""
        with self._lock:
            file.retired = True
            self._kept.pop(file, None)
            unused = [self._drop(file)] if file.users == 0 else []
        _close_all(unused)

    def close(self) -> None:
        """Open nothing more; what is in use stays open until its last release."""
        with self._lock:
            self._closed = True
            files = list(self._kept)
        for file in files:
            self.retire(file)

    def _adopt(self, file: ContentFile, fd: int) -> int:
        spare = []
        try:
            with self._lock:
                if file.retired or self._closed:
                    spare.append(fd)
                    raise FileNotFoundError(file.path)
                if file.fd < 0:
                    file.fd = fd
                else:  # somebody else opened it meanwhile
                    spare.append(fd)
                used = self._use(file)
                spare += self._surplus()
                return used
        finally:
            _close_all(spare)

    def _use(self, file: ContentFile) -> int:
        file.users += 1
        self._kept[file] = None
        self._kept.move_to_end(file)
        return file.fd

    def _surplus(self) -> list[int]:
        unused = []
        while len(self._kept) > self._limit:
            oldest, _ = self._kept.popitem(last=False)
            if oldest.users == 0:
                unused.append(self._drop(oldest))
        return unused

    @staticmethod
    def _drop(file: ContentFile) -> int:
        fd, file.fd = file.fd, -1
        return fd


def _close_all(fds: list[int]) -> None:
    for fd in fds:
        if fd >= 0:
            os.close(fd)
