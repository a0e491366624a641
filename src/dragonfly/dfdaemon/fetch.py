"""What bulk threads do: take one piece from a parent, or a run of pieces from the origin, and say how it went.

Every job here blocks, runs on a bulk thread and ends by posting the event for the download's machine, or one for each
piece on the way. Piece bytes go socket -> buffer -> file; the event loop sees numbers only.

Several downloads of one task may run on this host, for different ranges of it. They meet at the store's claims: who
comes second waits for the first one's piece, and takes it over where the first gives up.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from threading import Event as Flag

from dragonfly.core.model.ids import PeerId, TaskKey
from dragonfly.core.model.piece import Piece, PieceGeometry, PieceNumber
from dragonfly.core.model.ranges import ByteRange
from dragonfly.core.model.units import Bytes, Seconds
from dragonfly.core.transfer.events import (
    Event,
    FetchGivenUp,
    LengthSettled,
    PieceFailed,
    PieceFetched,
    PieceFound,
    SourceFailed,
)
from dragonfly.dfdaemon.limits import Pace
from dragonfly.dfdaemon.pieces.client import PieceClient
from dragonfly.errors import (
    DiskFull,
    DownloadCancelled,
    DragonflyError,
    InternalFailure,
    PeerError,
    PieceNotFound,
    SourceChanged,
    SourceError,
)
from dragonfly.source.http_address import shown
from dragonfly.source.protocol import Source, SourceRequest, SourceStat
from dragonfly.storage.store import PieceWriter, TaskStore

log = logging.getLogger(__name__)

WAIT_SLICE: Seconds = 0.25  # how late a stopped download that waits for another one's piece notices


@dataclass(frozen=True, slots=True)
class ParentAddress:
    """Where a parent serves pieces."""

    ip: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What the jobs of one download have in common. `post` takes the events and may be called from any thread.

    `make_room` frees disk space and says whether it could; it may take a while.
    """

    store: TaskStore
    key: TaskKey
    stopped: Flag
    post: Callable[[Event], None]
    make_room: Callable[[Bytes], bool]

    def claim(self, number: PieceNumber) -> PieceWriter | None:
        """The claim on a piece; None if it is here, or comes in by another download. Raises StorageError."""
        try:
            return self._claimed(number)
        except FileExistsError:
            return None

    def _claimed(self, number: PieceNumber) -> PieceWriter:
        while True:
            try:
                return self.store.claim(self.key, number)
            except DiskFull as error:
                if not self.make_room(error.needed):  # else again, for somebody may have taken it meanwhile
                    raise

    def claim_or_wait(self, number: PieceNumber) -> PieceWriter | Piece:
        """The claim, or the piece once the other download that has the claim is done. Raises DownloadCancelled."""
        while not self.stopped.is_set():
            writer = self.claim(number)
            if writer is not None:
                return writer
            try:
                with self.store.open_piece(self.key, number, wait=WAIT_SLICE) as reader:
                    return reader.piece
            except PieceNotFound:
                continue
        raise DownloadCancelled


@dataclass(frozen=True, slots=True, kw_only=True)
class ParentJob:
    """One piece to take from a parent. `root` is what the scheduler told (empty: nothing), `leaves` prove it."""

    desk: Desk
    client: PieceClient
    number: PieceNumber
    parent_id: PeerId
    address: ParentAddress
    root: bytes = b""
    leaves: bytes = b""
    pace: Pace | None = None

    def run(self) -> None:
        """Posts PieceFetched, PieceFound, PieceFailed or FetchGivenUp."""
        self.desk.post(self._event())

    def _event(self) -> Event:
        try:
            taken = self.desk.claim_or_wait(self.number)
            if isinstance(taken, Piece):
                return PieceFound(taken)
            with taken as writer:
                return PieceFetched(self._fetch(writer))
        except PeerError as error:
            return PieceFailed(self.number, self.parent_id, error)
        except Exception as error:  # a thread's failure must become an event, or the download waits for ever
            return FetchGivenUp(self.number, _ours(error))

    def _fetch(self, writer: PieceWriter) -> Piece:
        return self.client.fetch(
            (self.address.ip, self.address.port),
            self.desk.key.wire_id,
            writer,
            parent_id=self.parent_id,
            stopped=self.desk.stopped.is_set,
            leaves=self.leaves,
            root=self.root,
            pace=self.pace,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceJob:
    """Pieces to read from the origin in one go: neighbouring ones, or, without numbers, the file to its unknown end."""

    desk: Desk
    source: Source
    request: SourceRequest
    stat: SourceStat
    geometry: PieceGeometry
    numbers: tuple[PieceNumber, ...] = ()
    timeout: Seconds
    pace: Pace | None = None

    def run(self) -> None:
        """Posts PieceFetched or PieceFound for each, then SourceFailed or FetchGivenUp if it was cut short."""
        run = _PieceRun(self) if self.numbers else _EndlessRun(self)
        try:
            with run:
                if run.begin():
                    self.source.read(self.request, self.stat, run.span, run.write, timeout=self.timeout)
                run.end()
        except SourceError as error:
            self.desk.post(SourceFailed(tuple(run.left), error))
        except Exception as error:  # as above
            self.desk.post(FetchGivenUp(run.left[0] if run.left else PieceNumber(0), _ours(error)))


@dataclass(slots=True)
class _PieceRun:
    """Cuts the origin's bytes into pieces as they come; the piece at hand has a writer, pieces not wanted have none."""

    job: SourceJob
    span: ByteRange | None = None
    left: list[PieceNumber] = field(default_factory=list)
    _position: Bytes = 0
    _writer: PieceWriter | None = None
    _began: Seconds = 0.0
    _elsewhere: list[PieceNumber] = field(default_factory=list)  # come in by other downloads of the task

    def __post_init__(self) -> None:
        job = self.job
        self.left = list(job.numbers)
        geometry = job.geometry
        first = geometry.span(job.numbers[0]).start if job.stat.supports_ranges else 0
        end = geometry.span(job.numbers[-1]).end
        self.span = ByteRange(first, end - first)
        self._position = first

    def begin(self) -> bool:
        """Whether the origin has to be asked at all: not if the only piece comes in by another download."""
        if len(self.left) == 1:
            self._take(self.left[0])
        return bool(self.left)

    def end(self) -> None:
        """Everything was read: wait for what comes in elsewhere, and read what is given up there."""
        for number in self._elsewhere:
            taken = self.job.desk.claim_or_wait(number)
            if isinstance(taken, Piece):
                self.job.desk.post(PieceFound(taken))
                continue
            with taken:  # given back to the job that reads it
                pass
            replace(self.job, numbers=(number,)).run()

    def write(self, view: memoryview) -> None:
        """Take the next bytes of the span. Raises what the store raises, or DownloadCancelled."""
        if self.job.desk.stopped.is_set():
            raise DownloadCancelled
        if self.job.pace is not None:
            self.job.pace(len(view))
        while view:
            taken = self._write_within_piece(view)
            view = view[taken:]

    def _write_within_piece(self, view: memoryview) -> Bytes:
        number = PieceNumber(self._position // self.job.geometry.piece_length)
        span = self.job.geometry.span(number)
        if self._position == span.start and self._writer is None and self._is_wanted(number):
            self._take(number)
        taken = min(len(view), span.end - self._position)
        if self._writer is not None:
            self._writer.write(view[:taken])
        self._position += taken
        if self._position == span.end and self._writer is not None:
            self._commit(self._writer)
        return taken

    def _is_wanted(self, number: PieceNumber) -> bool:
        return bool(self.left) and number == self.left[0]

    def _take(self, number: PieceNumber) -> None:
        """Claim the piece, or put it with those that others bring."""
        writer = self.job.desk.claim(number)
        if writer is None:
            self._elsewhere.append(number)
            self._forget(number)
            return
        self._began = time.monotonic()
        self._writer = writer.__enter__()
        self._writer.restart(is_certain=True)

    def _forget(self, number: PieceNumber) -> None:
        if self.left and self.left[0] == number:
            del self.left[0]

    def _commit(self, writer: PieceWriter) -> None:
        piece = writer.commit(parent_id=None, cost=time.monotonic() - self._began)
        self._give_up_writer()
        self._forget(piece.number)
        self.job.desk.post(PieceFetched(piece))

    def _give_up_writer(self) -> None:
        """Hand the claim back; a no-op for what was committed."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.__exit__(None, None, None)

    def __enter__(self) -> "_PieceRun":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._give_up_writer()


class _EndlessRun(_PieceRun):
    """As a run, of a file that ends where the origin ends it; its length is settled then."""

    def __post_init__(self) -> None:
        self.span = None

    def begin(self) -> bool:
        return True

    def _is_wanted(self, number: PieceNumber) -> bool:
        return True

    def _check(self, length: Bytes) -> None:
        """Raise SourceChanged where the task's length was settled otherwise, by an earlier reading or by a peer's."""
        stored = self.job.desk.store.get(self.job.desk.key)
        if stored is not None and not stored.geometry.is_open and stored.geometry.content_length != length:
            reason = f"it was {stored.geometry.content_length} bytes long and is now {length}"
            raise SourceChanged(url=shown(self.job.request.url), reason=reason)

    def end(self) -> None:
        desk, length = self.job.desk, self._position
        self._check(length)
        desk.store.settle_length(desk.key, length)
        geometry = self.job.geometry.closed(length)
        desk.post(LengthSettled(length, geometry.piece_count))
        if self._writer is not None:  # the last piece, shorter than the others
            self._commit(self._writer)
        self.job = replace(self.job, geometry=geometry)
        _PieceRun.end(self)


def _ours(error: Exception) -> DragonflyError:
    if isinstance(error, DragonflyError):
        return error
    log.error("a fetch failed", exc_info=error)
    return InternalFailure(reason=f"{type(error).__name__}: {error}")
