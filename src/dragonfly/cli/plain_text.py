"""Text that is safe to put on somebody's terminal, though a stranger's server wrote part of it."""

import sys
from contextlib import suppress


def plain(text: str) -> str:
    """One line without control characters: `\\x1b`, newlines and lone surrogates are shown as escapes, not sent."""
    return "".join(character if character.isprintable() else _escape(character) for character in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def say(sentence: str, program: str = "dfget") -> None:
    """`<program>: <sentence>` on stderr; a stderr that is gone is not worth failing for."""
    if sys.stderr is not None:  # None: the caller closed it
        with suppress(OSError):
            print(f"{program}: {plain(sentence)}", file=sys.stderr, flush=True)
