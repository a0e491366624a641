"""What dfget writes: sentences to stderr, lines of JSON to stdout. A stream that is gone is not worth failing for."""

import json
import sys
from contextlib import suppress

from dragonfly.cli.plain_text import plain, say
from dragonfly.cli.progress import Progress, Traffic


def write_json(value: dict[str, object]) -> None:
    """One line on stdout."""
    if sys.stdout is not None:
        with suppress(OSError):
            print(json.dumps(value), flush=True)


def write_summary(line: str) -> None:
    """One line on stderr."""
    if sys.stderr is not None:
        with suppress(OSError):
            print(plain(line), file=sys.stderr, flush=True)


def traffic(progress: Progress) -> dict[str, object]:
    """Where the bytes came from, for JSON."""
    return {
        "bytes_from_peers": progress.of(Traffic.PEERS),
        "bytes_from_origin": progress.of(Traffic.ORIGIN),
        "bytes_from_local": progress.of(Traffic.LOCAL),
    }


def shows_bar(*, no_progress: bool) -> bool:
    """Whether there is somebody to look at a bar."""
    return not no_progress and sys.stderr is not None and sys.stderr.isatty()


def say_all(sentences: tuple[str, ...]) -> None:
    """Each on a line of its own."""
    for sentence in sentences:
        say(sentence)
