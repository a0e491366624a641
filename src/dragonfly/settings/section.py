"""A section of a settings file: its keys, how they are spelled, and which of them have an effect.

A model's attribute is snake_case, its key in the file is what the reference calls it: camelCase, with the
abbreviations of `_ABBREVIATIONS` in capitals unless they come first (`scheduler_cluster_id`: `schedulerClusterID`).
In code a section is built by attribute (`StorageSettings(keep=False)`), in files only the key is known.
"""

import types
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import AliasChoices, BaseModel, ConfigDict
from pydantic.fields import FieldInfo

_ABBREVIATIONS = {
    "id": "ID",
    "ip": "IP",
    "ipv6": "IPv6",
    "db": "DB",
    "dns": "DNS",
    "gc": "GC",
    "tls": "TLS",
    "ttl": "TTL",
}


def spelled(attribute: str) -> str:
    """The key of an attribute: `task_ttl` is `taskTTL`."""
    first, *others = attribute.split("_")
    return first + "".join(_ABBREVIATIONS.get(word, word.capitalize()) for word in others)


class Section(BaseModel):
    """A part of a settings file. Frozen; what it does not know is refused."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=spelled,
        validate_by_name=True,
        validate_by_alias=True,
        hide_input_in_errors=True,  # a setting can be a password
    )


class NoEffectYet:
    """The mark of a key that is known, so that reference files load, and that nothing reads so far."""


T = TypeVar("T")
Idle = Annotated[T, NoEffectYet()]
"""`Idle[int]` is an int that has no effect yet; an `Idle[SomeSection]` has none below it either."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a section. `section` is set where the value is one, `many` where it is a list of them."""

    name: str
    others: tuple[str, ...]  # other spellings that are accepted
    attribute: str
    field: FieldInfo
    section: type[Section] | None
    many: bool
    mapping: bool  # the value's own keys are free text
    idle: bool


@cache
def keys_of(section: type[Section]) -> dict[str, Key]:
    """The keys a section knows, by every accepted spelling; the proper one comes first."""
    keys = [_key(attribute, field) for attribute, field in section.model_fields.items()]
    return {name: key for key in keys for name in (key.name, *key.others)}


def walk(section: type[Section], prefix: str = "", *, idle: bool = False) -> Iterator[tuple[str, Key, bool]]:
    """Every key below a section as (dotted path, key, has no effect), sections before what is in them."""
    for name, key in keys_of(section).items():
        if name != key.name:
            continue
        path, is_idle = prefix + name, idle or key.idle
        yield path, key, is_idle
        if key.section is not None:
            yield from walk(key.section, path + ("[]." if key.many else "."), idle=is_idle)


def _key(attribute: str, field: FieldInfo) -> Key:
    choices = field.validation_alias
    names = [str(name) for name in choices.choices] if isinstance(choices, AliasChoices) else [str(choices)]
    section, many = _section_within(field.annotation)
    return Key(
        name=names[0],
        others=tuple(names[1:]),
        attribute=attribute,
        field=field,
        section=section,
        many=many,
        mapping=get_origin(_without_none(field.annotation)) is dict,
        idle=any(isinstance(mark, NoEffectYet) for mark in field.metadata),
    )


def _section_within(annotation: Any) -> tuple[type[Section] | None, bool]:
    inner = _without_none(annotation)
    if isinstance(inner, type) and issubclass(inner, Section):
        return inner, False
    if get_origin(inner) is tuple:
        return _section_within(get_args(inner)[0])[0], True
    return None, False


def _without_none(annotation: Any) -> Any:
    if get_origin(annotation) in (Union, types.UnionType):
        others = [option for option in get_args(annotation) if option is not type(None)]
        return others[0] if len(others) == 1 else annotation
    return annotation
