"""The piece store on this machine's disk: one file for each task, one index for all, and what to believe after a crash.

Preallocated where the whole is wanted; sparse, and filled piece by piece, where ranges are or nobody knows the length.
After a crash or a reboot nothing is believed unseen:
- pieces of unfinished tasks are checked against their CRC when the store opens;
- finished tasks must have their size and mtime, and those written before a reboot are checked piece by piece when first
  opened (a lost page cache leaves zeros behind);
- files without a record are removed, and so is the room of claims that nobody holds any more.
Names are 64 hex characters, so no key reaches outside the directory.
"""

import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from dragonfly.core.model.piece import Piece, PieceNumber, PieceSet
from dragonfly.core.model.units import Bytes, MiB, Seconds
from dragonfly.errors import DragonflyError, StorageError
from dragonfly.storage import room
from dragonfly.storage.directory import DIRECTORY_MODE, FILE_MODE, StorageDirectory
from dragonfly.storage.entry import TaskEntry
from dragonfly.storage.ledger import TaskRecord
from dragonfly.storage.metadata import Metadata
from dragonfly.storage.open_files import ContentFile, OpenFiles
from dragonfly.storage.piece_store import PieceStore, has_checksum

log = logging.getLogger(__name__)

FREE_RESERVE: Final[Bytes] = 64 * MiB  # left to others and to our own index
OPEN_FILES: Final = 1024  # as many as the reference keeps


class DiskStore(PieceStore):
    """A TaskStore below one directory.

    `keep=False` begins empty. `free_reserve` bytes of the file system are never taken. `hashes_leaves` makes writers
    compute each piece's BLAKE3 leaves and root. `clock` gives Unix seconds.
    Raises StorageUnusable where the directory is another's, writable by others, or in use by another process.
    """

    def __init__(
        self,
        directory: Path,
        *,
        keep: bool = True,
        hashes_leaves: bool = True,
        free_reserve: Bytes = FREE_RESERVE,
        open_files: int = OPEN_FILES,
        file_mode: int = FILE_MODE,
        directory_mode: int = DIRECTORY_MODE,
        clock: Callable[[], Seconds] = time.time,
    ) -> None:
        self._directory = StorageDirectory(directory, keep=keep, file_mode=file_mode, directory_mode=directory_mode)
        try:
            self._metadata = Metadata(self._directory.metadata / "store.db", file_mode)
        except BaseException:
            self._directory.close()
            raise
        self._disk = Disk(self._directory, open_files, free_reserve)
        super().__init__(self._disk, self._metadata, hashes_leaves=hashes_leaves, boot_id=_this_boot(), clock=clock)
        self._load()

    def _load(self) -> None:
        """Believe what can be verified, remove the rest."""
        for record, pieces in self._metadata.load():
            try:
                task = self._recovered(record, pieces)
            except (OSError, DragonflyError, ValueError) as error:
                log.info("task %s is not kept: %s", record.key.wire_id, error)
                self._metadata.remove_task(record.key.wire_id)
            else:
                self._tasks[task.key] = task
                self._keys[task.key.wire_id] = task.key
                self._stored += task.room
        known = {task.file.path for task in self._tasks.values()}
        for path in self._directory.content_files():
            if path not in known:
                with suppress(StorageError):
                    self._directory.remove_file(path)

    def _recovered(self, record: TaskRecord, pieces: list[Piece]) -> TaskEntry:
        """The task as far as its file bears it out. Raises OSError, DragonflyError, ValueError where it does not."""
        file = self._disk.file(record.key.wire_id)
        task = TaskEntry.recorded(record, file)
        fd = self._disk.acquire(file)
        try:
            if task.finished_at is None:
                self._recover_pieces(task, pieces, fd)
            else:
                self._recover_finished(task, pieces, os.fstat(fd))
            if task.is_sparse:
                task.roomy = task.have | PieceSet()
        finally:
            self._disk.release(file)
        return task

    def _recover_pieces(self, task: TaskEntry, pieces: list[Piece], fd: int) -> None:
        size, wanted = os.fstat(fd).st_size, task.geometry.content_length
        if not task.is_sparse and size != wanted:
            raise StorageError(path=task.file.path, reason="its file has another size")
        if task.is_sparse and not task.geometry.is_open and size != wanted:
            os.ftruncate(fd, wanted)  # its length was being settled
        for piece in pieces:
            if has_checksum(fd, piece):
                task.table.put(piece)
            else:
                self._metadata.remove_piece(task.key.wire_id, piece.number)
        if task.is_sparse:
            for offset, length in _gaps(task, os.fstat(fd).st_size):
                room.give_back(fd, offset, length)

    def _recover_finished(self, task: TaskEntry, pieces: list[Piece], facts: os.stat_result) -> None:
        if len(pieces) != task.geometry.piece_count or not task.is_untouched(facts, facts.st_size):
            raise StorageError(path=task.file.path, reason="its file was changed")
        for piece in pieces:
            task.table.put(piece)
        if task.boot_id != self._boot_id or not self._boot_id:
            task.unproven = PieceSet.full(task.geometry.piece_count)


class Disk:
    """Content files in a storage directory."""

    def __init__(self, directory: StorageDirectory, open_files: int, free_reserve: Bytes) -> None:
        self.location = directory.path
        self._directory = directory
        self._free_reserve = free_reserve
        self._files = OpenFiles(open_files)
        self.acquire, self.release = self._files.acquire, self._files.release

    def file(self, wire_id: str) -> ContentFile:
        """A task's file, made or not. Raises InvalidIdentifier."""
        return ContentFile(self._directory.content_file(wire_id))

    def create(self, file: ContentFile, length: Bytes, *, sparse: bool) -> None:
        """Make it, its blocks taken unless `sparse`."""
        self._files.adopt(file, self._directory.create_file(file.path, length, sparse=sparse))

    def figures(self, stored: Bytes) -> tuple[Bytes, Bytes]:
        """Of the file system, whoever fills it."""
        capacity, free = self._directory.figures()
        return capacity, max(free - self._free_reserve, 0)

    def remove(self, file: ContentFile) -> None:
        """Open it no more and unlink it."""
        self._files.retire(file)
        self._directory.remove_file(file.path)

    def stat(self, file: ContentFile) -> os.stat_result:
        """Facts of what its name leads to."""
        return file.path.lstat()

    def path(self, file: ContentFile) -> Path:
        """Its own."""
        return file.path

    def close(self) -> None:
        """Open nothing more, and let another process have the directory."""
        self._files.close()
        self._directory.close()


def _gaps(task: TaskEntry, size: Bytes) -> list[tuple[Bytes, Bytes]]:
    """Offset and length of every run of bytes that belongs to no piece that is here."""
    gaps, begin = [], 0
    for number in task.have:
        span = task.geometry.span(PieceNumber(number))
        gaps.append((begin, span.start - begin))
        begin = span.end
    gaps.append((begin, size - begin))
    return [(offset, length) for offset, length in gaps if length > 0]


def _this_boot() -> str:
    """Names this run of the kernel; empty where the kernel does not say, which counts as another run each time."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
