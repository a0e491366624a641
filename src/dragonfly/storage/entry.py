"""A task as the disk store's tables hold it."""

import os
from dataclasses import dataclass, field

from dragonfly.core.model.ids import TaskKey
from dragonfly.core.model.piece import Piece, PieceGeometry, PieceNumber, PieceSet
from dragonfly.core.model.units import Seconds
from dragonfly.storage.metadata import TaskRecord
from dragonfly.storage.open_files import ContentFile
from dragonfly.storage.store import OriginFacts, StoredTask


@dataclass(slots=True, eq=False)
class TaskEntry:
    """Mutable; the store's lock guards it. A key made anew has another entry, by which late callers notice."""

    key: TaskKey
    geometry: PieceGeometry
    origin: OriginFacts
    file: ContentFile
    created_at: Seconds
    updated_at: Seconds
    finished_at: Seconds | None = None
    modified_ns: int | None = None
    boot_id: str = ""
    touched: bool = False  # `updated_at` is newer than its record
    pieces: dict[PieceNumber, Piece] = field(default_factory=dict)
    have: PieceSet = field(default_factory=PieceSet)
    claimed: set[PieceNumber] = field(default_factory=set)
    unproven: PieceSet = field(default_factory=PieceSet)  # written before the last reboot and not read since

    @classmethod
    def recorded(cls, record: TaskRecord, file: ContentFile) -> "TaskEntry":
        """The entry of a record, without pieces yet."""
        return cls(
            record.key,
            record.geometry,
            record.origin,
            file,
            created_at=record.created_at,
            updated_at=record.updated_at,
            finished_at=record.finished_at,
            modified_ns=record.modified_ns,
            boot_id=record.boot_id,
        )

    def record(self) -> TaskRecord:
        """What the index keeps of it."""
        return TaskRecord(
            key=self.key,
            geometry=self.geometry,
            origin=self.origin,
            created_at=self.created_at,
            updated_at=self.updated_at,
            finished_at=self.finished_at,
            modified_ns=self.modified_ns,
            boot_id=self.boot_id,
        )

    def snapshot(self) -> StoredTask:
        """What callers see of it."""
        return StoredTask(
            key=self.key,
            geometry=self.geometry,
            origin=self.origin,
            pieces=self.have | PieceSet(),
            created_at=self.created_at,
            updated_at=self.updated_at,
            finished_at=self.finished_at,
        )

    def keep(self, piece: Piece) -> None:
        """Count a piece as here."""
        self.pieces[piece.number] = piece
        self.have.add(piece.number)

    def finish(self, modified_ns: int, boot_id: str, now: Seconds) -> None:
        """All pieces are here. `finished_at` comes last: readers look at it without the lock, then at the rest."""
        self.modified_ns, self.boot_id = modified_ns, boot_id
        self.updated_at = self.finished_at = now

    def is_untouched(self, facts: os.stat_result) -> bool:
        """Whether a finished task's file is as it was then. Chmod and hard links change neither size nor mtime."""
        return (facts.st_size, facts.st_mtime_ns) == (self.geometry.content_length, self.modified_ns)
