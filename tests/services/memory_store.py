"""A piece store over one memfd: what the piece server and client need of a TaskStore, and nothing else.

It keeps the contract to the letter where transports depend on it: a watermark that grows leaf by leaf and never falls,
a claimed digest that followers see at once, writers that can start over.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Condition
from types import TracebackType
from typing import Self
from zlib import crc32

from blake3 import blake3

from dragonfly.core.model.ids import TaskKey
from dragonfly.core.model.piece import LEAF_LENGTH, Piece, PieceGeometry, PieceNumber, PieceSet
from dragonfly.core.model.units import Bytes, Seconds
from dragonfly.errors import PieceDigestMismatch, PieceLengthMismatch, PieceNotFound, TaskNotFound
from dragonfly.storage.store import OriginFacts, StoredTask


def leaves_of(content: bytes) -> bytes:
    """The hashes of a piece's leaves, one after the other."""
    return b"".join(
        blake3(content[start : start + LEAF_LENGTH]).digest() for start in range(0, len(content), LEAF_LENGTH)
    )


def root_of(leaves: bytes) -> bytes:
    return blake3(leaves).digest()


@dataclass(slots=True)
class Growth:
    """A piece from its claim on, as followers see it."""

    digest: str = ""
    watermark: Bytes = 0
    is_over: bool = False  # kept, or given up
    piece: Piece | None = None


@dataclass(slots=True)
class Task:
    geometry: PieceGeometry
    fd: int
    pieces: dict[PieceNumber, Piece] = field(default_factory=dict)
    growing: dict[PieceNumber, Growth] = field(default_factory=dict)


class MemoryStore:
    """Tasks in memory. Close it."""

    def __init__(self) -> None:
        self.changed = Condition()
        self._tasks: dict[TaskKey, Task] = {}
        self._fds: list[int] = []

    def close(self) -> None:
        for fd in self._fds:
            os.close(fd)

    def create(self, key: TaskKey, geometry: PieceGeometry) -> None:
        fd = os.memfd_create("pieces")
        os.truncate(fd, geometry.content_length)
        self._fds.append(fd)
        self._tasks[key] = Task(geometry, fd)

    def find(self, wire_id: str) -> TaskKey | None:
        return next((key for key in self._tasks if key.wire_id == wire_id), None)

    def get(self, key: TaskKey) -> StoredTask | None:
        task = self._tasks.get(key)
        if task is None:
            return None
        return StoredTask(
            key=key,
            geometry=task.geometry,
            origin=OriginFacts(url="memory://"),
            pieces=PieceSet(task.pieces),
            created_at=0.0,
            updated_at=0.0,
        )

    def pieces(self, key: TaskKey) -> list[Piece]:
        return [piece for _, piece in sorted(self.task(key).pieces.items())]

    def content(self, key: TaskKey) -> bytes:
        task = self.task(key)
        return os.pread(task.fd, task.geometry.content_length, 0)

    def delete(self, key: TaskKey) -> None:
        del self._tasks[key]

    def task(self, key: TaskKey) -> Task:
        if key not in self._tasks:
            raise TaskNotFound(task_id=key.wire_id)
        return self._tasks[key]

    def claim(self, key: TaskKey, number: PieceNumber) -> "Writer":
        with self.changed:
            task = self.task(key)
            if number in task.pieces or number in task.growing:
                raise FileExistsError(number)
            task.growing[number] = Growth()
            return Writer(self, task, number)

    def open_piece(self, key: TaskKey, number: PieceNumber, *, wait: Seconds = 0.0) -> "Reader":
        task = self.task(key)
        if number not in task.pieces:
            raise PieceNotFound(number=number, task_id=key.wire_id)
        return Reader(task.fd, task.pieces[number])

    def follow_piece(self, key: TaskKey, number: PieceNumber, *, wait: Seconds = 0.0) -> "Follower":
        with self.changed:
            task = self.task(key)
            piece = task.pieces.get(number)
            if piece is not None:
                return Follower(self, task, number, Growth(piece.digest, piece.length, True, piece))
            if number not in task.growing:
                raise PieceNotFound(number=number, task_id=key.wire_id)
            return Follower(self, task, number, task.growing[number])


class Leaving:
    """A context manager that has nothing to give back."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return


class Reader(Leaving):
    def __init__(self, fd: int, piece: Piece) -> None:
        self.fd, self.piece, self.position = fd, piece, piece.offset


class Follower(Leaving):
    def __init__(self, store: MemoryStore, task: Task, number: PieceNumber, growth: Growth) -> None:
        span = task.geometry.span(number)
        self.fd, self.number, self.position, self.length = task.fd, number, span.start, span.length
        self._store, self._growth = store, growth

    @property
    def digest(self) -> str:
        return self._growth.digest

    def wait_beyond(self, count: Bytes, timeout: Seconds) -> Bytes:
        growth = self._growth
        with self._store.changed:
            self._store.changed.wait_for(lambda: growth.is_over or growth.watermark > count, timeout)
            if growth.is_over and growth.piece is None and growth.watermark <= count:
                raise PieceNotFound(number=self.number, task_id="?")
            return growth.watermark


class Writer:
    def __init__(self, store: MemoryStore, task: Task, number: PieceNumber) -> None:
        span = task.geometry.span(number)
        self.number, self.offset, self.length = number, span.start, span.length
        self._store, self._task, self._growth = store, task, task.growing[number]
        self._content = bytearray()
        self._leaves, self._is_certain = b"", False

    @property
    def remaining(self) -> Bytes:
        return self.length - len(self._content)

    def restart(self, *, leaves: bytes = b"", digest: str = "", is_certain: bool = False) -> None:
        with self._store.changed:
            self._content.clear()
            self._leaves, self._is_certain, self._growth.digest = leaves, is_certain, digest
            self._store.changed.notify_all()

    def write(self, view: memoryview) -> None:
        if len(view) > self.remaining:
            raise PieceLengthMismatch(number=self.number, got=len(self._content) + len(view), expected=self.length)
        os.pwrite(self._task.fd, view, self.offset + len(self._content))
        self._content += view
        certain = len(self._content) if self._is_certain else self._proven() if self._leaves else 0
        with self._store.changed:
            self._growth.watermark = max(self._growth.watermark, certain)
            self._store.changed.notify_all()

    def _proven(self) -> Bytes:
        is_full = self.remaining == 0
        count = len(self._content) if is_full else len(self._content) // LEAF_LENGTH * LEAF_LENGTH
        got = leaves_of(bytes(self._content[:count]))
        if self._leaves[: len(got)] != got:
            raise PieceDigestMismatch(number=self.number, got=got.hex(), expected=self._leaves.hex())
        return count

    def commit(self, *, parent_id: str | None, cost: Seconds, expected_digest: str = "", root: bytes = b"") -> Piece:
        if self.remaining:
            raise PieceLengthMismatch(number=self.number, got=len(self._content), expected=self.length)
        content = bytes(self._content)
        digest, leaves = f"crc32:{crc32(content)}", leaves_of(content)
        if expected_digest and expected_digest != digest:
            raise PieceDigestMismatch(number=self.number, got=digest, expected=expected_digest)
        if root and root_of(leaves) != root:
            raise PieceDigestMismatch(number=self.number, got=root_of(leaves).hex(), expected=root.hex())
        piece = Piece(
            self.number, self.offset, self.length, digest, parent_id, cost, root=root_of(leaves), leaves=leaves
        )
        with self._store.changed:
            self._task.pieces[self.number] = piece
            self._growth.digest, self._growth.piece = digest, piece
            self._growth.watermark, self._growth.is_over = self.length, True
            self._store.changed.notify_all()
        return piece

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._store.changed:
            self._growth.is_over = True
            self._task.growing.pop(self.number, None)
            self._store.changed.notify_all()


@contextmanager
def memory_store() -> Iterator[MemoryStore]:
    store = MemoryStore()
    try:
        yield store
    finally:
        store.close()
