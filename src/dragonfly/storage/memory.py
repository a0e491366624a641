"""The piece store in this machine's memory: one anonymous memory file for each task, so that it is written, sent and
followed exactly as on a disk. What it holds ends with the process.
"""

import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Lock

from dragonfly.core.model.piece import Piece, PieceNumber
from dragonfly.core.model.units import Bytes, Seconds
from dragonfly.errors import InvalidIdentifier
from dragonfly.storage import room
from dragonfly.storage.ledger import TaskRecord
from dragonfly.storage.open_files import ContentFile, OpenFiles
from dragonfly.storage.piece_store import PieceStore

_WIRE_ID = re.compile(r"[0-9a-f]{64}")


class MemoryStore(PieceStore):
    """A TaskStore of at most `capacity` bytes of memory; each task takes a descriptor. `clock` gives Unix seconds."""

    def __init__(
        self, capacity: Bytes, *, hashes_leaves: bool = True, clock: Callable[[], Seconds] = time.time
    ) -> None:
        super().__init__(Memory(capacity), MemoryLedger(), hashes_leaves=hashes_leaves, boot_id="", clock=clock)


class Memory:
    """Content files without a name."""

    def __init__(self, capacity: Bytes) -> None:
        self.location = Path("memory")
        self._capacity = capacity
        self._files = OpenFiles(sys.maxsize)  # closing one loses its bytes, so only `remove` does
        self.acquire, self.release = self._files.acquire, self._files.release

    def file(self, wire_id: str) -> ContentFile:
        """A task's file, made or not. Raises InvalidIdentifier, as a disk does."""
        if not _WIRE_ID.fullmatch(wire_id):
            raise InvalidIdentifier(kind="task id", text=wire_id)
        return ContentFile(self.location / wire_id)

    def create(self, file: ContentFile, length: Bytes, *, sparse: bool) -> None:
        """Make it, its pages taken unless `sparse`."""
        fd = os.memfd_create(f"dragonfly-{file.path.name[:16]}", os.MFD_CLOEXEC)
        try:
            if sparse:
                os.ftruncate(fd, length)
            else:
                room.take(fd, 0, length)
        except BaseException:
            os.close(fd)
            raise
        self._files.adopt(file, fd)

    def figures(self, stored: Bytes) -> tuple[Bytes, Bytes]:
        """Of the capacity."""
        return self._capacity, max(self._capacity - stored, 0)

    def remove(self, file: ContentFile) -> None:
        """Its bytes go with the last descriptor."""
        self._files.retire(file)

    def stat(self, file: ContentFile) -> os.stat_result:
        """Facts of the file itself, which has no name."""
        fd = self._files.acquire(file)
        try:
            return os.fstat(fd)
        finally:
            self._files.release(file)

    def path(self, file: ContentFile) -> Path:
        """Leads to its bytes while the task is pinned; it can be opened and copied, not linked."""
        return Path(f"/proc/{os.getpid()}/fd/{file.fd}")

    def close(self) -> None:
        """Open nothing more."""
        self._files.close()


class MemoryLedger:
    """Only the leaves are noted down; the tables hold the rest, and nothing survives."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._leaves: dict[str, dict[PieceNumber, bytes]] = {}

    def put_task(self, record: TaskRecord) -> None:
        """Nothing to do."""

    def put_piece(self, wire_id: str, piece: Piece) -> None:
        """Keep its leaves."""
        if piece.leaves:
            with self._lock:
                self._leaves.setdefault(wire_id, {})[piece.number] = piece.leaves

    def touch(self, wire_id: str, updated_at: Seconds) -> None:
        """Nothing to do."""

    def remove_task(self, wire_id: str) -> None:
        """Forget its leaves."""
        with self._lock:
            self._leaves.pop(wire_id, None)

    def leaves(self, wire_id: str, number: PieceNumber) -> bytes:
        """The leaves of a piece; empty where there are none."""
        with self._lock:
            return self._leaves.get(wire_id, {}).get(number, b"")

    def flush(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""
