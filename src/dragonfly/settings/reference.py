"""The reference page of a settings tree, made from the models themselves, so that it cannot lag behind them.

What a key means is the docstring below its attribute; it is read from the source, and only here: services start
without it.
"""

import ast
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import BeforeValidator

from dragonfly.core.model.host import HostType
from dragonfly.core.model.units import Bytes, Seconds
from dragonfly.settings.section import Key, Section, keys_of
from dragonfly.settings.values import read_duration, read_mode, read_size

_DURATION_UNITS = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1))  # in milliseconds
_SIZE_UNITS = (("GiB", 1 << 30), ("GB", 10**9), ("MiB", 1 << 20), ("MB", 10**6), ("KiB", 1 << 10), ("KB", 10**3))


@dataclass(frozen=True, slots=True)
class Entry:
    """One key of the page. `default` is as a file would say it; empty where there is none."""

    path: str
    default: str
    meaning: str
    has_effect: bool


def entries(section: type[Section], prefix: str = "", *, idle: bool = False) -> Iterator[Entry]:
    """Every key that holds a value, in the order of the model."""
    for name, key in keys_of(section).items():
        if name != key.name:
            continue
        path, is_idle = prefix + name, idle or key.idle
        if key.section is not None:
            yield from entries(key.section, path + ("[]." if key.many else "."), idle=is_idle)
        else:
            yield Entry(path, _default(key), meaning(section, key.attribute), not is_idle)


def markdown(title: str, section: type[Section]) -> str:
    """A heading and a table of every key."""
    rows = [f"| `{entry.path}` | {_code(entry.default)} | {_meaning(entry)} |" for entry in entries(section)]
    return "\n".join([f"## {title}", "", "| key | default | meaning |", "|---|---|---|", *rows, ""])


def plain(section: type[Section]) -> str:
    """The same as text for a terminal, one key a line."""
    return "\n".join(
        f"{entry.path}: {entry.default or '-'}\n    {entry.meaning}{'' if entry.has_effect else ' (no effect yet)'}"
        for entry in entries(section)
    )


def meaning(section: type[Section], attribute: str) -> str:
    """The docstring below an attribute, its own or inherited; empty if it has none."""
    for owner in section.__mro__:
        if issubclass(owner, Section) and attribute in _docstrings(owner):
            return _docstrings(owner)[attribute]
    return ""


@cache
def _docstrings(section: type[Section]) -> dict[str, str]:
    (definition,) = ast.parse(inspect.getsource(section)).body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for statement, after in zip(definition.body, definition.body[1:], strict=False):
        match statement, after:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = inspect.cleandoc(text)
    return found


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _meaning(entry: Entry) -> str:
    text = " ".join(entry.meaning.split()).replace("|", "\\|")
    return text if entry.has_effect else f"*No effect yet.* {text}"


def _default(key: Key) -> str:
    value = key.field.get_default()
    readers = [mark.func for mark in key.field.metadata if isinstance(mark, BeforeValidator)]
    if key.field.is_required() or value is None or value == ():
        return ""
    if read_duration in readers:
        return written_duration(value)
    if read_size in readers:
        return written_size(value)
    if read_mode in readers:
        return f"{value:04o}"
    return _scalar(value)


def _scalar(value: Any) -> str:
    if isinstance(value, HostType):
        return value.name.lower()
    return str(value).lower() if isinstance(value, bool) else str(value)


def written_duration(seconds: Seconds) -> str:
    """`1h 5m` for 3900; exact to the millisecond."""
    rest = round(seconds * 1000)
    parts = []
    for unit, length in _DURATION_UNITS:
        count, rest = divmod(rest, length)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts) or "0s"


def written_size(count: Bytes) -> str:
    """`4MiB` for 4194304, `50GB` for 50000000000, bytes where no unit fits exactly."""
    for unit, length in _SIZE_UNITS:
        if count and count % length == 0:
            return f"{count // length}{unit}"
    return str(count)
