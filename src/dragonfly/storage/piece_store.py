"""The tables every store has, whatever its files lie on: tasks, their pieces, who uses them, how much room they take.

                claim               commit                     all committed, finish
    absent ───────────► in flight ──────────► piece  ~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~► finished task
       ▲                    │ left without commit             its file's mtime is noted; if it changes, the task goes
       └────────────────────┘

Invariants:
- one writer for each piece at a time; only its commit makes the piece visible, and who waits for it is told then;
- bytes are in the file before their record is queued, so while the kernel runs no record is ahead of its bytes;
- room is taken before bytes: for a whole task at its creation, for a sparse one piece by piece at the first claim, and
  kept from then on, so that a claim taken over needs nothing new;
- a finished file may be hard-linked by its user and edited in place: size and mtime tell, and the task is dropped;
- whoever writes, reads, follows or pins is a user of the task; only a task without users is evicted.

One lock guards the tables; it is never held during I/O, and a writer's `write` does not take it. `_busy` holds the keys
whose file is being made or removed, so a file of the same name is never both.
"""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Condition, Lock
from typing import Final

from dragonfly.core.model.digest import Digest
from dragonfly.core.model.ids import TaskKey
from dragonfly.core.model.piece import Piece, PieceGeometry, PieceNumber, PieceSet
from dragonfly.core.model.ranges import ByteRange
from dragonfly.core.model.units import Bytes, Seconds
from dragonfly.errors import DiskFull, PieceNotFound, StorageError, TaskNotFound
from dragonfly.storage import room
from dragonfly.storage.checksum import crc32_of_file
from dragonfly.storage.entry import TaskEntry
from dragonfly.storage.in_flight import InFlight
from dragonfly.storage.leaves import has_root
from dragonfly.storage.ledger import Ledger
from dragonfly.storage.medium import Medium
from dragonfly.storage.os_errors import storage_error
from dragonfly.storage.piece_io import FilePieceFollower, FilePieceReader, FilePieceWriter
from dragonfly.storage.store import OriginFacts, PieceFollower, PieceReader, PieceWriter, StoredTask, Usage

log = logging.getLogger(__name__)

RECORD_USE_EVERY: Final[Seconds] = 60.0  # so much of a task's last use may be forgotten in a crash


class PieceStore:
    """A TaskStore of files on a medium, noted down in a ledger. `clock` gives Unix seconds."""

    def __init__(
        self, medium: Medium, ledger: Ledger, *, hashes_leaves: bool, boot_id: str, clock: Callable[[], Seconds]
    ) -> None:
        self._medium, self._ledger = medium, ledger
        self._hashes_leaves = hashes_leaves
        self._boot_id = boot_id
        self._clock = clock
        self._lock = Lock()
        self._not_busy = Condition(self._lock)
        self._tasks: dict[TaskKey, TaskEntry] = {}
        self._keys: dict[str, TaskKey] = {}
        self._busy: set[TaskKey] = set()
        self._stored: Bytes = 0  # the room of all tasks, and what is being taken for one right now
        self._closed = False

    # --- looking

    def tasks(self) -> list[StoredTask]:
        """Everything stored, oldest first."""
        with self._lock:
            return sorted((task.snapshot() for task in self._tasks.values()), key=lambda task: task.created_at)

    def get(self, key: TaskKey) -> StoredTask | None:
        """One task; None where it is not stored."""
        with self._lock:
            task = self._tasks.get(key)
            return task.snapshot() if task else None

    def find(self, wire_id: str) -> TaskKey | None:
        """The task that other processes name by `wire_id`."""
        return self._keys.get(wire_id)

    def pieces(self, key: TaskKey) -> list[Piece]:
        """The finished pieces, by number, without their leaves. Raises TaskNotFound."""
        with self._lock:
            task = self._task(key)
            have, geometry = task.have | PieceSet(), task.geometry
        return list(task.table.some(have, geometry))

    def leaves(self, key: TaskKey, number: PieceNumber) -> bytes:
        """The hashes of a finished piece's leaves; empty where they were not computed.

        Raises TaskNotFound, PieceNotFound, StorageError.
        """
        with self._lock:
            if number not in self._task(key).have:
                raise PieceNotFound(number=number, task_id=key.wire_id)
        return self._ledger.leaves(key.wire_id, number)

    def usage(self) -> Usage:
        """What the store takes and what is left. Raises StorageError."""
        with self._lock:
            stored, task_count = self._stored, len(self._tasks)
        capacity, free = self._figures(stored)
        return Usage(stored=stored, task_count=task_count, capacity=capacity, free=free)

    # --- coming and going

    def create(self, key: TaskKey, geometry: PieceGeometry, origin: OriginFacts, *, sparse: bool = False) -> StoredTask:
        """Make room for a task. FileExistsError if stored.

        Raises DiskFull, StorageError; InvalidIdentifier for a key whose wire id is not 64 hex characters.
        """
        file = self._medium.file(key.wire_id)
        sparse |= geometry.is_open
        self._hold(key)
        try:
            if key in self._tasks:
                raise FileExistsError(file.path)
            needed = 0 if sparse else geometry.content_length
            with self._room_for(needed, file.path):
                self._medium.create(file, 0 if geometry.is_open else geometry.content_length, sparse=sparse)
            now = self._clock()
            task = TaskEntry(
                key, geometry, origin, file, created_at=now, updated_at=now, is_sparse=sparse, boot_id=self._boot_id
            )
            with self._lock:
                self._tasks[key] = task
                self._keys[key.wire_id] = key
                self._ledger.put_task(task.record())
                return task.snapshot()
        finally:
            self._let_go(key)

    def settle_length(self, key: TaskKey, content_length: Bytes) -> StoredTask:
        """Close the geometry of a task whose length is known now. Raises TaskNotFound, StorageError."""
        with self._lock:
            task = self._task(key)
            if not task.geometry.is_open:
                if task.geometry.content_length != content_length:
                    reason = f"its length is {task.geometry.content_length} bytes, not {content_length}"
                    raise StorageError(path=task.file.path, reason=reason)
                return task.snapshot()
            inside = PieceSet.full(content_length // task.geometry.piece_length)
            if task.have - inside:
                reason = f"pieces lie behind its end of {content_length} bytes"
                raise StorageError(path=task.file.path, reason=reason)
            before = task.room
            task.close_geometry(content_length)
            self._stored += task.room - before
            self._ledger.put_task(task.record())
            snapshot = task.snapshot()
            task.users += 1
        with self._used(task) as fd:
            os.ftruncate(fd, content_length)
        return snapshot

    def finish(self, key: TaskKey) -> StoredTask:
        """Mark a task whose pieces are all here as complete. Raises TaskNotFound; StorageError if some are missing."""
        with self._lock:
            task = self._task(key)
            if task.finished_at is not None:
                return task.snapshot()
            if task.geometry.is_open or len(task.have) != task.geometry.piece_count:
                raise StorageError(path=task.file.path, reason="a task with missing pieces cannot be finished")
            task.users += 1
        with self._used(task) as fd:
            if os.fstat(fd).st_size > task.geometry.content_length:  # a claim behind the end of an open task
                os.ftruncate(fd, task.geometry.content_length)
            modified_ns = os.fstat(fd).st_mtime_ns
        with self._lock:
            if self._tasks.get(key) is not task:
                raise _task_not_found(key)
            task.finish(modified_ns, self._boot_id, self._clock())
            self._ledger.put_task(task.record())
            snapshot = task.snapshot()
        try:
            self._ledger.flush()
        except StorageError as error:  # the content is whole all the same; only a restart would not know
            log.warning("task %s is finished, which is not written down yet: %s", key.wire_id, error)
        return snapshot

    def delete(self, key: TaskKey) -> None:
        """Forget a task and its bytes; open readers keep theirs. Unknown tasks are no error."""
        self._remove(key, lambda task: True)

    def evict(self, key: TaskKey) -> Bytes:
        """Delete a task unless it is in use; the bytes that gives back. Raises StorageError."""
        return self._remove(key, lambda task: task.users == 0)

    @contextmanager
    def pin(self, key: TaskKey) -> Iterator[None]:
        """Keep the task from being evicted for a while. Raises TaskNotFound."""
        with self._lock:
            task = self._task(key)
            task.users += 1
        try:
            yield
        finally:
            self._leave(task)

    def cool(self, key: TaskKey) -> None:
        """Let the operating system drop a task's bytes from its page cache. Raises StorageError."""
        with self._lock:
            task = self._tasks.get(key)
            if task is None:
                return
            task.users += 1
        with suppress(TaskNotFound), self._used(task) as fd:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def close(self) -> None:
        """Write down what is pending; the store cannot be used afterwards. Closing again does nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            for task in self._tasks.values():
                if task.updated_at > task.recorded_use:
                    self._ledger.touch(task.key.wire_id, task.updated_at)
                for flight in task.in_flight.values():
                    flight.leave_task()
            self._tasks.clear()
            self._keys.clear()
        try:
            self._ledger.close()
        finally:
            self._medium.close()

    # --- pieces

    def is_intact(self, key: TaskKey, number: PieceNumber) -> bool:
        """Read a finished piece: whether it still has its checksum, and its root where one is recorded.

        No use of the task. A piece that cannot be read any more is not intact.
        Raises TaskNotFound, PieceNotFound, StorageError where the file cannot be opened.
        """
        with self._lock:
            task = self._task_with(key, number)
            piece = task.piece(number)
            if piece is None:
                raise PieceNotFound(number=number, task_id=key.wire_id)
            task.users += 1
        with self._used(task) as fd:
            try:
                return has_checksum(fd, piece) and has_root(fd, piece)
            except OSError as error:
                log.warning("piece %d of %s cannot be read: %s", number, task.file.path, error)
                return False

    def claim(self, key: TaskKey, number: PieceNumber) -> PieceWriter:
        """Become the one writer of a piece. FileExistsError if it is finished or claimed.

        Raises TaskNotFound; PieceNotFound for a number the task does not have; DiskFull, StorageError.
        """
        with self._lock:
            task = self._task_with(key, number)
            flight = self._flight(task, number)
            if number in task.have or flight.has_writer:
                raise FileExistsError(f"piece {number} of {task.file.path}")
            task.in_flight[number] = flight
            flight.take()
            task.users += 1
            span = task.geometry.span(number)
        try:
            fd = self._open(task)
            try:
                self._take_room(task, number, fd, span)
            except BaseException:
                self._medium.release(task.file)
                raise
        except BaseException:
            self._give_back(task, flight)
            raise
        return FilePieceWriter(
            fd,
            flight,
            span.start,
            path=task.file.path,
            hashes_leaves=self._hashes_leaves,
            keep=lambda piece: self._keep(task, flight, piece),
            leave=lambda: self._give_back(task, flight, is_open=True),
        )

    def open_piece(self, key: TaskKey, number: PieceNumber, *, wait: Seconds = 0.0) -> PieceReader:
        """A finished piece. One that is being written is waited for at most `wait` seconds.

        Raises TaskNotFound, PieceNotFound.
        """
        if wait > 0:
            with self._lock:
                flight = self._task_with(key, number).in_flight.get(number)
            if flight is not None:
                flight.wait_for_end(wait)
        with self._lock:
            task = self._task_with(key, number)
            piece = task.piece(number)
            if piece is None:
                raise PieceNotFound(number=number, task_id=key.wire_id)
            self._use(task)
        fd = self._open_used(task, piece)
        return FilePieceReader(fd, piece, lambda: self._leave(task, is_open=True))

    def follow_piece(self, key: TaskKey, number: PieceNumber, *, wait: Seconds = 0.0) -> PieceFollower:
        """A piece that is here or being written; one nobody writes is waited for at most `wait` seconds.

        Raises TaskNotFound, PieceNotFound.
        """
        with self._lock:
            task = self._task_with(key, number)
            piece = task.piece(number)
            flight = self._flight(task, number)
            if piece is None and not flight.has_writer and wait <= 0:
                raise PieceNotFound(number=number, task_id=key.wire_id)
            if piece is None:
                task.in_flight[number] = flight
            else:
                flight = InFlight.kept(key.wire_id, number, piece.length, piece.digest)
            flight.follow()
            self._use(task)
        try:
            if not flight.wait_for_writer(wait):
                with self._lock:
                    self._task(key)
                raise PieceNotFound(number=number, task_id=key.wire_id)
        except BaseException:
            self._unfollow(task, flight)
            raise
        try:
            fd = self._open_used(task, piece)
        except BaseException:
            self._forget_follower(task, flight)
            raise
        offset = number * task.geometry.piece_length
        return FilePieceFollower(fd, flight, offset, lambda: self._unfollow(task, flight, is_open=True))

    def content_path(self, key: TaskKey, span: ByteRange | None = None) -> Path:
        """The file that holds the whole content of a finished task, or at least `span` of it. Raises TaskNotFound."""
        with self._lock:
            task = self._task(key)
            wanted = _pieces_in(span, task.geometry) if span else task.have | PieceSet()
            if (task.finished_at is None and span is None) or wanted - task.have:
                raise _task_not_found(key)
            end = min(span.end, task.geometry.content_length) if span else task.geometry.content_length
            unproven = [piece for number in wanted & task.unproven if (piece := task.piece(number))]
            self._use(task)
        with self._used(task) as fd:
            try:
                facts = self._medium.stat(task.file)
            except OSError as error:
                raise self._lost(task) from error
            self._check(task, facts, end)
            for piece in unproven:
                self._prove(task, fd, piece)
            return self._medium.path(task.file)

    # --- what writers, readers and followers call back

    def _keep(self, task: TaskEntry, flight: InFlight, piece: Piece) -> None:
        with self._lock:
            if self._tasks.get(task.key) is not task:
                raise _task_not_found(task.key)
            if piece.number >= task.geometry.piece_count or piece.length != task.geometry.span(piece.number).length:
                raise PieceNotFound(number=piece.number, task_id=task.key.wire_id)
            task.table.put(piece)
            self._touch(task)
            self._ledger.put_piece(task.key.wire_id, piece)
            task.in_flight.pop(piece.number, None)
            flight.keep(piece.digest)

    def _give_back(self, task: TaskEntry, flight: InFlight, *, is_open: bool = False) -> None:
        """A writer leaves, with or without a commit."""
        with self._lock:
            flight.give_up()
            self._drop_if_idle(task, flight)
        self._leave(task, is_open=is_open)

    def _unfollow(self, task: TaskEntry, flight: InFlight, *, is_open: bool = False) -> None:
        self._forget_follower(task, flight)
        self._leave(task, is_open=is_open)

    def _forget_follower(self, task: TaskEntry, flight: InFlight) -> None:
        with self._lock:
            flight.unfollow()
            self._drop_if_idle(task, flight)

    def _leave(self, task: TaskEntry, *, is_open: bool = False) -> None:
        """One user less; `is_open` if it had the file open."""
        if is_open:
            self._medium.release(task.file)
        with self._lock:
            task.users -= 1

    # --- tables; the lock is held by the caller where a name does not say otherwise

    def _task(self, key: TaskKey) -> TaskEntry:
        task = self._tasks.get(key)
        if task is None:
            raise _task_not_found(key)
        return task

    def _task_with(self, key: TaskKey, number: PieceNumber) -> TaskEntry:
        task = self._task(key)
        if not 0 <= number < task.geometry.piece_count:
            raise PieceNotFound(number=number, task_id=key.wire_id)
        return task

    def _flight(self, task: TaskEntry, number: PieceNumber) -> InFlight:
        """The piece's way in, in the table only if somebody writes or follows it."""
        flight = task.in_flight.get(number)
        return flight or InFlight(task.key.wire_id, number, task.geometry.span(number).length)

    def _drop_if_idle(self, task: TaskEntry, flight: InFlight) -> None:
        if flight.is_idle and task.in_flight.get(flight.number) is flight:
            del task.in_flight[flight.number]

    def _use(self, task: TaskEntry) -> None:
        """One user more, now."""
        task.users += 1
        self._touch(task)

    def _touch(self, task: TaskEntry) -> None:
        task.updated_at = self._clock()
        if task.updated_at - task.recorded_use >= RECORD_USE_EVERY:
            self._ledger.touch(task.key.wire_id, task.updated_at)
            task.recorded_use = task.updated_at

    def _remove(self, key: TaskKey, is_wanted: Callable[[TaskEntry], bool]) -> Bytes:
        """Delete a task if it is wanted; the bytes that gives back. Takes the lock. Raises StorageError."""
        self._hold(key)
        try:
            with self._lock:
                task = self._tasks.get(key)
                if task is None or not is_wanted(task):
                    return 0
                del self._tasks[key]
                self._keys.pop(key.wire_id, None)
                self._ledger.remove_task(key.wire_id)
                for flight in task.in_flight.values():
                    flight.leave_task()
                taken = task.room
                self._stored -= taken
            is_linked = self._is_linked(task)
            try:
                self._medium.remove(task.file)
            except OSError as error:
                raise storage_error(error, task.file.path) from error
            return 0 if is_linked else taken
        finally:
            self._let_go(key)

    def _hold(self, key: TaskKey) -> None:
        """Be the only one to make or remove this task's file. Takes the lock."""
        with self._not_busy:
            self._not_busy.wait_for(lambda: key not in self._busy)
            self._busy.add(key)

    def _let_go(self, key: TaskKey) -> None:
        with self._not_busy:
            self._busy.discard(key)
            self._not_busy.notify_all()

    # --- room; these take the lock

    def _figures(self, stored: Bytes) -> tuple[Bytes, Bytes]:
        try:
            return self._medium.figures(stored)
        except OSError as error:
            raise storage_error(error, self._medium.location) from error

    @contextmanager
    def _room_for(self, needed: Bytes, path: Path) -> Iterator[None]:
        """Count `needed` bytes as stored, unless the body fails to take them. Raises DiskFull, StorageError."""
        with self._lock:
            before = self._stored
            self._stored += needed
        free: Bytes = 0
        try:
            _, free = self._figures(before)
            if needed > free:
                raise DiskFull(path=path, needed=needed, free=free)
            yield
        except BaseException as error:
            with self._lock:
                self._stored -= needed
            if isinstance(error, OSError):
                raise storage_error(error, path, needed=needed, free=free) from error
            raise

    def _take_room(self, task: TaskEntry, number: PieceNumber, fd: int, span: ByteRange) -> None:
        """Room for one piece of a sparse task, once. Only its writer calls this. Raises DiskFull, StorageError."""
        if not task.is_sparse or number in task.roomy:
            return
        with self._room_for(span.length, task.file.path):
            room.take(fd, span.start, span.length)
        with self._lock:
            before = task.room
            if number < task.geometry.piece_count:  # else the task was found to end before it
                task.roomy.add(number)
            is_current = self._tasks.get(task.key) is task
            self._stored += (task.room - before if is_current else 0) - span.length

    # --- files; never under the lock

    def _is_linked(self, task: TaskEntry) -> bool:
        """Whether the file has another name, by which its user keeps it."""
        try:
            return self._medium.stat(task.file).st_nlink > 1
        except OSError:
            return False

    def _open(self, task: TaskEntry) -> int:
        """The task's descriptor, to be released. Raises TaskNotFound, StorageError."""
        try:
            return self._medium.acquire(task.file)
        except FileNotFoundError as error:  # deleted meanwhile, or by somebody else
            raise self._lost(task) from error
        except OSError as error:
            raise storage_error(error, task.file.path) from error

    @contextmanager
    def _used(self, task: TaskEntry) -> Iterator[int]:
        """The descriptor of a task that was counted as used; at the end it no longer is. OSErrors become ours."""
        try:
            fd = self._open(task)
            try:
                yield fd
            except OSError as error:
                raise storage_error(error, task.file.path) from error
            finally:
                self._medium.release(task.file)
        finally:
            self._leave(task)

    def _open_used(self, task: TaskEntry, piece: Piece | None) -> int:
        """The descriptor of a used task, once the piece is known to be there; on failure it is used no longer."""
        try:
            fd = self._open(task)
        except BaseException:
            self._leave(task)
            raise
        try:
            if piece is not None:
                self._check(task, os.fstat(fd), piece.offset + piece.length)
                if piece.number in task.unproven:
                    self._prove(task, fd, piece)
        except BaseException:
            self._leave(task, is_open=True)
            raise
        return fd

    def _check(self, task: TaskEntry, facts: os.stat_result, end: Bytes) -> None:
        """Drop a task whose file was changed by somebody else."""
        if not task.is_untouched(facts, end):
            raise self._lost(task)

    def _prove(self, task: TaskEntry, fd: int, piece: Piece) -> None:
        """Read a piece that was written before the last reboot; drop the task if its bytes did not survive."""
        if not has_checksum(fd, piece):
            raise self._lost(task)
        with self._lock:
            task.unproven.discard(piece.number)
            if not task.unproven and self._tasks.get(task.key) is task:
                task.boot_id = self._boot_id
                self._ledger.put_task(task.record())

    def _lost(self, task: TaskEntry) -> TaskNotFound:
        """Forget a task whose file is not what we wrote, and be the error to raise."""
        with self._lock:
            is_current = self._tasks.get(task.key) is task
        if is_current:
            log.warning("task %s is dropped: its file was changed or removed", task.key.wire_id)
            with suppress(StorageError):
                self._remove(task.key, lambda found: found is task)
        return _task_not_found(task.key)


def has_checksum(fd: int, piece: Piece) -> bool:
    """Whether the piece's bytes have its checksum. Raises OSError."""
    value = crc32_of_file(fd, piece.offset, piece.length)
    return value is not None and str(Digest.crc32(value)) == piece.digest


def _pieces_in(span: ByteRange, geometry: PieceGeometry) -> PieceSet:
    """As `geometry.pieces_in`, without counting one by one: a span of an open task may hold millions."""
    end = min(span.end, geometry.content_length)
    if span.start >= end:
        return PieceSet()
    first, last = span.start // geometry.piece_length, (end - 1) // geometry.piece_length
    return PieceSet.full(last + 1) - PieceSet.full(first)


def _task_not_found(key: TaskKey) -> TaskNotFound:
    return TaskNotFound(task_id=key.wire_id)
