"""Which known key an unknown one was probably meant to be."""

import re
from difflib import SequenceMatcher

from dragonfly.errors import InvalidSettings
from dragonfly.settings.section import Section, walk

_NEAR = 0.72  # below it suggestions mislead: measured on slips and on keys of other programs, see the tests


def unknown_key(origin: str, path: str, *models: type[Section]) -> InvalidSettings:
    """The refusal of a key; it suggests a known one of these trees where one is near."""
    near = nearest(path, *models)
    hint = f'; did you mean "{near}"?' if near else ""
    return InvalidSettings(file=origin, reason=f'unknown key "{path}"{hint}')


def nearest(path: str, *models: type[Section]) -> str | None:
    """The known key that resembles `path` most, wherever in the trees it is; None if none does."""
    plain = re.sub(r"\[\d+\]", "[]", path).lower()
    known = [candidate for model in models for candidate, _, _ in walk(model)]
    best = max(known, key=lambda candidate: _likeness(plain, candidate.lower()), default=None)
    return best if best is not None and _likeness(plain, best.lower()) >= _NEAR else None


def _likeness(given: str, known: str) -> float:
    """0 to 1. The last name counts most: people forget where a key belongs more often than what it is called."""
    last = SequenceMatcher(None, given.rpartition(".")[2], known.rpartition(".")[2]).ratio()
    whole = SequenceMatcher(None, given, known).ratio()
    return 0.6 * last + 0.4 * whole
