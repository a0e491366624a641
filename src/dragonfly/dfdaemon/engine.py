"""Every download of this daemon: flights that bring tasks or ranges of them here, shared by all who want the same.

Before anyone joins or begins a flight the origin is asked about the file with that caller's own credentials: it says
how long the file is, whether it is still the one stored here, and whether this caller may have it. What is stored
whole is asked for by condition, so that an unchanged file costs one short answer. Two cases need no origin: a file
whose URL names its digest, unless it was read with credentials; and, where `serveStale` allows it, an origin that is
away.

A task has at most one flight for the whole of it; flights for ranges may fly beside it and share its store. A caller
takes a seat in a flight that covers what it wants, and leaves it when it has that.
"""

import asyncio
import logging
import threading
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from weakref import WeakValueDictionary

from dragonfly.core.model import ids
from dragonfly.core.model.ids import HostId, PeerId, TaskKey
from dragonfly.core.model.piece import PieceGeometry, PieceNumber, PieceSet
from dragonfly.core.model.ranges import ByteRange
from dragonfly.core.model.task import Priority, TaskKind
from dragonfly.core.model.units import Bytes, Seconds
from dragonfly.core.transfer.download import DownloadTerms
from dragonfly.core.transfer.events import Cancelled
from dragonfly.dfdaemon.flight import Flight, FlightDeck
from dragonfly.dfdaemon.request import DownloadRequest
from dragonfly.dfdaemon.updates import Noticed, PieceArrived, Update
from dragonfly.errors import (
    DaemonStopping,
    DiskFull,
    DownloadCancelled,
    DownloadForbidden,
    DragonflyError,
    Overloaded,
    SourceChanged,
    SourceError,
    StorageError,
    TaskNotFound,
)
from dragonfly.source.credentials import has_credentials
from dragonfly.source.http_address import shown
from dragonfly.source.protocol import Source, SourceEntry, SourceRequest, SourceStat
from dragonfly.source.schemes import Sources
from dragonfly.storage.store import OriginFacts, StoredTask, TaskStore
from dragonfly.telemetry.metrics import DaemonMetrics

log = logging.getLogger(__name__)

FIRST_BYTE = ByteRange(0, 1)
STAT_TIMEOUT: Seconds = 15.0  # for each silence of an origin that is asked about a file


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who this daemon is in the swarm."""

    host_id: HostId
    ip: str
    hostname: str
    is_seed: bool

    def new_peer_id(self) -> PeerId:
        return ids.peer_id(self.ip, self.hostname, str(uuid.uuid4()), is_seed=self.is_seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnginePolicy:
    """What the settings say about downloads.

    `terms` makes the terms of one from its request and the origin's answer. `room_left` says, blocking but quickly,
    how many more bytes fit; `make_room` frees disk space for so many and says whether it could.
    """

    terms: Callable[[DownloadRequest, SourceStat], DownloadTerms]
    room_left: Callable[[], Bytes]
    make_room: Callable[[Bytes], Awaitable[bool]]
    concurrent_task_count: int = 1000
    serves_stale: bool = False


@dataclass(slots=True, eq=False)
class Seat:
    """One caller's part in a flight. `span` is what it wants of the task, None for all of it.

    What is stored of the task stays as long as the seat is taken: `hold` lets it go.
    """

    flight: Flight
    span: ByteRange | None
    hold: ExitStack
    notice: str = ""

    async def follow(self) -> AsyncIterator[Update]:
        """The updates that concern this caller; ends once all it wants is here. Raises what the flight failed with."""
        if self.notice:
            yield Noticed(self.notice)
        if self.span is None or self.span == self.flight.span:
            async for update in self.flight.follow():
                yield update
            return
        left = PieceSet.of(self.flight.geometry, self.span)
        async for update in self.flight.follow():
            if isinstance(update, PieceArrived):
                if update.piece.number not in left:
                    continue
                left.discard(update.piece.number)
            yield update
            if not left:
                return


class Engine:
    """Owns the flights; every method is for the event loop."""

    @property
    def metrics(self) -> DaemonMetrics:
        return self._deck.metrics

    def __init__(
        self, identity: Identity, store: TaskStore, sources: Sources, deck: FlightDeck, policy: EnginePolicy
    ) -> None:
        self.identity, self.store, self.sources = identity, store, sources
        self._deck, self._policy = deck, policy
        self._flights: dict[Flight, asyncio.Task[None]] = {}
        self._prefetches: dict[TaskKey, asyncio.Task[None]] = {}
        self._creating = threading.Lock()  # so that two do not take the same room
        self._locks: WeakValueDictionary[TaskKey, asyncio.Lock] = WeakValueDictionary()
        self._ask = ThreadPoolExecutor(max_workers=32, thread_name_prefix="ask-origin")
        self.output_threads = ThreadPoolExecutor(max_workers=8, thread_name_prefix="output")  # slow disks of users
        self._is_stopping = False

    async def join(self, request: DownloadRequest) -> Seat:
        """A seat in a flight that brings what is asked for, begun if there is none; `leave` it when done.

        Raises what the origin or the disk says against it: SourceError, StorageError, InvalidInput; Overloaded.
        """
        if self._is_stopping:
            raise DaemonStopping
        if request.priority is Priority.LEVEL1:  # also of what is here already, which no scheduler is asked about
            raise DownloadForbidden(reason="its priority, LEVEL1, forbids downloads")
        source = self.sources.of(request.source.url)
        stat, notice = await self._ask_origin(request, source)
        span = request.span_within(stat.content_length)
        joining = asyncio.create_task(self._join(request, source, stat, span), name=f"join {request.key.wire_id}")
        try:
            seat = await asyncio.shield(joining)
        except asyncio.CancelledError:  # the caller hung up; what was begun for it is ended in good order
            joining.add_done_callback(self._leave_unasked)
            raise
        seat.notice = notice
        if request.wire.prefetch and span is not None:
            self._prefetch(request)
        return seat

    def _leave_unasked(self, joining: "asyncio.Task[Seat]") -> None:
        if not joining.cancelled() and joining.exception() is None:
            self.leave(joining.result())

    def leave(self, seat: Seat) -> None:
        """The caller that joined wants no more of it; a flight nobody wants ends."""
        seat.hold.close()
        flight = seat.flight
        flight.users -= 1
        if flight.users == 0 and not flight.is_over:
            flight.post(Cancelled())  # which it forgets if somebody joins meanwhile

    def flights_of(self, key: TaskKey) -> list[Flight]:
        """The task's running flights, the one for the whole of it first."""
        running = [flight for flight in self._flights if flight.key == key and not flight.is_over]
        return sorted(running, key=lambda flight: flight.span is not None)

    def find(self, wire_id: str) -> TaskKey | None:
        """The task that others name so, stored or under way."""
        under_way = (flight.key for flight in self._flights if flight.key.wire_id == wire_id)
        return self.store.find(wire_id) or next(under_way, None)

    async def delete(self, key: TaskKey) -> None:
        """End the task's flights and forget what is stored of it."""
        async with self._lock(key):
            await self._delete(key, DownloadCancelled())

    async def delete_broken(self, key: TaskKey, number: PieceNumber, forget: Callable[[], Awaitable[None]]) -> bool:
        """Delete a task with a piece that is not what was written any more; whether it was so.

        Its flights end by an error. Nobody begins anew before `forget` has told those who think that this host has it.
        Raises StorageError, PieceNotFound.
        """
        async with self._lock(key):
            if await asyncio.to_thread(self.store.is_intact, key, number):
                return False
            reason = f"piece {number} is not what was written any more"
            await self._delete(key, StorageError(path=f"task {key.wire_id}", reason=reason))
            await forget()
            return True

    async def _delete(self, key: TaskKey, why: DragonflyError) -> None:
        """Under the task's lock."""
        tasks = [task for flight, task in self._flights.items() if flight.key == key]
        for flight in self.flights_of(key):
            flight.end(why)
        if tasks:
            await asyncio.wait(tasks)
        await asyncio.to_thread(self.store.delete, key)

    async def stop(self) -> None:
        """End every flight; what they have stays stored."""
        self._is_stopping = True
        self.sources.close()  # or threads would wait for origins that say nothing
        for flight in self._flights:
            flight.end(DaemonStopping())
        await asyncio.gather(*self._prefetches.values(), *self._flights.values(), return_exceptions=True)
        for threads in (self._ask, self.output_threads):
            threads.shutdown(wait=False, cancel_futures=True)

    # --- the origin's word

    async def entries(self, request: SourceRequest) -> list[SourceEntry]:
        """What lies below a URL at its origin. Raises SourceError, InvalidInput."""
        source = self.sources.of(request.url)
        ask = asyncio.get_running_loop().run_in_executor
        return await ask(self._ask, lambda: source.entries(request, timeout=STAT_TIMEOUT))

    async def _ask_origin(self, request: DownloadRequest, source: Source) -> tuple[SourceStat, str]:
        """What the origin says of the file, and a notice where it was not asked because it is away."""
        ask = asyncio.get_running_loop().run_in_executor
        return await ask(self._ask, self._word_of_origin, request, source)

    def _word_of_origin(self, request: DownloadRequest, source: Source) -> tuple[SourceStat, str]:
        """Blocking."""
        stored = self._unspoilt(request.key)
        known = _known(stored) if stored is not None and stored.is_finished else None
        if known is not None and stored is not None and _needs_no_origin(request, stored):
            return replace(known, is_unchanged=True), ""
        try:
            return source.stat(request.source, timeout=STAT_TIMEOUT, known=known), ""
        except SourceError as error:
            if known is None or not (self._policy.serves_stale and error.retryable):
                raise
            return replace(known, is_unchanged=True), f"this copy may be stale: {error}"

    async def _join(self, request: DownloadRequest, source: Source, stat: SourceStat, span: ByteRange | None) -> Seat:
        async with self._lock(request.key):
            if self._is_stopping:
                raise DaemonStopping
            running = self.flights_of(request.key)
            for flight in running:
                if difference := flight.stat.version.difference(stat.version):
                    reason = f"{difference}, while it is being downloaded"
                    raise SourceChanged(url=shown(request.source.url), reason=reason)
            flight = next((flight for flight in running if flight.covers(span)), None) or await self._begin(
                request, source, stat, span, is_alone=not running
            )
            hold = ExitStack()
            with suppress(TaskNotFound):  # deleted this moment: the flight fails, and says so
                hold.enter_context(self.store.pin(request.key))
            flight.users += 1
            return Seat(flight, span, hold)

    async def _begin(
        self, request: DownloadRequest, source: Source, stat: SourceStat, span: ByteRange | None, *, is_alone: bool
    ) -> Flight:
        if sum(not flight.is_over for flight in self._flights) >= self._policy.concurrent_task_count:
            raise Overloaded(reason=f"{self._policy.concurrent_task_count} downloads are under way already")
        if is_alone and not await self._has_let_go(request.key):
            raise Overloaded(reason="an earlier download of this task is still ending")
        stored = await self._prepare(request, stat, span)
        terms = self._policy.terms(request, stat)
        flight = Flight(self._deck, request, source, stat, stored, span, self.identity.new_peer_id(), terms)
        task = asyncio.create_task(flight.fly(), name=f"flight of task {flight.key.wire_id}")
        self._flights[flight] = task
        task.add_done_callback(lambda _: self._ended(flight, task))
        return flight

    async def _has_let_go(self, key: TaskKey) -> bool:
        """Whether no thread of a flight that is over writes to the task any more."""
        over = [flight for flight in self._flights if flight.key == key and flight.is_over]
        return all([await flight.has_let_go() for flight in over])

    def _lock(self, key: TaskKey) -> asyncio.Lock:
        """One lock a task, for as long as anybody holds or waits for it."""
        return self._locks.setdefault(key, asyncio.Lock())

    def _ended(self, flight: Flight, task: asyncio.Task[None]) -> None:
        del self._flights[flight]
        if not task.cancelled() and (error := task.exception()):
            log.error("the flight of task %s broke", flight.key.wire_id, exc_info=error)

    # --- the store

    async def _prepare(self, request: DownloadRequest, stat: SourceStat, span: ByteRange | None) -> StoredTask:
        """What is stored of the task, if it is still the file the origin has; else room for a new copy.

        Older tasks are deleted for it if need be. Raises DiskFull before a byte is written.
        """
        while True:
            prepared = await asyncio.to_thread(self._stored_or_created, request, stat, span)
            if isinstance(prepared, StoredTask):
                return prepared
            if not await self._policy.make_room(prepared):  # else again, for somebody may have taken it meanwhile
                free = max(await asyncio.to_thread(self._policy.room_left), 0)
                raise DiskFull(path="the storage", needed=prepared, free=free)

    def _stored_or_created(
        self, request: DownloadRequest, stat: SourceStat, span: ByteRange | None
    ) -> StoredTask | Bytes:
        """The task, or the bytes that do not fit as things are. Blocking."""
        stored = self._still_stored(request, stat)
        needed = _missing(stored, request, stat, span)
        with self._creating:
            if needed and needed > self._policy.room_left():
                return needed
            if stored is not None:
                return stored
            geometry = _geometry(request, stat)
            return self.store.create(request.key, geometry, _facts(request, stat), sparse=span is not None)

    def _still_stored(self, request: DownloadRequest, stat: SourceStat) -> StoredTask | None:
        """Blocking."""
        stored = self._unspoilt(request.key)
        if stored is not None and (reason := _reason_to_drop(stored, stat)):
            log.info("task %s is dropped: at the origin, %s", request.key.wire_id, reason)
            self.store.delete(request.key)
            return None
        return stored

    def _unspoilt(self, key: TaskKey) -> StoredTask | None:
        """What is stored of a task; a finished copy that somebody changed or removed is dropped instead. Blocking."""
        stored = self.store.get(key)
        if stored is not None and stored.is_finished:
            try:
                self.store.content_path(key, FIRST_BYTE)
            except TaskNotFound:
                return None
        return stored

    # --- the whole file behind a range

    def _prefetch(self, request: DownloadRequest) -> None:
        """Fetch the whole task in the background, once; its failure is nobody's but the log's."""
        stored = self.store.get(request.key)
        is_here = stored is not None and stored.is_finished
        if is_here or request.key in self._prefetches or any(f.span is None for f in self.flights_of(request.key)):
            return
        task = asyncio.create_task(self._fetch_all(request), name=f"prefetch {request.key.wire_id}")
        self._prefetches[request.key] = task
        task.add_done_callback(lambda _: self._prefetches.pop(request.key, None))

    async def _fetch_all(self, request: DownloadRequest) -> None:
        tag, application, priority = request.wire.tag, request.principal.application, request.priority
        self.metrics.prefetch_started(TaskKind.STANDARD, tag=tag, application=application, priority=priority)
        try:
            seat = await self.join(request.as_prefetch())
            try:
                async for _ in seat.follow():
                    pass
            finally:
                self.leave(seat)
        except DragonflyError as error:
            self.metrics.prefetch_failed(TaskKind.STANDARD, tag=tag, application=application, priority=priority)
            log.info("task %s is not prefetched: %s", request.key.wire_id, error)


def _geometry(request: DownloadRequest, stat: SourceStat) -> PieceGeometry:
    if stat.content_length is None:
        return PieceGeometry.open(request.piece_length)
    return PieceGeometry.of(stat.content_length, request.piece_length)


def _missing(stored: StoredTask | None, request: DownloadRequest, stat: SourceStat, span: ByteRange | None) -> Bytes:
    """The bytes a download will take of the disk, as far as that is known before it begins."""
    geometry = stored.geometry if stored else _geometry(request, stat)
    if geometry.is_open or (stored is not None and stored.room >= geometry.content_length):
        return 0
    return geometry.length_of(PieceSet.of(geometry, span) - (stored.pieces if stored else PieceSet()))


def _facts(request: DownloadRequest, stat: SourceStat) -> OriginFacts:
    return OriginFacts(
        url=shown(request.source.url),
        tag=request.wire.tag,
        application=request.principal.application,
        etag=stat.etag,
        last_modified=stat.last_modified,
        response_header=stat.headers,
        tells_length=stat.content_length is not None,
        is_private=has_credentials(request.source),
    )


def _known(stored: StoredTask) -> SourceStat:
    """What the origin said of a stored task."""
    return SourceStat(
        content_length=stored.version.content_length,
        headers=stored.origin.response_header,
        etag=stored.origin.etag,
        last_modified=stored.origin.last_modified,
    )


def _needs_no_origin(request: DownloadRequest, stored: StoredTask) -> bool:
    """Whether the URL names what the bytes hash to, and the bytes were given to somebody without credentials."""
    return not stored.origin.is_private and ids.blob_task_id(request.source.url) is not None


def _reason_to_drop(stored: StoredTask, stat: SourceStat) -> str:
    """Why what is stored is not what the origin has, as far as that can be known; "" where it is."""
    if stat.is_unchanged:
        return ""
    if not stat.version.generation:
        return "nothing tells one version of it from another"
    return stored.version.difference(stat.version)
