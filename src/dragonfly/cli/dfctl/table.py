"""Stored tasks for people (a table, in colour on a terminal only) and for programs (JSON)."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from dragonfly.cli.dfctl.daemon import StoredTask
from dragonfly.cli.plain_text import plain
from dragonfly.core.model.units import Bytes, Seconds, format_size

HEADINGS = ("ID", "URL", "PIECE LENGTH", "CONTENT LENGTH", "STORED", "CREATED", "FINISHED", "UPDATED")


def as_json(value: StoredTask | Sequence[StoredTask]) -> str:
    """One object, or a list of them; times in ISO 8601, UTC."""
    found: Any = _fields(value) if isinstance(value, StoredTask) else [_fields(task) for task in value]
    return json.dumps(found, indent=2)


def as_text(tasks: Sequence[StoredTask]) -> str:
    """Columns parted by two spaces, so that tools can cut them."""
    rows = [HEADINGS, *map(_row, tasks)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def draw(tasks: Sequence[StoredTask]) -> None:
    """The same on a terminal, fitted to its width. Loads rich."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD)
    for heading in HEADINGS:
        is_number = heading in ("PIECE LENGTH", "CONTENT LENGTH", "STORED")
        table.add_column(heading, justify="right" if is_number else "left", overflow="fold")
    for task in tasks:
        table.add_row(*map(Text, _row(task)))
    Console().print(table)


def details(task: StoredTask) -> str:
    """One line for each thing known of a task."""
    cells = dict(zip(HEADINGS, _row(task), strict=True))
    cells |= {
        "TAG": plain(task.tag) or "-", "APPLICATION": plain(task.application) or "-", "FAILED": _time(task.failed_at),
        "UPLOADING": f"{task.uploading_pieces} pieces", "UPLOADED": f"{task.uploaded_pieces} pieces",
    }  # fmt: skip
    width = max(map(len, cells)) + 2
    return "\n".join(f"{name.ljust(width)}{value}" for name, value in cells.items())


def _row(task: StoredTask) -> tuple[str, ...]:
    lengths = (_size(task.piece_length), _size(task.content_length), _size(task.stored_length))
    times = (_time(task.created_at), _time(task.finished_at), _time(task.updated_at))
    return (plain(task.task_id), plain(task.url) or "-", *lengths, *times)


def _size(length: Bytes | None) -> str:
    return "-" if length is None else format_size(length)


def _time(at: Seconds | None) -> str:
    """In this host's time zone, as upstream writes it."""
    return "-" if at is None else datetime.fromtimestamp(at).strftime("%Y-%m-%d %H:%M:%S")


def _fields(task: StoredTask) -> dict[str, object]:
    times = ("created_at", "finished_at", "failed_at", "updated_at")
    return {name: _iso(value) if name in times else value for name, value in asdict(task).items()}


def _iso(at: Seconds | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat()
