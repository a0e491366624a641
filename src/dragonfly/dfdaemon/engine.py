"""Every download of this daemon: one flight a task, shared by all who want it, and what is stored from earlier ones.

Before anyone joins or begins a flight the origin is asked about the file with that caller's own credentials: it says
how long the file is, whether it is still the one stored here, and whether this caller may have it.
"""

import asyncio
import logging
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from weakref import WeakValueDictionary

from dragonfly.core.model import ids
from dragonfly.core.model.ids import HostId, PeerId, TaskKey
from dragonfly.core.model.piece import PieceGeometry
from dragonfly.core.model.units import Seconds
from dragonfly.core.transfer.download import DownloadTerms
from dragonfly.core.transfer.events import Cancelled
from dragonfly.dfdaemon.flight import Flight, FlightDeck
from dragonfly.dfdaemon.request import DownloadRequest
from dragonfly.errors import Overloaded, SourceChanged
from dragonfly.source.http_address import shown
from dragonfly.source.protocol import Source, SourceStat
from dragonfly.source.schemes import Sources
from dragonfly.storage.store import OriginFacts, StoredTask, TaskStore

log = logging.getLogger(__name__)

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


class Engine:
    """`terms` makes the terms of a download from its request and the origin's answer."""

    def __init__(
        self,
        identity: Identity,
        store: TaskStore,
        sources: Sources,
        deck: FlightDeck,
        terms: Callable[[DownloadRequest, SourceStat], DownloadTerms],
    ) -> None:
        self.identity, self.store = identity, store
        self._sources, self._deck, self._terms = sources, deck, terms
        self._flights: dict[TaskKey, Flight] = {}
        self._tasks: dict[TaskKey, asyncio.Task[None]] = {}
        self._winding_down: set[asyncio.Task[None]] = set()
        self._locks: WeakValueDictionary[TaskKey, asyncio.Lock] = WeakValueDictionary()
        self._ask = ThreadPoolExecutor(max_workers=32, thread_name_prefix="ask-origin")
        self.output_threads = ThreadPoolExecutor(max_workers=8, thread_name_prefix="output")  # slow disks of users
        self._is_stopping = False

    async def join(self, request: DownloadRequest) -> Flight:
        """The flight that brings this task here, begun if there is none; `leave` it when done.

        Raises what the origin or the disk says against it: SourceError, StorageError, InvalidInput.
        """
        if self._is_stopping:
            raise Overloaded(reason="this daemon is stopping")
        source = self._sources.of(request.source.url)
        stat = await asyncio.get_running_loop().run_in_executor(
            self._ask, lambda: source.stat(request.source, timeout=STAT_TIMEOUT)
        )
        joining = asyncio.create_task(self._join(request, source, stat), name=f"join {request.key.wire_id}")
        try:
            return await asyncio.shield(joining)
        except asyncio.CancelledError:  # the caller hung up; what was begun for it is ended in good order
            joining.add_done_callback(self._leave_unasked)
            raise

    async def _join(self, request: DownloadRequest, source: Source, stat: SourceStat) -> Flight:
        async with self._lock(request.key):
            if self._is_stopping:
                raise Overloaded(reason="this daemon is stopping")
            flight = self._flights.get(request.key)
            if flight is not None and not flight.is_over:
                if difference := flight.stat.version.difference(stat.version):
                    reason = f"{difference}, while it is being downloaded"
                    raise SourceChanged(url=shown(request.source.url), reason=reason)
            else:
                if flight is not None and not await flight.has_let_go():
                    raise Overloaded(reason="an earlier download of this task is still ending")
                stored = await asyncio.to_thread(self._prepare, request, stat)
                terms = self._terms(request, stat)
                flight = Flight(self._deck, request, source, stat, stored, self.identity.new_peer_id(), terms)
                self._begin(flight)
            flight.users += 1
            return flight

    def _leave_unasked(self, joining: "asyncio.Task[Flight]") -> None:
        if not joining.cancelled() and joining.exception() is None:
            self.leave(joining.result())

    def leave(self, flight: Flight) -> None:
        """The caller that joined wants no more of it; a flight nobody wants ends."""
        flight.users -= 1
        if flight.users == 0 and not flight.is_over:
            flight.post(Cancelled())  # which it forgets if somebody joins meanwhile

    def flight_of(self, wire_id: str) -> Flight | None:
        """The running flight of the task others name so."""
        named = (flight for key, flight in self._flights.items() if key.wire_id == wire_id)
        return next((flight for flight in named if not flight.is_over), None)

    async def delete(self, key: TaskKey) -> None:
        """End the task's flight and forget what is stored of it."""
        async with self._lock(key):
            if flight := self._flights.get(key):
                flight.end()
                await asyncio.wait({self._tasks[key]})
            await asyncio.to_thread(self.store.delete, key)

    async def stop(self) -> None:
        """End every flight; what they have stays stored."""
        self._is_stopping = True
        self._sources.close()  # or threads would wait for origins that say nothing
        for flight in self._flights.values():
            flight.end()
        await asyncio.gather(*self._tasks.values(), *self._winding_down, return_exceptions=True)
        for threads in (self._ask, self.output_threads):
            threads.shutdown(wait=False, cancel_futures=True)

    def _lock(self, key: TaskKey) -> asyncio.Lock:
        """One lock a task, for as long as anybody holds or waits for it."""
        return self._locks.setdefault(key, asyncio.Lock())

    def _begin(self, flight: Flight) -> None:
        earlier = self._tasks.get(flight.key)
        if earlier is not None:  # over for its users, still saying goodbye
            self._winding_down.add(earlier)
            earlier.add_done_callback(self._winding_down.discard)
        self._flights[flight.key] = flight
        task = asyncio.create_task(flight.fly(), name=f"flight of task {flight.key.wire_id}")
        self._tasks[flight.key] = task
        task.add_done_callback(lambda _: self._ended(flight, task))

    def _ended(self, flight: Flight, task: asyncio.Task[None]) -> None:
        if self._flights.get(flight.key) is flight:
            del self._flights[flight.key], self._tasks[flight.key]
        if not task.cancelled() and (error := task.exception()):
            log.error("the flight of task %s broke", flight.key.wire_id, exc_info=error)

    def _prepare(self, request: DownloadRequest, stat: SourceStat) -> StoredTask:
        """What is stored of the task, if it is still the file the origin has; else room for a new copy. Blocking."""
        stored = self.store.get(request.key)
        if stored is not None and (difference := stored.version.difference(stat.version)):
            log.info("task %s is dropped: at the origin, %s", request.key.wire_id, difference)
            self.store.delete(request.key)
            stored = None
        if stored is not None:
            return stored
        facts = OriginFacts(
            url=shown(request.source.url),
            tag=request.wire.tag,
            application=request.principal.application,
            etag=stat.etag,
            last_modified=stat.last_modified,
            response_header=stat.headers,
        )
        return self.store.create(request.key, PieceGeometry.of(stat.content_length, request.piece_length), facts)
