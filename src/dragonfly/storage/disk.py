"""The piece store on this machine's disk: one preallocated file for each task, one index for all.

                claim               commit                     all committed, finish
    absent ───────────► in flight ──────────► piece  ~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~► finished task
       ▲                    │ left without commit             its file's mtime is noted; if it changes, the task goes
       └────────────────────┘

Invariants:
- one writer for each piece at a time; only its commit makes the piece visible, and waiters are told then;
- bytes are in the file before their record is queued, so while the kernel runs no record is ahead of its bytes;
- after a crash or a reboot nothing is believed unseen: pieces of unfinished tasks are checked against their CRC when
  the store opens; finished tasks must have their size and mtime, and those written before a reboot are checked piece
  by piece when first opened (a lost page cache leaves zeros behind);
- a finished file may be hard-linked by its user and edited in place: size and mtime tell, and the task is dropped;
- names are 64 hex characters, so no key reaches outside the directory.

One lock guards the tables below; it is never held during I/O. `_busy` holds the keys whose file is being made or
removed, so a file of the same name is never both. What to evict is decided elsewhere: `updated_at` is when a task was
last used.
"""

import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Condition, Lock
from typing import Final

from dragonfly.core.model.digest import Digest
from dragonfly.core.model.ids import TaskKey
from dragonfly.core.model.piece import Piece, PieceGeometry, PieceNumber, PieceSet
from dragonfly.core.model.units import Bytes, MiB, Seconds
from dragonfly.errors import DragonflyError, PieceNotFound, StorageError, TaskNotFound
from dragonfly.storage.checksum import crc32_of_file
from dragonfly.storage.directory import StorageDirectory
from dragonfly.storage.entry import TaskEntry
from dragonfly.storage.metadata import Metadata, TaskRecord
from dragonfly.storage.open_files import ContentFile, OpenFiles
from dragonfly.storage.os_errors import storage_error
from dragonfly.storage.piece_io import DiskPieceReader, DiskPieceWriter
from dragonfly.storage.store import OriginFacts, PieceReader, PieceWriter, StoredTask

log = logging.getLogger(__name__)

FREE_RESERVE: Final[Bytes] = 64 * MiB  # left to others and to our own index
OPEN_FILES: Final = 1024  # as many as the reference keeps


class DiskStore:
    """A TaskStore below one directory.

    `keep=False` begins empty. `free_reserve` bytes of the file system are never taken. `clock` gives Unix seconds.
    Raises StorageUnusable where the directory is another's, writable by others, or in use by another process.
    """

    def __init__(
        self,
        directory: Path,
        *,
        keep: bool = True,
        free_reserve: Bytes = FREE_RESERVE,
        open_files: int = OPEN_FILES,
        clock: Callable[[], Seconds] = time.time,
    ) -> None:
        self._directory = StorageDirectory(directory, keep=keep)
        try:
            self._metadata = Metadata(self._directory.metadata / "store.db")
        except BaseException:
            self._directory.close()
            raise
        self._free_reserve = free_reserve
        self._clock = clock
        self._boot_id = _boot_id()
        self._files = OpenFiles(open_files)
        self._lock = Lock()
        self._changed = Condition(self._lock)  # a claim ended, a task left, a key is no longer busy
        self._tasks: dict[TaskKey, TaskEntry] = {}
        self._keys: dict[str, TaskKey] = {}
        self._busy: set[TaskKey] = set()
        self._closed = False
        self._load()

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
        """The finished pieces, by number. Raises TaskNotFound."""
        with self._lock:
            return [piece for _, piece in sorted(self._task(key).pieces.items())]

    # --- coming and going

    def create(self, key: TaskKey, geometry: PieceGeometry, origin: OriginFacts) -> StoredTask:
        """Make room for a task, all of it before the first byte. FileExistsError if stored.

        Raises DiskFull, StorageError; InvalidIdentifier for a key whose wire id is not 64 hex characters.
        """
        file = ContentFile(self._directory.content_file(key.wire_id))
        self._hold(key)
        try:
            if key in self._tasks:
                raise FileExistsError(file.path)
            fd = self._directory.create_file(file.path, geometry.content_length, leave_free=self._free_reserve)
            self._files.adopt(file, fd)
            now = self._clock()
            task = TaskEntry(key, geometry, origin, file, created_at=now, updated_at=now, boot_id=self._boot_id)
            with self._lock:
                self._insert(task)
                self._metadata.put_task(task.record())
                return task.snapshot()
        finally:
            self._let_go(key)

    def finish(self, key: TaskKey) -> StoredTask:
        """Mark a task whose pieces are all here as complete. Raises TaskNotFound; StorageError if some are missing."""
        with self._lock:
            task = self._task(key)
            if task.finished_at is not None:
                return task.snapshot()
            if len(task.have) != task.geometry.piece_count:
                raise StorageError(path=task.file.path, reason="a task with missing pieces cannot be finished")
        modified_ns = self._facts(task).st_mtime_ns
        with self._lock:
            if self._tasks.get(key) is not task:
                raise _task_not_found(key)
            task.finish(modified_ns, self._boot_id, self._clock())
            self._metadata.put_task(task.record())
            snapshot = task.snapshot()
        self._metadata.flush()
        return snapshot

    def delete(self, key: TaskKey) -> None:
        """Forget a task and its bytes; open readers keep theirs. Unknown tasks are no error."""
        self._hold(key)
        try:
            with self._lock:
                task = self._tasks.pop(key, None)
                if task is None:
                    return
                self._keys.pop(key.wire_id, None)
                self._metadata.remove_task(key.wire_id)
            self._files.retire(task.file)
            self._directory.remove_file(task.file.path)
        finally:
            self._let_go(key)

    def close(self) -> None:
        """Write down what is pending; the store cannot be used afterwards. Closing again does nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            for task in self._tasks.values():
                if task.touched:
                    self._metadata.touch(task.key.wire_id, task.updated_at)
            self._tasks.clear()
            self._keys.clear()
            self._changed.notify_all()
        self._files.close()
        try:
            self._metadata.close()
        finally:
            self._directory.close()

    # --- pieces

    def claim(self, key: TaskKey, number: PieceNumber) -> PieceWriter:
        """Become the one writer of a piece. FileExistsError if it is finished or claimed.

        Raises TaskNotFound; PieceNotFound for a number the task does not have.
        """
        with self._lock:
            task = self._task_with(key, number)
            if number in task.have or number in task.claimed:
                raise FileExistsError(f"piece {number} of {task.file.path}")
            task.claimed.add(number)
        try:
            fd = self._open(task)
        except BaseException:
            self._give_back(task, number)
            raise
        return DiskPieceWriter(
            fd,
            number,
            task.geometry.span(number),
            path=task.file.path,
            keep=lambda piece: self._keep(task, piece),
            leave=lambda: self._leave(task, number),
        )

    def open_piece(self, key: TaskKey, number: PieceNumber, *, wait: Seconds = 0.0) -> PieceReader:
        """A finished piece. One that is being written is waited for at most `wait` seconds.

        Raises TaskNotFound, PieceNotFound.
        """
        task, piece = self._piece(key, number, wait)
        fd = self._open(task)
        try:
            if task.finished_at is not None:
                self._check(task, os.fstat(fd))
            if number in task.unproven:
                self._prove(task, fd, piece)
        except BaseException:
            self._files.release(task.file)
            raise
        return DiskPieceReader(fd, piece, lambda: self._files.release(task.file))

    def content_path(self, key: TaskKey) -> Path:
        """The file that holds the whole content of a finished task. Raises TaskNotFound."""
        with self._lock:
            task = self._task(key)
            if task.finished_at is None:
                raise _task_not_found(key)
            unproven = list(task.unproven)
        try:
            self._check(task, task.file.path.lstat())
        except OSError as error:
            raise self._lost(task) from error
        for number in unproven:
            with self.open_piece(key, number):
                pass
        return task.file.path

    # --- what a writer and a reader call back

    def _keep(self, task: TaskEntry, piece: Piece) -> None:
        with self._lock:
            if self._tasks.get(task.key) is not task:
                raise _task_not_found(task.key)
            task.keep(piece)
            task.updated_at, task.touched = self._clock(), True
            self._metadata.put_piece(task.key.wire_id, piece)
            self._changed.notify_all()

    def _leave(self, task: TaskEntry, number: PieceNumber) -> None:
        self._files.release(task.file)
        self._give_back(task, number)

    def _give_back(self, task: TaskEntry, number: PieceNumber) -> None:
        with self._lock:
            task.claimed.discard(number)
            self._changed.notify_all()

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

    def _insert(self, task: TaskEntry) -> None:
        self._tasks[task.key] = task
        self._keys[task.key.wire_id] = task.key

    def _piece(self, key: TaskKey, number: PieceNumber, wait: Seconds) -> tuple[TaskEntry, Piece]:
        """The piece and its task, waiting if it is in flight. Takes the lock."""
        with self._lock:
            task = self._task_with(key, number)
            if number not in task.have and wait > 0:
                self._changed.wait_for(
                    lambda: number not in task.claimed or number in task.have or self._tasks.get(key) is not task, wait
                )
                task = self._task_with(key, number)
            piece = task.pieces.get(number)
            if piece is None:
                raise PieceNotFound(number=number, task_id=key.wire_id)
            task.updated_at, task.touched = self._clock(), True
            return task, piece

    def _hold(self, key: TaskKey) -> None:
        """Be the only one to make or remove this task's file. Takes the lock."""
        with self._changed:
            self._changed.wait_for(lambda: key not in self._busy)
            self._busy.add(key)

    def _let_go(self, key: TaskKey) -> None:
        with self._changed:
            self._busy.discard(key)
            self._changed.notify_all()

    # --- files; never under the lock

    def _open(self, task: TaskEntry) -> int:
        """The task's descriptor, to be released."""
        try:
            return self._files.acquire(task.file)
        except FileNotFoundError as error:  # deleted meanwhile, or by somebody else
            raise self._lost(task) from error
        except OSError as error:
            raise storage_error(error, task.file.path) from error

    def _facts(self, task: TaskEntry) -> os.stat_result:
        fd = self._open(task)
        try:
            return os.fstat(fd)
        finally:
            self._files.release(task.file)

    def _check(self, task: TaskEntry, facts: os.stat_result) -> None:
        """Drop a finished task whose file was changed by somebody else."""
        if not task.is_untouched(facts):
            raise self._lost(task)

    def _prove(self, task: TaskEntry, fd: int, piece: Piece) -> None:
        """Read a piece that was written before the last reboot; drop the task if its bytes did not survive."""
        if not _is_intact(fd, piece):
            raise self._lost(task)
        with self._lock:
            task.unproven.discard(piece.number)
            if not task.unproven and self._tasks.get(task.key) is task:
                task.boot_id = self._boot_id
                self._metadata.put_task(task.record())

    def _lost(self, task: TaskEntry) -> TaskNotFound:
        """Forget a task whose file is not what we wrote, and be the error to raise."""
        with self._lock:
            is_current = self._tasks.get(task.key) is task
        if is_current:
            log.warning("task %s is dropped: its file was changed or removed", task.key.wire_id)
            with suppress(StorageError):
                self.delete(task.key)
        return _task_not_found(task.key)

    # --- after a restart

    def _load(self) -> None:
        """Believe what can be verified, remove the rest."""
        for record, pieces in self._metadata.load():
            try:
                task = self._recovered(record, pieces)
            except (OSError, DragonflyError) as error:
                log.info("task %s is not kept: %s", record.key.wire_id, error)
                self._metadata.remove_task(record.key.wire_id)
            else:
                self._insert(task)
        known = {task.file.path for task in self._tasks.values()}
        for path in self._directory.content_files():
            if path not in known:
                with suppress(StorageError):
                    self._directory.remove_file(path)

    def _recovered(self, record: TaskRecord, pieces: list[Piece]) -> TaskEntry:
        file = ContentFile(self._directory.content_file(record.key.wire_id))
        task = TaskEntry.recorded(record, file)
        facts = self._facts(task)
        if facts.st_size != record.geometry.content_length:
            raise StorageError(path=file.path, reason="its file has another size")
        if task.finished_at is None:
            self._keep_intact(task, pieces)
        elif len(pieces) != record.geometry.piece_count or not task.is_untouched(facts):
            raise StorageError(path=file.path, reason="its file was changed")
        else:
            for piece in pieces:
                task.keep(piece)
            if record.boot_id != self._boot_id or not self._boot_id:
                task.unproven = PieceSet.full(record.geometry.piece_count)
        return task

    def _keep_intact(self, task: TaskEntry, pieces: list[Piece]) -> None:
        fd = self._files.acquire(task.file)
        try:
            for piece in pieces:
                if _is_intact(fd, piece):
                    task.keep(piece)
                else:
                    self._metadata.remove_piece(task.key.wire_id, piece.number)
        finally:
            self._files.release(task.file)


def _is_intact(fd: int, piece: Piece) -> bool:
    value = crc32_of_file(fd, piece.offset, piece.length)
    return value is not None and str(Digest.crc32(value)) == piece.digest


def _boot_id() -> str:
    """Names this run of the kernel; empty where the kernel does not say, which counts as another run each time."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _task_not_found(key: TaskKey) -> TaskNotFound:
    return TaskNotFound(task_id=key.wire_id)
