"""The contract every piece store keeps, whatever it keeps the bytes in.

A store is thread-safe and blocking: bulk threads call it, the event loop calls it through a thread. A piece is written
under a claim, one writer at a time. It exists from the moment its writer commits it; before that, `follow_piece` lets
readers have what is certain of it already, up to its watermark: bytes of the origin as they come, bytes of a parent
leaf by leaf once the leaf's hash was compared, and nothing of a parent that has no hashes to compare.

A task that is in use (a piece claimed, open or followed, or a pin on the task) is never evicted.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from dragonfly.core.model.ids import TaskKey
from dragonfly.core.model.piece import Piece, PieceGeometry, PieceNumber, PieceSet
from dragonfly.core.model.ranges import ByteRange
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
    tells_length: bool = True
    """False where the length was learnt by reading to the end; it then tells no version from another."""
    is_private: bool = False
    """Whether it was read with credentials, so that the next caller has to be asked for theirs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTask:
    """One task of this store at the moment it was asked for; `pieces` is a copy. Times are Unix seconds."""

    key: TaskKey
    geometry: PieceGeometry
    origin: OriginFacts
    pieces: PieceSet
    created_at: Seconds
    updated_at: Seconds
    """When it was last used: a piece of it written, read or followed, or its file asked for."""
    finished_at: Seconds | None = None
    room: Bytes = 0
    """Bytes of disk or memory it takes."""
    is_in_use: bool = False

    @property
    def version(self) -> FileVersion:
        """The version of the file this is a copy of."""
        length = self.geometry.content_length if self.origin.tells_length else None
        return FileVersion(length, self.origin.etag, self.origin.last_modified)

    @property
    def is_finished(self) -> bool:
        return self.finished_at is not None


class PieceWriter(Protocol):
    """The claim on one piece, a context manager: left without a commit, the claim is given back and nothing is kept."""

    number: PieceNumber
    offset: Bytes  # where the piece begins in the task, for whoever brings it to be checked against

    @property
    def length(self) -> Bytes:
        """Of the whole piece; the last one of an open task becomes shorter when the task's length is settled."""

    @property
    def remaining(self) -> Bytes:
        """Bytes not written yet."""

    def write(self, view: memoryview) -> None:
        """Append. Raises PieceLengthMismatch beyond the piece's end, DiskFull, StorageError.

        Where somebody follows the piece, what was certain of it stays: bytes that differ from it raise
        PieceDigestMismatch. After any error only `restart` goes on.
        """

    def restart(self, *, leaves: bytes = b"", digest: str = "", is_certain: bool = False) -> None:
        """Take the piece from its start, from somebody (else): forget what was written.

        `leaves` are the hashes its leaves must have, 32 bytes each, proven already; each is compared as soon as it is
        full, and a wrong one raises PieceDigestMismatch from `write`. `digest` is what the giver says the whole will
        have; followers are told. `is_certain`: the bytes come from the origin, readers may follow them as they come.
        Raises PieceDigestMismatch where there are not as many hashes as the piece has leaves.
        """

    def commit(self, *, parent_id: str | None, cost: Seconds, expected_digest: str = "", root: bytes = b"") -> Piece:
        """Keep the piece, with the root and the leaves it turned out to have where the store hashes.

        Raises PieceLengthMismatch if short, PieceDigestMismatch if it has not `expected_digest` or not `root` (nothing
        has a root where nothing was hashed), PieceNotFound if the task turned out to end before it, TaskNotFound.
        """

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


class PieceFollower(Protocol):
    """A piece that is here or coming in, open for sendfile below its watermark. A context manager."""

    fd: int
    position: Bytes  # of the piece's first byte in `fd`
    number: PieceNumber

    @property
    def length(self) -> Bytes:
        """As a writer's."""

    @property
    def digest(self) -> str:
        """Of the whole piece; "" where nobody has said so yet."""

    def wait_beyond(self, count: Bytes, timeout: Seconds) -> Bytes:
        """How many bytes from the piece's first one may be read: more than `count`, or what there is at the timeout.

        Returns as soon as the piece is kept, whatever `count` is. The whole length does not mean that it is kept: where
        its last bytes are certain before the commit, they may be read before it, and the commit may still fail.
        Never less than it was. Raises PieceNotFound where the piece was given up and nobody else took it over at once.
        """

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a store takes, by its own counters."""

    stored: Bytes
    """The room of all tasks: the whole length, or of sparse ones the pieces that are here or were ever claimed."""
    task_count: int
    capacity: Bytes
    """Of the file system it lies on (or of the memory it may take)."""
    free: Bytes
    """What is left of that, other users' files and the reserve taken into account."""


class TaskStore(Protocol):
    """Tasks and their pieces on one machine."""

    def tasks(self) -> list[StoredTask]:
        """Everything stored, oldest first."""

    def get(self, key: TaskKey) -> StoredTask | None:
        """One task; None where it is not stored."""

    def find(self, wire_id: str) -> TaskKey | None:
        """The task that other processes name by `wire_id`."""

    def create(self, key: TaskKey, geometry: PieceGeometry, origin: OriginFacts, *, sparse: bool = False) -> StoredTask:
        """Make room for a task, all of it before the first byte. FileExistsError if stored.

        A `sparse` one, and one whose geometry is open, takes room piece by piece, as pieces are claimed.
        Raises DiskFull, StorageError.
        """

    def settle_length(self, key: TaskKey, content_length: Bytes) -> StoredTask:
        """Close the geometry of a task whose length is known now; no change where it is the same already.

        Raises TaskNotFound; StorageError where pieces lie behind that end or the geometry is closed at another length.
        """

    def pieces(self, key: TaskKey) -> list[Piece]:
        """The finished pieces, by number, without their leaves. Raises TaskNotFound."""

    def leaves(self, key: TaskKey, number: PieceNumber) -> bytes:
        """The hashes of a finished piece's leaves, 32 bytes each; empty where they were not computed.

        Not with the piece, because 1 TiB has 128 MiB of them. Raises TaskNotFound, PieceNotFound.
        """

    def is_intact(self, key: TaskKey, number: PieceNumber) -> bool:
        """Read a finished piece: whether it still has its checksum, and its root where one is recorded.

        No use of the task. A piece that cannot be read any more is not intact.
        Raises TaskNotFound, PieceNotFound, StorageError where the file cannot be opened.
        """

    def claim(self, key: TaskKey, number: PieceNumber) -> PieceWriter:
        """Become the one writer of a piece. FileExistsError if it is finished or claimed.

        Raises TaskNotFound; PieceNotFound for a number the task does not have; DiskFull for a sparse task.
        """

    def open_piece(self, key: TaskKey, number: PieceNumber, *, wait: Seconds = 0.0) -> PieceReader:
        """A finished piece. One that is being written is waited for at most `wait` seconds.

        Raises TaskNotFound, PieceNotFound.
        """

    def follow_piece(self, key: TaskKey, number: PieceNumber, *, wait: Seconds = 0.0) -> PieceFollower:
        """A piece that is here or being written; one nobody writes is waited for at most `wait` seconds.

        Raises TaskNotFound, PieceNotFound.
        """

    def finish(self, key: TaskKey) -> StoredTask:
        """Mark a task whose pieces are all here as complete. Raises TaskNotFound; StorageError if some are missing."""

    def delete(self, key: TaskKey) -> None:
        """Forget a task and its bytes; open readers keep theirs. Unknown tasks are no error."""

    def content_path(self, key: TaskKey, span: ByteRange | None = None) -> Path:
        """The file that holds the whole content of a finished task, or at least `span` of it at its place.

        Raises TaskNotFound, also where some of it is missing. Pin the task while the path is in use.
        """

    def pin(self, key: TaskKey) -> AbstractContextManager[None]:
        """Keep the task from being evicted for a while. Raises TaskNotFound."""

    def evict(self, key: TaskKey) -> Bytes:
        """Delete a task unless it is in use; the bytes of disk that gives back.

        0 where it is in use or unknown, and where somebody's hard link keeps the bytes.
        """

    def cool(self, key: TaskKey) -> None:
        """Let the operating system drop a task's bytes from its page cache. No use of it, and no error if unknown."""

    def usage(self) -> Usage:
        """What the store takes and what is left. Cheap: counters, and one question to the file system."""

    def close(self) -> None:
        """Write down what is pending; the store cannot be used afterwards."""
