"""A YAML file, or a single YAML value, as plain values. Refuses what a person cannot have meant.

Raises InvalidSettings with the file's name and, where one is at fault, the line.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import yaml
from yaml.constructor import ConstructorError
from yaml.nodes import MappingNode, ScalarNode

from dragonfly.core.model.units import Bytes, MiB
from dragonfly.errors import InvalidSettings

LONGEST_FILE: Bytes = MiB
"""Far above any real settings file; a mistaken path is noticed before it fills the memory."""


class _Loader(yaml.CSafeLoader):
    """As SafeLoader, but a key that is said twice is an error: the second would silently win."""

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, ScalarNode):
                raise ConstructorError(None, None, "a key has to be text", key_node.start_mark)
            if key_node.value in seen:
                raise ConstructorError(None, None, f'the key "{key_node.value}" is here twice', key_node.start_mark)
            seen.add(key_node.value)
        return cast("dict[Any, Any]", super().construct_mapping(node, deep=deep))


def read_document(path: Path) -> Mapping[str, Any]:
    """The mapping in a file; empty where the file is."""
    tree = parse(_read(path), str(path))
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise InvalidSettings(file=path, reason=f"has to hold keys and values, and holds {described(tree)}")
    return tree


def parse(text: str, origin: str) -> Any:
    """The value a YAML text stands for; `origin` says in errors where the text is from."""
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}: " if mark else ""
        raise InvalidSettings(file=origin, reason=f"{where}{error.problem}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: the 31st of February as a date
        raise InvalidSettings(file=origin, reason=f"not YAML: {error}") from error


def described(given: object) -> str:
    """A value as an error shows it: scalars as written, containers (they can be endless) by what they are."""
    match given:
        case None:
            return "nothing"
        case bool():
            return str(given).lower()
        case str():
            return f'"{given}"' if len(given) <= 60 else f'"{given[:57]}..."'
        case dict():
            return "a mapping"
        case list() | tuple() | set():
            return "a list"
        case _:
            return str(given)


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(LONGEST_FILE + 1)
    except OSError as error:
        raise InvalidSettings(file=path, reason=f"cannot be read: {error.strerror}") from error
    if len(content) > LONGEST_FILE:
        raise InvalidSettings(file=path, reason="is larger than 1 MiB, so it is hardly a settings file")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidSettings(file=path, reason=f"is not UTF-8 text (byte {error.start})") from error
