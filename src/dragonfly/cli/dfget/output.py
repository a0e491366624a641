"""The file a user gets: not there at all, or whole.

    check (before any connection) -> Draft.create -> the daemon fills it -> Draft.publish | Draft.discard

A draft is an empty file beside the output, made by this process: that proves the caller may write there, and the file
has the caller's owner and mode even where a daemon of another user fills it. The daemon may also put a hard link of
its own file in the draft's place. Publishing is one rename or one link, so that nobody ever sees half an output, and
an old output stays untouched until the new one is whole. A symbolic link as output is replaced, not followed.
"""

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dragonfly.core.model.units import Bytes
from dragonfly.errors import (
    ContentLengthMismatch,
    OutputExists,
    OutputIsDirectory,
    OutputParentMissing,
    OutputUnwritable,
)

_LONGEST_NAME = 255  # bytes; NAME_MAX of every file system in use
_SUFFIX = ".dfget"
_NO_HARD_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EACCES})


def check(output: str, *, overwrite: bool) -> Path:
    """The output's absolute path, links in its directory resolved.

    Raises OutputIsDirectory, OutputParentMissing, OutputExists (without `overwrite`) or OutputUnwritable.
    """
    path = Path(output)
    with as_unwritable(output):
        if output.endswith("/") or path.name in ("", "..") or path.is_dir():
            raise OutputIsDirectory(path=output)
        if not path.parent.is_dir():
            raise OutputParentMissing(path=path.parent)
        if os.path.lexists(path) and not overwrite:
            raise OutputExists(path=output)
        if path.exists() and not path.is_file():  # renaming over /dev/null would take it from everybody
            raise OutputUnwritable(path=output, reason="it is not a regular file")
        parent = path.parent.resolve(strict=True)
    check_parent(parent, output)
    return parent / path.name


def check_parent(parent: Path, output: str) -> None:
    """Raises OutputUnwritable where nobody may write there, or where the daemon cannot be told the name."""
    if not os.access(parent, os.W_OK | os.X_OK):
        raise OutputUnwritable(path=output, reason=f"no permission to write in {parent}")
    try:
        str(parent).encode()
    except UnicodeEncodeError:  # protobuf carries text only
        raise OutputUnwritable(path=output, reason="its directory's name is not UTF-8") from None


class Draft:
    """The file that becomes the output, and the one place that knows whether it is still there to be removed.

    It lies beside the output, or in `directory` on the same file system.
    """

    def __init__(self, output: Path, *, overwrite: bool, directory: Path | None = None) -> None:
        self.path = (directory or output.parent) / _draft_name(output.name)
        self._output, self._overwrite = output, overwrite

    def create(self) -> None:
        """Make the empty file with the caller's umask. Raises OutputUnwritable."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with as_unwritable(self._output):
            os.close(os.open(self.path, flags, mode=0o666))

    def publish(self, content_length: Bytes, at: int | None = None) -> None:
        """Make the draft the output, in the directory that `at` is a descriptor of, else at the output's own path.

        Raises ContentLengthMismatch where the draft has another length, OutputExists where an output appeared that
        may not be replaced, OutputIsDirectory, OutputUnwritable.
        """
        with as_unwritable(self._output):
            self._check_filled(content_length)
            target = self._output if at is None else Path(self._output.name)
            if self._overwrite:
                os.rename(self.path, target, dst_dir_fd=at)
            else:
                self._link(target, at)

    def discard(self) -> None:
        """Remove the draft if it is there; never raises, as what went wrong before is what the user must read."""
        with suppress(OSError):
            self.path.unlink()

    def _check_filled(self, content_length: Bytes) -> None:
        found = self.path.lstat()
        if not stat.S_ISREG(found.st_mode):
            raise OutputUnwritable(path=self._output, reason="something else was put in its place")
        if found.st_size != content_length:
            raise ContentLengthMismatch(path=self._output, got=found.st_size, expected=content_length)

    def _link(self, target: Path, at: int | None) -> None:
        """A link, unlike a rename, refuses to replace what appeared meanwhile."""
        try:
            os.link(self.path, target, dst_dir_fd=at, follow_symlinks=False)
        except FileExistsError:
            raise OutputExists(path=self._output) from None
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            self._claim_and_rename(target, at)
        else:
            self.path.unlink()

    def _claim_and_rename(self, target: Path, at: int | None) -> None:
        """Where hard links are not to be had: take the name with an empty file first, then replace that."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            os.close(os.open(target, flags, mode=0o666, dir_fd=at))
        except FileExistsError:
            raise OutputExists(path=self._output) from None
        try:
            os.rename(self.path, target, dst_dir_fd=at)
        except OSError:
            os.unlink(target, dir_fd=at)
            raise


def _draft_name(name: str) -> str:
    """`.<name>.<random>.dfget`, the name cut and cleaned so that the whole is UTF-8 and not too long."""
    tail = f".{secrets.token_hex(8)}{_SUFFIX}"
    room = _LONGEST_NAME - 1 - len(tail)
    return f".{name.encode(errors='replace')[:room].decode(errors='ignore')}{tail}"


@contextmanager
def as_unwritable(output: str | Path) -> Iterator[None]:
    """What the operating system refuses, as an error of ours."""
    try:
        yield
    except IsADirectoryError as error:
        raise OutputIsDirectory(path=output) from error
    except OSError as error:
        raise OutputUnwritable(path=output, reason=error.strerror or str(error)) from error
    except ValueError as error:  # a NUL inside
        raise OutputUnwritable(path=repr(str(output)), reason=str(error)) from error
