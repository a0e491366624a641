"""From a YAML file and `--set` overrides to one frozen settings tree, or one sentence about what is wrong.

Three passes. First the overrides are laid over the file's values. Then every key is compared with the keys the model
knows: an unknown one is an error that names its whole path and the known key it resembles, a known one without effect
is a warning. Last, pydantic checks the values; its errors are put into our words.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from dragonfly.errors import InvalidSettings
from dragonfly.settings.documents import described, parse, read_document
from dragonfly.settings.nearest import unknown_key
from dragonfly.settings.section import Key, Section, keys_of, walk
from dragonfly.settings.values import FROM_FILE
from dragonfly.settings.wanted import wanted

S = TypeVar("S", bound=Section)

Tree = dict[str, Any]
OVERRIDES = "--set"
"""What errors name instead of a file, where an override is wrong."""


@dataclass(frozen=True, slots=True)
class Loaded(Generic[S]):
    """A settings tree, and sentences about keys that were set in vain."""

    settings: S
    warnings: tuple[str, ...] = ()


def load(model: type[S], path: Path | None, overrides: Mapping[str, str] | None = None) -> Loaded[S]:
    """The settings in a file (None: the defaults), with dotted keys laid over them, their values as YAML texts.

    Raises InvalidSettings: the file is missing, not YAML, has unknown keys or values of the wrong kind.
    """
    origin = OVERRIDES if path is None else str(path)
    return build(model, read_document(path) if path else {}, overrides or {}, origin)


def build(model: type[S], tree: Mapping[str, Any], overrides: Mapping[str, str], origin: str) -> Loaded[S]:
    """As `load`, of values that are there already; `origin` is what errors call them."""
    merged, warnings = merge(model, tree, overrides, origin)
    return Loaded(_validated(model, merged, origin, overrides), warnings)


def merge(
    model: type[Section], tree: Mapping[str, Any], overrides: Mapping[str, str], origin: str
) -> tuple[Tree, tuple[str, ...]]:
    """The values with the overrides in place, as a file would say them, and warnings. Checks keys, not values."""
    merged, warnings = _checked(model, tree, origin)
    for dotted, text in overrides.items():
        warnings += _override(model, merged, dotted, text)
    return merged, tuple(dict.fromkeys(warnings))


def knows(model: type[Section], dotted: str) -> bool:
    """Whether a dotted key, as `--set` takes it, is one of this tree."""
    return _resolved(model, dotted) is not None


def has_effect(model: type[Section], dotted: str) -> bool:
    """Whether something reads this known key already. Raises KeyError for one that is not known."""
    return not {path: idle for path, _, idle in walk(model)}[dotted]


def _override(model: type[Section], tree: Tree, dotted: str, text: str) -> list[str]:
    """Lay one override over the tree; returns warnings."""
    names = _resolved(model, dotted)
    if names is None:
        raise unknown_key(OVERRIDES, dotted, model)
    nested: Any = parse(text, f"{OVERRIDES} {dotted}")
    for name in reversed(names):
        nested = {name: nested}
    checked, warnings = _checked(model, nested, OVERRIDES)
    for name in names[:-1]:
        checked = checked[name]
        if not isinstance(tree.get(name), dict):
            tree[name] = {}
        tree = tree[name]
    if names[-1] in checked:
        tree[names[-1]] = checked[names[-1]]
    else:  # a section set to nothing: its defaults
        tree.pop(names[-1], None)
    return warnings


def _resolved(model: type[Section], dotted: str) -> tuple[str, ...] | None:
    """The names on the way to a dotted key; what follows a free mapping is one name, dots and all. None if unknown."""
    section: type[Section] | None = model
    found: list[str] = []
    names = dotted.split(".")
    for place, name in enumerate(names):
        key = keys_of(section).get(name) if section else None
        if key is None:
            return None
        found.append(key.name)
        if key.mapping and place + 1 < len(names):
            return (*found, ".".join(names[place + 1 :]))
        section = None if key.many else key.section
    return tuple(found)


def _checked(section: type[Section], given: Mapping[Any, Any], origin: str) -> tuple[Tree, list[str]]:
    """The tree by proper names, without empty sections, and warnings. Raises InvalidSettings at an unknown key."""
    warnings: list[str] = []
    return _cleaned(_Walk(section, origin, warnings), section, given, "", False), warnings


@dataclass(frozen=True, slots=True)
class _Walk:
    model: type[Section]
    origin: str
    warnings: list[str]


def _cleaned(walk: _Walk, section: type[Section], given: Mapping[Any, Any], prefix: str, idle: bool) -> Tree:
    tree: Tree = {}
    for name, value in given.items():
        path = f"{prefix}{name}"
        key = keys_of(section).get(name) if isinstance(name, str) else None
        if key is None:
            raise unknown_key(walk.origin, path, walk.model)
        if key.name in tree:
            raise InvalidSettings(file=walk.origin, reason=f"{prefix}{key.name} is here twice, once as {path}")
        if key.section is not None and value is None and not key.many:
            continue  # a heading whose keys are all commented out
        tree[key.name] = _cleaned_value(walk, key, value, path, idle or key.idle)
    return tree


def _cleaned_value(walk: _Walk, key: Key, value: Any, path: str, idle: bool) -> Any:
    if key.section is not None and not key.many and isinstance(value, dict):
        return _cleaned(walk, key.section, value, f"{path}.", idle)
    if key.section is not None and key.many and isinstance(value, list) and value:
        return [
            _cleaned(walk, key.section, element, f"{path}[{index}].", idle) if isinstance(element, dict) else element
            for index, element in enumerate(value)
        ]
    if idle:
        walk.warnings.append(f"{path} is known but has no effect yet")
    return value


def _validated(model: type[S], tree: Tree, origin: str, overrides: Mapping[str, str]) -> S:
    try:
        return model.model_validate(tree, context=FROM_FILE)
    except ValidationError as error:
        reason, *others = _reasons(error)
        path = reason.partition(" ")[0]
        if any(path == dotted or path.startswith((f"{dotted}.", f"{dotted}[")) for dotted in overrides):
            origin = OVERRIDES
        more = f" (and {len(others)} more)" if others else ""
        raise InvalidSettings(file=origin, reason=reason + more) from error


def _reasons(error: ValidationError) -> Iterator[str]:
    for problem in error.errors(include_url=False):
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in problem["loc"]).lstrip(".")
        if problem["type"] == "missing":
            yield f"{path} is missing"
        else:
            yield f"{path} is {described(problem['input'])}, wanted {wanted(problem)}"
