"""The globs of --include-files, matched on paths relative to the directory that is downloaded.

`*` and `?` stay within a name, `[…]` is one character, `**` crosses directories, and `docs/` means all beneath docs.
A pattern is a plain relative path: no leading slash and no `.` or `..`, so it never leads out of the directory.
"""

import re
from collections.abc import Iterable, Sequence
from functools import cache

from dragonfly.errors import InvalidInput


def check(pattern: str) -> str:
    """The pattern itself. Raises InvalidInput where it is no plain relative path."""
    parts = pattern.removesuffix("/").split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise InvalidInput(reason=f"{pattern!r} is not a plain relative path, such as docs/*.txt")
    return pattern


class Include:
    """Which files are wanted; without patterns all are."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._patterns = [_parts(pattern) for pattern in patterns]

    def file(self, path: Sequence[str]) -> bool:
        """Whether the file at this path is wanted."""
        return not self._patterns or any(_matches(pattern, path) for pattern in self._patterns)

    def directory(self, path: Sequence[str]) -> bool:
        """Whether a wanted file may lie beneath this directory."""
        return not self._patterns or any(_may_hold(pattern, path) for pattern in self._patterns)


def _parts(pattern: str) -> tuple[str, ...]:
    return tuple((pattern + "**" if pattern.endswith("/") else pattern).split("/"))


def _matches(pattern: Sequence[str], path: Sequence[str]) -> bool:
    """Whether the whole path matches. The positions reached in the pattern are kept as a set: no backtracking."""
    reached = _skipped(pattern, {0})
    for name in path:
        reached = _skipped(pattern, _stepped(pattern, reached, name))
    return len(pattern) in reached


def _stepped(pattern: Sequence[str], reached: set[int], name: str) -> set[int]:
    after = set()
    for at in reached:
        if at < len(pattern) and _expression(pattern[at]).fullmatch(name):
            after.add(at if pattern[at] == "**" else at + 1)
            after.add(at + 1)
    return after


def _skipped(pattern: Sequence[str], reached: set[int]) -> set[int]:
    """`**` may stand for no name at all, but not at the end: `docs/**` is what lies beneath docs."""
    for at in range(len(pattern) - 1):
        if at in reached and pattern[at] == "**":
            reached.add(at + 1)
    return reached


def _may_hold(pattern: Sequence[str], path: Sequence[str]) -> bool:
    reached = _skipped(pattern, {0})
    for name in path:
        reached = _skipped(pattern, _stepped(pattern, reached, name))
    return any(at < len(pattern) for at in reached)


@cache
def _expression(part: str) -> re.Pattern[str]:
    """The glob of one name; `[` without its `]` stands for itself, as in a shell."""
    import fnmatch

    return re.compile(fnmatch.translate(part))
