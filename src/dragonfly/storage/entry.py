"""A task as a store's tables hold it."""

import os
from dataclasses import dataclass, field

from dragonfly.core.model.ids import TaskKey
from dragonfly.core.model.piece import Piece, PieceGeometry, PieceNumber, PieceSet
from dragonfly.core.model.units import Bytes, Seconds
from dragonfly.storage.in_flight import InFlight
from dragonfly.storage.ledger import TaskRecord
from dragonfly.storage.open_files import ContentFile
from dragonfly.storage.piece_table import PieceTable
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
    is_sparse: bool = False
    finished_at: Seconds | None = None
    modified_ns: int | None = None
    boot_id: str = ""
    recorded_use: Seconds = 0.0  # the `updated_at` that the index has
    users: int = 0  # claims, readers, followers and pins
    table: PieceTable = field(default_factory=PieceTable)
    in_flight: dict[PieceNumber, InFlight] = field(default_factory=dict)
    roomy: PieceSet = field(default_factory=PieceSet)  # of a sparse task: the pieces that have their room
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
            is_sparse=record.is_sparse,
            finished_at=record.finished_at,
            modified_ns=record.modified_ns,
            boot_id=record.boot_id,
            recorded_use=record.updated_at,
        )

    def record(self) -> TaskRecord:
        """What the index keeps of it."""
        self.recorded_use = self.updated_at
        return TaskRecord(
            key=self.key,
            geometry=self.geometry,
            origin=self.origin,
            created_at=self.created_at,
            updated_at=self.updated_at,
            is_sparse=self.is_sparse,
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
            room=self.room,
            is_in_use=self.users > 0,
        )

    @property
    def have(self) -> PieceSet:
        """The finished pieces."""
        return self.table.have

    def piece(self, number: PieceNumber) -> Piece | None:
        """A finished piece; None where it is not here."""
        return self.table.get(number, self.geometry)

    @property
    def room(self) -> Bytes:
        """Bytes of disk it takes: all of it, or what its pieces were given."""
        if not self.is_sparse:
            return self.geometry.content_length
        last = PieceNumber(self.geometry.piece_count - 1)
        full = len(self.roomy) * self.geometry.piece_length
        return full - (self.geometry.piece_length - self.geometry.span(last).length if last in self.roomy else 0)

    def close_geometry(self, content_length: Bytes) -> None:
        """The length is known now; pieces on their way in become shorter, or have no place any more."""
        self.geometry = self.geometry.closed(content_length)
        self.roomy &= PieceSet.full(self.geometry.piece_count)
        for number, flight in self.in_flight.items():
            in_task = number < self.geometry.piece_count
            flight.shorten(self.geometry.span(number).length if in_task else 0)

    def finish(self, modified_ns: int, boot_id: str, now: Seconds) -> None:
        """All pieces are here. `finished_at` comes last: readers look at it without the lock, then at the rest."""
        self.modified_ns, self.boot_id = modified_ns, boot_id
        self.updated_at = self.finished_at = now

    def is_untouched(self, facts: os.stat_result, end: Bytes) -> bool:
        """Whether the file is as we left it up to `end`; chmod and hard links change neither size nor mtime.

        An unfinished one is still written to, so that of it only a file too short tells.
        """
        if self.finished_at is not None:
            return (facts.st_size, facts.st_mtime_ns) == (self.geometry.content_length, self.modified_ns)
        return facts.st_size >= end
