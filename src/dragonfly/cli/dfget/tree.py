"""The directory that a download of a directory fills, and the way to each file in it.

Directories beneath it are opened one by one without following symbolic links, so nothing that lies in the tree can lead
a file out of it. Drafts lie in the output directory itself, the one path its user named, and are moved to their
places through the opened directories.
"""

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from dragonfly.cli.dfget.output import Draft, as_unwritable, check_parent
from dragonfly.core.model.units import Bytes
from dragonfly.errors import OutputParentMissing, OutputUnwritable

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Tree:
    """The output directory; made if only its last name is missing. A context manager."""

    def __init__(self, output: str) -> None:
        self._output = output
        path = Path(output)
        self._is_new = False
        with as_unwritable(output):
            if not path.exists() and path.parent.is_dir():
                path.mkdir()
                self._is_new = True
            if not path.exists():
                raise OutputParentMissing(path=path.parent)
            if not path.is_dir():
                raise OutputUnwritable(path=output, reason="it is not a directory")
            self.root = path.resolve(strict=True)
            check_parent(self.root, output)
            self._root = os.open(self.root, _DIRECTORY)

    def close(self) -> None:
        """No file can be reached any more."""
        os.close(self._root)

    def discard(self) -> None:
        """Take the directory away again if this download made it and nothing came into it."""
        if self._is_new:
            with suppress(OSError):
                self.root.rmdir()

    def name(self, path: Sequence[str]) -> str:
        """The file as its user knows it."""
        return os.path.join(self._output, *path)

    def draft(self, path: Sequence[str], *, overwrite: bool) -> Draft:
        """A draft of the file at this path, not made yet."""
        return Draft(Path(self.name(path)), overwrite=overwrite, directory=self.root)

    def publish(self, draft: Draft, path: Sequence[str], length: Bytes) -> None:
        """Make the draft the file at this path; makes the directories on the way. Raises what Draft.publish does."""
        with self._opened(path[:-1], make=True) as directory:
            assert directory is not None
            draft.publish(length, directory)

    def make(self, path: Sequence[str]) -> None:
        """Make a directory. Raises OutputUnwritable."""
        with self._opened(path, make=True):
            pass

    def length(self, path: Sequence[str]) -> Bytes | None:
        """Of the file that is there; None: no file is. A symbolic link has the length -1, as no file has.

        Raises OutputUnwritable where something else is in its place or in the way.
        """
        with self._opened(path[:-1], make=False) as directory:
            if directory is None:
                return None
            try:
                found = os.stat(path[-1], dir_fd=directory, follow_symlinks=False)
            except FileNotFoundError:
                return None
            except (OSError, ValueError) as error:
                raise self._unwritable(path, error) from error
        if stat.S_ISLNK(found.st_mode):
            return -1
        if not stat.S_ISREG(found.st_mode):
            raise OutputUnwritable(path=self.name(path), reason="it is not a regular file")
        return found.st_size

    @contextmanager
    def _opened(self, path: Sequence[str], *, make: bool) -> Iterator[int | None]:
        """A descriptor of the directory at this path; None where it is not there and not to be made."""
        current: int | None = self._root
        try:
            for depth, name in enumerate(path):
                assert current is not None
                following = self._step(current, path[: depth + 1], name, make=make)
                if current != self._root:
                    os.close(current)
                current = following
                if current is None:
                    break
            yield current
        finally:
            if current not in (None, self._root):
                os.close(current)

    def _step(self, parent: int, path: Sequence[str], name: str, *, make: bool) -> int | None:
        try:
            try:
                return os.open(name, _DIRECTORY, dir_fd=parent)
            except FileNotFoundError:
                if not make:
                    return None
            with suppress(FileExistsError):  # somebody made it at the same moment
                os.mkdir(name, dir_fd=parent)
            return os.open(name, _DIRECTORY, dir_fd=parent)
        except (OSError, ValueError) as error:
            raise self._unwritable(path, error) from error

    def _unwritable(self, path: Sequence[str], error: Exception) -> OutputUnwritable:
        if isinstance(error, OSError) and error.errno in (errno.ELOOP, errno.ENOTDIR):
            return OutputUnwritable(path=self.name(path), reason="a file or a symbolic link is in the way")
        return OutputUnwritable(path=self.name(path), reason=getattr(error, "strerror", None) or str(error))
