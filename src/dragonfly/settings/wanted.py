"""What pydantic expected, in words that complete "is X, wanted …"."""

from collections.abc import Callable, Mapping
from typing import Any

from pydantic_core import ErrorDetails

_WORDS: Mapping[str, str] = {
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "text (put it in quotes)",
    "path_type": "a path",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}
_WITH_LIMITS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "greater_than": lambda limits: f"more than {limits['gt']:g}",
    "greater_than_equal": lambda limits: f"{limits['ge']:g} or more",
    "less_than": lambda limits: f"less than {limits['lt']:g}",
    "less_than_equal": lambda limits: f"{limits['le']:g} or less",
    "string_too_short": lambda limits: f"at least {limits['min_length']} characters",
    "string_too_long": lambda limits: f"at most {limits['max_length']} characters",
    "literal_error": lambda limits: f"one of {limits['expected']}".replace("'", ""),
    "unwanted": lambda limits: str(limits["wanted"]),
}


def wanted(problem: ErrorDetails) -> str:
    """What would have been right in place of a refused value."""
    kind = problem["type"]
    if kind in _WORDS:
        return _WORDS[kind]
    if kind in _WITH_LIMITS:
        return _WITH_LIMITS[kind](problem.get("ctx", {}))
    return problem["msg"]
