"""The index of the store: which tasks and which finished pieces there are, in SQLite, written behind.

Changes are queued in order by whoever makes them and written by one thread, a batch in a transaction. A crash loses at
most the last LINGER seconds of records, and a lost record only means fetching a piece again: bytes are always on disk
before their record is queued. A record whose task was removed cannot come back, because the order of the queue is kept:
a batch that could not be written, for want of room on the disk say, stays at its head and is tried again.
The leaves of pieces have a table of their own, read only when somebody asks: they are larger than all the rest.
An index that cannot be read is set aside and a new one begun; a cache may be lost, a daemon must start.
"""

import json
import logging
import os
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from threading import Condition, Lock, Thread
from time import monotonic
from typing import Any, Final

from dragonfly.core.model.ids import TaskId, TaskKey
from dragonfly.core.model.piece import Piece, PieceGeometry, PieceNumber
from dragonfly.core.model.principal import TenantScope
from dragonfly.core.model.units import Bytes, Seconds
from dragonfly.errors import DragonflyError, StorageError, StorageUnusable
from dragonfly.storage.directory import FILE_MODE
from dragonfly.storage.ledger import TaskRecord
from dragonfly.storage.store import OriginFacts

log = logging.getLogger(__name__)

LINGER: Final[Seconds] = 0.05  # how long a change may wait for company
FLUSH_TIMEOUT: Final[Seconds] = 30.0
RETRY_AFTER: Final[Seconds] = 1.0  # the pause after a batch that could not be written
_SCHEMA_VERSION = 2
_SCHEMA = f"""
CREATE TABLE task (
    wire_id TEXT PRIMARY KEY, scope TEXT NOT NULL, task_id TEXT NOT NULL,
    content_length INTEGER NOT NULL, piece_length INTEGER NOT NULL, is_open INTEGER NOT NULL,
    is_sparse INTEGER NOT NULL, tells_length INTEGER NOT NULL, is_private INTEGER NOT NULL,
    url TEXT NOT NULL, tag TEXT NOT NULL, application TEXT NOT NULL,
    etag TEXT NOT NULL, last_modified TEXT NOT NULL, response_header TEXT NOT NULL,
    created_at REAL NOT NULL, updated_at REAL NOT NULL, finished_at REAL,
    modified_ns INTEGER, boot_id TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE piece (
    wire_id TEXT NOT NULL, number INTEGER NOT NULL, digest TEXT NOT NULL, parent_id TEXT, cost REAL NOT NULL,
    root BLOB NOT NULL,
    PRIMARY KEY (wire_id, number)
) WITHOUT ROWID;
CREATE TABLE leaves (
    wire_id TEXT NOT NULL, number INTEGER NOT NULL, hashes BLOB NOT NULL,
    PRIMARY KEY (wire_id, number)
);
PRAGMA user_version = {_SCHEMA_VERSION};
"""


_PUT_LEAVES = "INSERT OR REPLACE INTO leaves VALUES (?, ?, ?)"

_IMPOSSIBLE = (sqlite3.IntegrityError, sqlite3.ProgrammingError, UnicodeError, OverflowError)
"""What trying again does not help against."""

Change = tuple[str, tuple[Any, ...]]
_PieceRow = tuple[int, str, str | None, float, bytes]


class Metadata:
    """The index in one file, a Ledger. Thread-safe; what changes it returns at once."""

    def __init__(self, path: Path, file_mode: int = FILE_MODE) -> None:
        self._path = path
        self._database = _open_or_begin_anew(path, file_mode)
        self._reader = sqlite3.connect(path, check_same_thread=False)
        self._reading = Lock()  # one at a time asks `_reader`
        self._changed = Condition()
        self._pending: list[Change] = []
        self._young_leaves: dict[tuple[str, PieceNumber], bytes] = {}  # not in the database yet
        self._queued = self._written = 0  # changes ever queued, and of those the ones done with
        self._wanted = 0  # up to here somebody waits
        self._closing = False
        self._failure: sqlite3.Error | None = None  # of the last attempt
        self._failures = 0  # ever
        self._writer = Thread(target=self._write_all, name="storage-metadata", daemon=True)
        self._writer.start()

    def load(self) -> Iterator[tuple[TaskRecord, list[Piece]]]:
        """Every task, oldest first, with its pieces by number; one task's pieces at a time are in memory.

        A record that makes no sense is removed. To be called by whoever opened it, before others ask for leaves.
        """
        rows = self._reader.execute("SELECT * FROM task ORDER BY created_at").fetchall()
        for row in rows:
            try:
                wire_id, record = _record(row)
                pieces = self._reader.execute(
                    "SELECT number, digest, parent_id, cost, root FROM piece WHERE wire_id = ? ORDER BY number",
                    (wire_id,),
                )
                found = record, list(_pieces(record.geometry, pieces))
            except (ValueError, AssertionError, DragonflyError) as error:
                log.warning("a record of the storage index makes no sense: %s", error)
                self.remove_task(row[0])
            else:
                yield found

    def put_task(self, record: TaskRecord) -> None:
        """Add or replace a task's record; its pieces stay."""
        origin, geometry = record.origin, record.geometry
        row: tuple[object, ...] = (
            *(record.key.wire_id, record.key.scope, record.key.task_id),
            *(geometry.content_length, geometry.piece_length, geometry.is_open, record.is_sparse),
            *(origin.tells_length, origin.is_private),
            *(origin.url, origin.tag, origin.application, origin.etag, origin.last_modified),
            json.dumps(dict(origin.response_header)),
            *(record.created_at, record.updated_at, record.finished_at, record.modified_ns, record.boot_id),
        )
        self._queue((f"INSERT OR REPLACE INTO task VALUES ({', '.join('?' * len(row))})", row))

    def put_piece(self, wire_id: str, piece: Piece) -> None:
        """Add or replace the record of a piece whose bytes are in the file."""
        row = (wire_id, piece.number, piece.digest, piece.parent_id, piece.cost, piece.root)
        changes: list[Change] = [("INSERT OR REPLACE INTO piece VALUES (?, ?, ?, ?, ?, ?)", row)]
        if piece.leaves:
            changes.append((_PUT_LEAVES, (wire_id, piece.number, piece.leaves)))
        self._queue(*changes)

    def touch(self, wire_id: str, updated_at: Seconds) -> None:
        """Note when a task was last used."""
        self._queue(("UPDATE task SET updated_at = ? WHERE wire_id = ?", (updated_at, wire_id)))

    def remove_task(self, wire_id: str) -> None:
        """Forget a task and its pieces."""
        self._queue(*((f"DELETE FROM {table} WHERE wire_id = ?", (wire_id,)) for table in ("leaves", "piece", "task")))

    def remove_piece(self, wire_id: str, number: PieceNumber) -> None:
        """Forget one piece."""
        where = "WHERE wire_id = ? AND number = ?"
        self._queue(*((f"DELETE FROM {table} {where}", (wire_id, number)) for table in ("leaves", "piece")))

    def leaves(self, wire_id: str, number: PieceNumber) -> bytes:
        """The leaves of a piece; empty where there are none. Raises StorageError."""
        with self._changed:
            young = self._young_leaves.get((wire_id, number))
        if young is not None:
            return young
        try:
            with self._reading:
                found = self._reader.execute(
                    "SELECT hashes FROM leaves WHERE wire_id = ? AND number = ?", (wire_id, number)
                ).fetchone()
        except sqlite3.Error as error:
            raise StorageError(path=self._path, reason=str(error)) from error
        return bytes(found[0]) if found else b""

    def flush(self) -> None:
        """Wait until everything queued so far is in the database. Raises StorageError if it cannot be written."""
        with self._changed:
            goal, failures = self._queued, self._failures
            self._wanted = max(self._wanted, goal)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._written >= goal or self._failures > failures, FLUSH_TIMEOUT)
            if self._written < goal:
                reason = str(self._failure or "the index is too slow")
                raise StorageError(path=self._path, reason=reason) from self._failure

    def close(self) -> None:
        """Write what is pending and end. Raises StorageError if it could not be written."""
        try:
            self.flush()
        finally:
            with self._changed:
                self._closing = True
                self._changed.notify_all()
            self._writer.join(FLUSH_TIMEOUT)
            with self._reading:
                self._reader.close()
            self._database.close()

    def _queue(self, *changes: Change) -> None:
        with self._changed:
            if not self._pending:
                self._changed.notify_all()
            self._pending += changes
            self._queued += len(changes)
            for statement, row in changes:
                if statement is _PUT_LEAVES:
                    self._young_leaves[str(row[0]), row[1]] = row[2]

    def _write_all(self) -> None:
        while batch := self._next_batch():
            try:
                self._write(batch)
            except sqlite3.Error as error:
                if self._failure is None:
                    log.warning("the storage index cannot be written, for now: %s", error)
                self._keep_for_later(batch, error)
            else:
                self._done_with(batch)

    def _next_batch(self) -> list[Change]:
        """What to write next, after a pause that lets it grow; empty when closing."""
        with self._changed:
            self._changed.wait_for(lambda: self._pending or self._closing)
            until = monotonic() + (LINGER if self._failure is None else RETRY_AFTER)
            while not self._closing and self._wanted <= self._written and (left := until - monotonic()) > 0:
                self._changed.wait(left)
            if self._closing and self._failure is not None:
                return []  # it was tried once more by the flush before
            batch, self._pending = self._pending, []
            return batch

    def _keep_for_later(self, batch: list[Change], failure: sqlite3.Error) -> None:
        with self._changed:
            self._pending[:0] = batch
            self._failure = failure
            self._failures += 1
            self._wanted = self._written  # whoever waits for them is told
            self._changed.notify_all()

    def _done_with(self, batch: list[Change]) -> None:
        with self._changed:
            self._failure = None
            self._written += len(batch)
            for statement, row in batch:
                if statement is _PUT_LEAVES and self._young_leaves.get((str(row[0]), row[1])) is row[2]:
                    del self._young_leaves[str(row[0]), row[1]]
            self._changed.notify_all()

    def _write(self, batch: list[Change]) -> None:
        with self._database:  # one transaction
            for statement, row in batch:
                try:
                    self._database.execute(statement, row)
                except _IMPOSSIBLE as error:
                    log.error("a change of the storage index cannot be made: %s", error)


def _open_or_begin_anew(path: Path, mode: int) -> sqlite3.Connection:
    try:
        return _open(path, mode)
    except (sqlite3.Error, DragonflyError) as error:
        log.warning("the storage index %s is unreadable and begun anew: %s", path, error)
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    try:
        return _open(path, mode)
    except sqlite3.Error as error:
        raise StorageUnusable(path=path, reason=str(error)) from error


def _open(path: Path, mode: int) -> sqlite3.Connection:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, mode))  # for its rights
    database = sqlite3.connect(
        path, check_same_thread=False
    )  # used by one thread at a time: the loader, then the writer
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version == 0:
            database.executescript(_SCHEMA)
        elif version != _SCHEMA_VERSION:
            raise StorageError(path=path, reason=f"it has version {version}, this program writes {_SCHEMA_VERSION}")
        if database.execute("PRAGMA quick_check").fetchone() != ("ok",):
            raise StorageError(path=path, reason="it is damaged")
    except BaseException:
        database.close()
        raise
    return database


def _record(row: tuple[object, ...]) -> tuple[str, TaskRecord]:
    wire_id, scope, task_id, content_length, piece_length, is_open, is_sparse, *rest = row
    tells_length, is_private, *rest = rest
    url, tag, application, etag, last_modified, header, created_at, updated_at, finished_at, modified_ns, boot_id = rest
    origin = OriginFacts(
        url=str(url),
        tag=str(tag),
        application=str(application),
        etag=str(etag),
        last_modified=str(last_modified),
        response_header=json.loads(str(header)),
        tells_length=bool(tells_length),
        is_private=bool(is_private),
    )
    return str(wire_id), TaskRecord(
        key=TaskKey(TenantScope(str(scope)), TaskId(str(task_id))),
        geometry=PieceGeometry(_number(content_length), _number(piece_length), bool(is_open)),
        is_sparse=bool(is_sparse),
        origin=origin,
        created_at=_seconds(created_at),
        updated_at=_seconds(updated_at),
        finished_at=None if finished_at is None else _seconds(finished_at),
        modified_ns=None if modified_ns is None else _number(modified_ns),
        boot_id=str(boot_id),
    )


def _number(column: object) -> Bytes:
    assert isinstance(column, int)
    return column


def _seconds(column: object) -> Seconds:
    assert isinstance(column, float)
    return column


def _pieces(geometry: PieceGeometry, rows: Iterable[_PieceRow]) -> Iterable[Piece]:
    for number, digest, parent_id, cost, root in rows:
        if number < geometry.piece_count:
            span = geometry.span(PieceNumber(number))
            yield Piece(PieceNumber(number), span.start, span.length, digest, parent_id, cost, bytes(root))
