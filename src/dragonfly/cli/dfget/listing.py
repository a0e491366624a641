"""What lies in a directory at an origin, and where each file goes beneath the output directory.

The entries' URLs were written by a stranger. A file is only taken where its URL lies beneath the directory's own, on
the same host (the requests carry the user's credentials), and where every name of its path is a plain name once it is
decoded: no `..`, no slash or backslash, no control character. Everything else becomes a failure of that file alone.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit

from dragonfly.cli.dfget.include import Include
from dragonfly.core.model.units import Bytes
from dragonfly.errors import DragonflyError, InvalidInput, SourceError

DEEPEST = 64
"""Directories within directories; a listing that goes on deeper names itself again and again."""

Path = tuple[str, ...]

# A backslash is part of a name here and a slash elsewhere; control characters are in names only to deceive.
_UNFIT = re.compile(r"[\x00-\x1f\x7f/\\]")


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a listing; the length is None where it does not say."""

    url: str
    length: Bytes | None
    is_directory: bool


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A file to download, and its names beneath the output directory."""

    url: str
    path: Path
    length: Bytes | None


class Listing:
    """Everything beneath `url`, gathered from one answer after the other."""

    def __init__(self, url: str, include: Include, max_files: int) -> None:
        self.files: dict[Path, ListedFile] = {}
        self.directories: set[Path] = set()
        self.refused: list[tuple[str, DragonflyError]] = []  # URLs that are not downloaded
        self._root = urlsplit(url)
        self._names = _names(self._root)
        self._include, self._max_files = include, max_files

    def add(self, entries: Iterable[Entry]) -> list[str]:
        """Take one answer; returns the URLs of the directories to ask for next.

        An answer may hold one level or all: a directory of which it names a part is not asked for again.
        Raises InvalidInput where there is more than --max-files, or no end to it.
        """
        found = list(self._found(entries))
        partly_told = {path[:depth] for path, _ in found for depth in range(1, len(path))}
        following = []
        for path, entry in found:
            if not entry.is_directory:
                self._add_file(path, entry)
            elif path not in self.directories and self._include.directory(path):
                self._add_directory(path)
                if path not in partly_told:
                    following.append(entry.url)
        return following

    def _found(self, entries: Iterable[Entry]) -> Iterable[tuple[Path, Entry]]:
        for entry in entries:
            try:
                path = self._path(entry.url)
            except SourceError as error:
                self.refused.append((entry.url, error))
                continue
            if not path:  # the directory itself
                continue
            if len(path) > DEEPEST:
                raise InvalidInput(reason=f"the directory is deeper than {DEEPEST} levels at {entry.url}")
            is_directory = entry.is_directory or entry.url.endswith("/")  # object stores mark directories so
            yield path, Entry(entry.url, entry.length, is_directory)

    def _path(self, url: str) -> Path:
        try:
            parts = urlsplit(url)
            names = _names(parts)
        except ValueError:
            raise SourceError(url=url, reason="its listing holds something that is no URL") from None
        if (parts.scheme.lower(), parts.netloc.lower()) != (self._root.scheme.lower(), self._root.netloc.lower()):
            raise SourceError(url=url, reason="its listing leads to another place")
        if names[: len(self._names)] != self._names:
            raise SourceError(url=url, reason="its listing leads out of the directory")
        path = tuple(names[len(self._names) :])
        if any(name in ("", ".", "..") or _UNFIT.search(name) for name in path):
            raise SourceError(url=url, reason="its listing holds a name that is not fit for a file")
        return path

    def _add_file(self, path: Path, entry: Entry) -> None:
        if not self._include.file(path):
            return
        known = self.files.setdefault(path, ListedFile(entry.url, path, entry.length))
        if known.url != entry.url:
            self.refused.append((entry.url, SourceError(url=entry.url, reason=f"{known.url} has the same name")))
        self._check_count(len(self.files), "files")

    def _add_directory(self, path: Path) -> None:
        self.directories.add(path)
        self._check_count(len(self.directories), "directories")

    def _check_count(self, count: int, noun: str) -> None:
        if count > self._max_files:
            raise InvalidInput(reason=f"there are more than {self._max_files} {noun}; --max-files allows more")


def _names(parts: SplitResult) -> list[str]:
    """The decoded names of a URL's path; bytes that are not UTF-8 stay what they are, as file names may be."""
    path = parts.path.removeprefix("/").removesuffix("/")
    return [unquote(name, errors="surrogateescape") for name in path.split("/")] if path else []
