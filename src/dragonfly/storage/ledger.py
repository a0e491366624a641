"""What a store notes down beside its tables, so that it survives a restart or stays out of the process's memory."""

from dataclasses import dataclass
from typing import Protocol

from dragonfly.core.model.ids import TaskKey
from dragonfly.core.model.piece import Piece, PieceGeometry, PieceNumber
from dragonfly.core.model.units import Seconds
from dragonfly.storage.store import OriginFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRecord:
    """What is kept of a task. `modified_ns` is its file's mtime when it was finished, `boot_id` that kernel run."""

    key: TaskKey
    geometry: PieceGeometry
    origin: OriginFacts
    created_at: Seconds
    updated_at: Seconds
    is_sparse: bool = False
    finished_at: Seconds | None = None
    modified_ns: int | None = None
    boot_id: str = ""


class Ledger(Protocol):
    """Thread-safe. Changes take effect in the order of the calls, which return at once but for `flush`."""

    def put_task(self, record: TaskRecord) -> None:
        """Add or replace a task's record; its pieces stay."""

    def put_piece(self, wire_id: str, piece: Piece) -> None:
        """Add or replace the record of a piece whose bytes are in the file, with its leaves."""

    def touch(self, wire_id: str, updated_at: Seconds) -> None:
        """Note when a task was last used."""

    def remove_task(self, wire_id: str) -> None:
        """Forget a task and its pieces."""

    def leaves(self, wire_id: str, number: PieceNumber) -> bytes:
        """The leaves of a piece; empty where there are none."""

    def flush(self) -> None:
        """Wait until everything said so far is kept. Raises StorageError."""

    def close(self) -> None:
        """Keep what is pending and end. Raises StorageError."""
