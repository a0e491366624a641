"""The contract every piece store keeps, whatever it keeps the bytes in.

A store is thread-safe and blocking: bulk threads call it, the event loop calls it through a thread. A piece is written
under a claim, one writer at a time; it exists for readers from the moment its writer commits it, never before.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from dragonfly.core.model.ids import TaskKey
from dragonfly.core.model.piece import Piece, PieceGeometry, PieceNumber, PieceSet
from dragonfly.core.model.units import Bytes, Seconds
from dragonfly.core.model.version import FileVersion


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginFacts:
    """What the origin said of a task when it was first asked. Request headers, and so credentials, are never kept."""

    url: str
    tag: str = ""
    application: str = ""
    etag: str = ""
    last_modified: str = ""
    response_header: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTask:
    """One task of this store at the moment it was asked for; `pieces` is a copy. Times are Unix seconds."""

    key: TaskKey
    geometry: PieceGeometry
    origin: OriginFacts
    pieces: PieceSet
    created_at: Seconds
    updated_at: Seconds
    finished_at: Seconds | None = None

    @property
    def version(self) -> FileVersion:
        """The version of the file this is a copy of."""
        return FileVersion(self.geometry.content_length, self.origin.etag, self.origin.last_modified)

    @property
    def is_finished(self) -> bool:
        return self.finished_at is not None


class PieceWriter(Protocol):
    """The claim on one piece, a context manager: left without a commit, the claim is given back and nothing is kept."""

    number: PieceNumber
    offset: Bytes  # where the piece begins in the task, for whoever brings it to be checked against
    length: Bytes

    @property
    def remaining(self) -> Bytes:
        """Bytes not written yet."""

    def write(self, view: memoryview) -> None:
        """Append. Raises PieceLengthMismatch beyond the piece's end, DiskFull, StorageError."""

    def restart(self) -> None:
        """Forget what was written, to take the piece from somebody else."""

    def commit(self, *, parent_id: str | None, cost: Seconds, expected_digest: str = "") -> Piece:
        """Keep the piece. Raises PieceLengthMismatch if short, PieceDigestMismatch if it has not `expected_digest`."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class PieceReader(Protocol):
    """A finished piece, open for sendfile: `piece.length` bytes of `fd` from `position` on. A context manager."""

    fd: int
    position: Bytes
    piece: Piece

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class TaskStore(Protocol):
    """Tasks and their pieces on one machine."""

    def tasks(self) -> list[StoredTask]:
        """Everything stored, oldest first."""

    def get(self, key: TaskKey) -> StoredTask | None:
        """One task; None where it is not stored."""

    def find(self, wire_id: str) -> TaskKey | None:
        """The task that other processes name by `wire_id`."""

    def create(self, key: TaskKey, geometry: PieceGeometry, origin: OriginFacts) -> StoredTask:
        """Make room for a task, all of it before the first byte. FileExistsError if stored.

        Raises DiskFull, StorageError.
        """

    def pieces(self, key: TaskKey) -> list[Piece]:
        """The finished pieces, by number. Raises TaskNotFound."""

    def claim(self, key: TaskKey, number: PieceNumber) -> PieceWriter:
        """Become the one writer of a piece. FileExistsError if it is finished or claimed.

        Raises TaskNotFound; PieceNotFound for a number the task does not have.
        """

    def open_piece(self, key: TaskKey, number: PieceNumber, *, wait: Seconds = 0.0) -> PieceReader:
        """A finished piece. One that is being written is waited for at most `wait` seconds.

        Raises TaskNotFound, PieceNotFound.
        """

    def finish(self, key: TaskKey) -> StoredTask:
        """Mark a task whose pieces are all here as complete. Raises TaskNotFound; StorageError if some are missing."""

    def delete(self, key: TaskKey) -> None:
        """Forget a task and its bytes; open readers keep theirs. Unknown tasks are no error."""

    def content_path(self, key: TaskKey) -> Path:
        """The file that holds the whole content of a finished task. Raises TaskNotFound."""

    def close(self) -> None:
        """Write down what is pending; the store cannot be used afterwards."""
