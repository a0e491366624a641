"""Applications as values. A stored priority is {"value": 0-6, "urls": [{"regex": "...", "value": 0-6}]}."""

from dataclasses import dataclass

from dragonfly.core.model.task import Priority
from dragonfly.manager.clusters.model import JsonObject


@dataclass(frozen=True, slots=True)
class UrlPriority:
    """The priority of downloads whose URL matches."""

    regex: str
    value: Priority


@dataclass(frozen=True, slots=True)
class ApplicationPriority:
    """The first URL pattern that matches decides, then `value`."""

    value: Priority
    urls: tuple[UrlPriority, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """A name that downloads carry."""

    id: int
    name: str
    url: str
    bio: str
    priority: ApplicationPriority


def priority_from(stored: JsonObject) -> ApplicationPriority | None:
    """A priority as it was stored; None where there is none to speak of. What makes no sense is left out."""
    value = _level(stored.get("value"))
    if value is None:
        return None
    urls = stored.get("urls")
    found = (_url_priority(each) for each in urls) if isinstance(urls, list) else ()
    return ApplicationPriority(value, tuple(each for each in found if each is not None))


def _url_priority(stored: object) -> UrlPriority | None:
    if not isinstance(stored, dict):
        return None
    regex, value = stored.get("regex"), _level(stored.get("value"))
    return UrlPriority(regex, value) if isinstance(regex, str) and value is not None else None


def _level(stored: object) -> Priority | None:
    if isinstance(stored, bool) or not isinstance(stored, int) or stored not in set(Priority):
        return None
    return Priority(stored)
