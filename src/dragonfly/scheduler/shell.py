"""The one task that owns the scheduling machine: events in, commands carried out, time told.

Streams and other tasks post events or ask questions; both are taken from one inbox in order, so an answer is as fresh
as the last event before it. Nothing is awaited within a transition. A command to a peer goes into the outgoing queue of
its stream, never over the network from here; waking a seed peer is a task of its own that ends by telling how it went.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from dragonfly.core.model.ids import HostId, PeerId
from dragonfly.core.model.units import Seconds
from dragonfly.core.scheduling.commands import (
    CallAgainAt,
    CloseStream,
    Command,
    NoteOtherRoot,
    OfferBackToSource,
    OfferEmpty,
    OfferMetadataOnly,
    OfferParents,
    RefusePeer,
    TellLength,
    TellRoots,
    TriggerSeedPeer,
)
from dragonfly.core.scheduling.events import Event, PeerLeft, SeedTriggerFailed, TimeReached
from dragonfly.core.scheduling.machine import Scheduler
from dragonfly.errors import DownloadCancelled, DragonflyError, InvalidIdentifier, Overloaded
from dragonfly.scheduler.parent_messages import ParentMessages
from dragonfly.scheduler.root_messages import RootMessages
from dragonfly.scheduler.seed_client import SeedClient
from dragonfly.scheduler.stream import PeerStream
from dragonfly.wire.announce import bare_download, length_to_pb, response_to_pb, seed_trigger

log = logging.getLogger(__name__)

INBOX_LIMIT = 10_000  # events; beyond it streams are read no further until the machine has caught up
BATCH = 64  # events between two turns of everybody else on the loop

T = TypeVar("T")
Observer = Callable[[Event, list[Command]], None]


class Shell:
    """Runs one machine. `observe` sees every event with what it led to; metrics and event logs hang there."""

    def __init__(
        self, machine: Scheduler, seeds: SeedClient, *, clock: Callable[[], Seconds], observe: Observer | None = None
    ) -> None:
        self._machine = machine
        self._seeds = seeds
        self._clock = clock
        self._observe = observe
        self._inbox: deque[Event | Callable[[Scheduler], None]] = deque()
        self._arrived = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._streams: dict[PeerId, PeerStream] = {}
        self._messages = ParentMessages()
        self._root_messages = RootMessages()
        self._triggers: set[asyncio.Task[None]] = set()
        self._call_at: Seconds | None = None

    # --- for streams and RPCs

    def post(self, event: Event) -> None:
        """Put an event into the inbox."""
        self._put(event)

    async def has_room(self) -> None:
        """Wait until the inbox is not too full: whoever reads from the network does so before each event."""
        await self._has_room.wait()

    async def ask(self, question: Callable[[Scheduler], T]) -> T:
        """The answer to `question` about the machine, which it must not change. Raises what the question raises."""
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def reply(machine: Scheduler) -> None:
            if answer.done():  # whoever asked has gone
                return
            try:
                answer.set_result(question(machine))
            except Exception as error:  # it belongs to whoever asked
                answer.set_exception(error)

        self._put(reply)
        return await answer

    def after(self, then: Callable[[], None]) -> None:
        """Call `then` once the machine has taken in what was posted before."""
        self._put(lambda machine: then())

    def open(self, stream: PeerStream) -> None:
        """Answers to this peer go to this stream from now on.

        A second stream of the same host's peer replaces the first: its client reconnected. Raises InvalidIdentifier
        where the peer id belongs to somebody else.
        """
        peer_id = stream.identity.peer_id
        known = self._streams.get(peer_id)
        if known is not None:
            if known.identity != stream.identity:
                raise InvalidIdentifier(kind="peer id", text=peer_id)
            known.end(DownloadCancelled())
        self._streams[peer_id] = stream

    def close(self, stream: PeerStream) -> None:
        """The stream is over; if the machine did not end it, the peer is gone with it."""
        peer_id = stream.identity.peer_id
        if self._streams.get(peer_id) is stream:
            del self._streams[peer_id]
            self.post(PeerLeft(peer_id))

    # --- the owner

    async def run(self) -> None:
        """Serve until cancelled; triggers that still run are cancelled with it."""
        try:
            while True:
                await self._wait()
                self._turn()
                await asyncio.sleep(0)
        finally:
            for trigger in self._triggers:
                trigger.cancel()
            await asyncio.gather(*self._triggers, return_exceptions=True)

    async def _wait(self) -> None:
        """Until something arrives or the machine's time has come."""
        if self._inbox:
            return
        self._arrived.clear()
        remaining = None if self._call_at is None else max(self._call_at - self._clock(), 0.0)
        try:
            async with asyncio.timeout(remaining):
                await self._arrived.wait()
        except TimeoutError:
            pass

    def _turn(self) -> None:
        if self._call_at is not None and self._call_at <= self._clock():
            self._call_at = None
            self._handle(TimeReached())
        for _ in range(min(BATCH, len(self._inbox))):
            item = self._inbox.popleft()
            if callable(item):
                item(self._machine)
            else:
                self._handle(item)
        if len(self._inbox) < INBOX_LIMIT:
            self._has_room.set()

    def _put(self, item: Event | Callable[[Scheduler], None]) -> None:
        self._inbox.append(item)
        self._arrived.set()
        if len(self._inbox) >= INBOX_LIMIT:
            self._has_room.clear()

    def _handle(self, event: Event) -> None:
        try:
            commands = self._machine.handle(event, self._clock())
        except Exception:  # a defect met by one peer's event must not take every other peer's scheduler away
            log.exception("could not handle %s", type(event).__name__)
            return
        try:
            for command in commands:
                self._carry_out(command)
            if self._observe is not None:
                self._observe(event, commands)
        except Exception:  # as above
            log.exception("could not carry out what follows %s", type(event).__name__)

    def _carry_out(self, command: Command) -> None:
        match command:
            case OfferParents() | OfferBackToSource() | OfferEmpty() | OfferMetadataOnly():
                stream = self._streams.get(command.peer_id)
                if stream is not None and not stream.send(response_to_pb(command, self._messages.encode)):
                    stream.end(Overloaded(reason="the peer does not read its answers"))
            case TellRoots(peer_id):
                stream = self._streams.get(peer_id)
                if stream is not None:
                    stream.tell(self._root_messages.encode(command))
            case TellLength(peer_id):
                stream = self._streams.get(peer_id)
                if stream is not None:
                    stream.tell(length_to_pb(command))
            case NoteOtherRoot(peer_id, task, number):
                log.warning(
                    "peer %s read another piece %d of task %s from the origin than a peer before it, whose word stands",
                    *(peer_id, number, task.wire_id),
                )
            case CloseStream(peer_id):
                self._end_stream(peer_id, None)
            case RefusePeer(peer_id, error):
                log.info("peer %s is refused: %s", peer_id, error)
                self._end_stream(peer_id, error)
            case TriggerSeedPeer():
                self._trigger(command)
            case CallAgainAt(at):
                self._call_at = at if self._call_at is None else min(self._call_at, at)

    def _end_stream(self, peer_id: PeerId, error: DragonflyError | None) -> None:
        stream = self._streams.pop(peer_id, None)
        if stream is not None:
            stream.end(error)

    # --- seeds

    def _trigger(self, command: TriggerSeedPeer) -> None:
        task = asyncio.create_task(self._wake(command), name=f"seed {command.host.id}")
        self._triggers.add(task)
        task.add_done_callback(self._triggers.discard)

    async def _wake(self, command: TriggerSeedPeer) -> None:
        """Have the seed fetch the task. However it ends, the machine hears of it and knows what it means."""
        requester = self._streams.get(command.on_behalf_of)
        download = requester.download if requester else bare_download(command.task)
        request = seed_trigger(download, command.interest)
        host_id: HostId = command.host.id
        log.info("seed peer %s is woken for task %s", host_id, command.task.key.wire_id)
        try:
            await self._seeds.fetch(command.host, request)
            reason = "it ended without asking this scheduler for the task"
        except DragonflyError as error:
            log.warning("seed peer %s failed task %s: %s", host_id, command.task.key.wire_id, error)
            reason = str(error)
        self.post(SeedTriggerFailed(command.task.key, host_id, reason, command.call))
