"""What bulk threads do: take one piece from a parent, or a run of pieces from the origin, and say how it went.

Every function here blocks, runs on a bulk thread and ends by returning the event for the download's machine, or by
posting one for each piece on the way. Piece bytes go socket -> buffer -> file; the event loop sees numbers only.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event as Flag

from dragonfly.core.model.ids import PeerId, TaskKey
from dragonfly.core.model.piece import PieceGeometry, PieceNumber
from dragonfly.core.model.ranges import ByteRange
from dragonfly.core.model.units import Bytes, Seconds
from dragonfly.core.transfer.events import Event, FetchGivenUp, PieceFailed, PieceFetched, SourceFailed
from dragonfly.dfdaemon.pieces.client import PieceClient
from dragonfly.errors import DownloadCancelled, DragonflyError, InternalFailure, PeerError, SourceError
from dragonfly.source.protocol import Source, SourceRequest, SourceStat
from dragonfly.storage.store import PieceWriter, TaskStore

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ParentAddress:
    """Where a parent serves pieces."""

    ip: str
    port: int


def fetch_from_parent(
    store: TaskStore,
    client: PieceClient,
    key: TaskKey,
    number: PieceNumber,
    parent_id: PeerId,
    address: ParentAddress,
    stopped: Flag,
) -> Event:
    """Take one piece from a parent into the store."""
    try:
        with store.claim(key, number) as writer:
            piece = client.fetch(
                (address.ip, address.port), key.wire_id, writer, parent_id=parent_id, stopped=stopped.is_set
            )
        return PieceFetched(piece)
    except PeerError as error:
        return PieceFailed(number, parent_id, error)
    except Exception as error:  # a thread's failure must become an event, or the download waits for ever
        return FetchGivenUp(number, _ours(error))


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceJob:
    """A run of pieces to read from the origin. `post` takes the events and may be called from any thread."""

    store: TaskStore
    source: Source
    request: SourceRequest
    stat: SourceStat
    key: TaskKey
    geometry: PieceGeometry
    numbers: tuple[PieceNumber, ...]
    timeout: Seconds
    stopped: Flag
    post: Callable[[Event], None]

    def run(self) -> None:
        """Read the run in one request; posts PieceFetched for each, then SourceFailed or FetchGivenUp if cut short."""
        run = _PieceRun(self)
        try:
            with run:
                self.source.read(self.request, self.stat, run.span, run.write, timeout=self.timeout)
        except SourceError as error:
            self.post(SourceFailed(run.left, error))
        except Exception as error:  # as above
            self.post(FetchGivenUp(run.left[0] if run.left else self.numbers[0], _ours(error)))


class _PieceRun:
    """Cuts the origin's bytes into pieces as they come; the piece at hand has a writer, pieces not asked for none."""

    def __init__(self, job: SourceJob) -> None:
        self._job = job
        self._position: Bytes = 0
        self._writer: PieceWriter | None = None
        self._began: Seconds = 0.0
        first, last = job.geometry.span(job.numbers[0]), job.geometry.span(job.numbers[-1])
        if not job.stat.supports_ranges:
            first, last = (
                job.geometry.span(PieceNumber(0)),
                job.geometry.span(PieceNumber(job.geometry.piece_count - 1)),
            )
        self.span = ByteRange(first.start, last.end - first.start)
        self._position = self.span.start
        self.left = job.numbers

    def __enter__(self) -> "_PieceRun":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._give_up_writer()

    def write(self, view: memoryview) -> None:
        """Take the next bytes of the span. Raises what the store raises, or DownloadCancelled."""
        if self._job.stopped.is_set():
            raise DownloadCancelled
        while view:
            taken = self._write_within_piece(view)
            view = view[taken:]

    def _write_within_piece(self, view: memoryview) -> Bytes:
        number = PieceNumber(self._position // self._job.geometry.piece_length)
        piece_end = self._job.geometry.span(number).end
        taken = min(len(view), piece_end - self._position)
        if self.left and number == self.left[0]:
            self._writer_of(number).write(view[:taken])
        self._position += taken
        if self._position == piece_end and self._writer is not None:
            self._commit(self._writer)
        return taken

    def _writer_of(self, number: PieceNumber) -> PieceWriter:
        if self._writer is None:
            self._began = time.monotonic()
            self._writer = self._job.store.claim(self._job.key, number).__enter__()
        return self._writer

    def _commit(self, writer: PieceWriter) -> None:
        piece = writer.commit(parent_id=None, cost=time.monotonic() - self._began)
        self._give_up_writer()
        self.left = self.left[1:]
        self._job.post(PieceFetched(piece))

    def _give_up_writer(self) -> None:
        """Hand the claim back; a no-op for what was committed."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.__exit__(None, None, None)


def _ours(error: Exception) -> DragonflyError:
    if isinstance(error, DragonflyError):
        return error
    log.error("a fetch failed", exc_info=error)
    return InternalFailure(reason=f"{type(error).__name__}: {error}")
