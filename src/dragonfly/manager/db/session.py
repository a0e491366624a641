"""The connection to the database, and the two kinds of transaction on it.

Only SQLite so far. Its rules: many readers beside one writer (write-ahead log); whoever wants to write says so when the
transaction begins, and waits for the lock then (BEGIN IMMEDIATE), since a reader that starts to write fails at once
if another wrote meanwhile. The file is readable by its owner only: it will hold secrets.
"""

import asyncio
import os
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, event, exc
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine

from dragonfly.core.model.units import Seconds
from dragonfly.errors import Overloaded, StorageError
from dragonfly.manager.db import migrations

BUSY_TIMEOUT: Seconds = 10.0  # how long a writer waits for another process's transaction
CONNECTIONS = 4  # each is a thread of its own
_WRITES = "dragonfly_writes"


class Database:
    """Open with `await Database.open(path)`, close with `await database.close()`."""

    def __init__(self, path: Path, engine: AsyncEngine) -> None:
        self._path = path
        self._engine = engine
        self._writing_engine = engine.execution_options(**{_WRITES: True})
        self._writer = asyncio.Lock()  # our own writers queue here, in turn and without a connection each

    @classmethod
    async def open(cls, path: Path) -> "Database":
        """The database in the file `path`, made and brought up to date if need be. Raises StorageError."""
        await asyncio.to_thread(_prepare_file, path)
        database = cls(path, _engine(path))
        try:
            async with database._connection() as connection:
                await connection.run_sync(migrations.upgrade, path=str(path))
        except BaseException:
            await database.close()
            raise
        return database

    async def close(self) -> None:
        """Close every connection; the last one out folds the log into the file."""
        await self._engine.dispose()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        """One consistent view of all tables. Raises StorageError or Overloaded."""
        with _translated(self._path):
            async with AsyncSession(self._engine, expire_on_commit=False) as session:
                yield session

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncSession]:
        """The only writer until the block ends; commits then, rolls back on an error. Raises as `reading` does."""
        with _translated(self._path):
            async with (
                self._writer,
                AsyncSession(self._writing_engine, expire_on_commit=False) as session,
                session.begin(),
            ):
                yield session

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[AsyncConnection]:
        with _translated(self._path):
            async with self._writing_engine.begin() as connection:
                yield connection


class _translated:  # noqa: N801 - a context manager that reads as a word
    """Database errors as ours; errors of ours pass."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, exc.TimeoutError):
            raise Overloaded(reason="every database connection is in use") from error
        if isinstance(error, exc.DBAPIError) and not isinstance(error, exc.IntegrityError):
            raise StorageError(path=self._path, reason=str(error.orig)) from error


def _prepare_file(path: Path) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        path.chmod(0o600)  # also one that was made by hand; SQLite gives its side files the same mode
        _write_ahead(path)
    except OSError as error:
        raise StorageError(path=path, reason=f"{error.strerror}: {error.filename}") from error
    except sqlite3.Error as error:
        raise StorageError(path=path, reason=error) from error


def _write_ahead(path: Path) -> None:
    """Switch the file to a write-ahead log, which it keeps; needs the file alone, so it tries until BUSY_TIMEOUT."""
    deadline = time.monotonic() + BUSY_TIMEOUT
    while True:
        connection = sqlite3.connect(path, timeout=1.0)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)  # in a thread; another manager is starting on the same file
        finally:
            connection.close()


def _engine(path: Path) -> AsyncEngine:
    engine = create_async_engine(
        URL.create("sqlite+aiosqlite", database=str(path)),
        connect_args={"timeout": BUSY_TIMEOUT},
        pool_size=CONNECTIONS,
        max_overflow=0,
        pool_timeout=BUSY_TIMEOUT,
    )
    event.listen(engine.sync_engine, "connect", _configure)
    event.listen(engine.sync_engine, "begin", _begin)
    return engine


def _configure(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions begin where _begin says, tables included
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
