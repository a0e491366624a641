"""One peer's conversation with its scheduler: the AnnouncePeer stream, its answers posted to the flight as events.

Before the first answer a scheduler that is away is replaced by the next one of the ring, and one that does not know
this host (it has just started) is told about it and asked again. After that a broken stream is a lost scheduler: the
download goes on without, the next one asks again.
"""

import asyncio
import logging
import time
from typing import Any

import grpc.aio

from dragonfly.core.model.ids import PeerId
from dragonfly.core.model.units import Seconds
from dragonfly.core.transfer import commands as do
from dragonfly.core.transfer.events import RootsTold, SchedulerLost, SchedulerRefused
from dragonfly.dfdaemon.flight import Flight
from dragonfly.dfdaemon.scheduler_link import SchedulerLink
from dragonfly.errors import (
    DownloadForbidden,
    DragonflyError,
    HostUnknown,
    InternalFailure,
    NoSourceAllowed,
    SchedulerUnreachable,
)
from dragonfly.wire.announce import SCHEDULER_VERSION
from dragonfly.wire.pb import scheduler_pb2
from dragonfly.wire.transfer import PeerMessages, Request, read_response

log = logging.getLogger(__name__)

INTRODUCTION_TIMEOUT: Seconds = 2.0
CLOSE_TIMEOUT: Seconds = 5.0  # for the scheduler to end the stream after our last word
AnnounceCall = Any  # grpc.aio's type takes its type arguments in its stubs only
REFUSALS = (DownloadForbidden, NoSourceAllowed)


class Talk:
    """Starts when made. `silence_timeout` bounds how long the scheduler may say nothing."""

    def __init__(self, link: SchedulerLink, flight: Flight, messages: PeerMessages, silence_timeout: Seconds) -> None:
        self._link, self._flight, self._messages = link, flight, messages
        self._silence_timeout = silence_timeout
        self._outbox: asyncio.Queue[Request | None] = asyncio.Queue()
        self._addresses: dict[PeerId, str] = {}
        self._is_answered = False
        self._is_closing = False
        self._task = asyncio.create_task(self._converse(), name=f"announce peer {flight.peer_id}")

    def address_of(self, parent_id: PeerId) -> str:
        """The gRPC address of a parent that was offered."""
        return self._addresses[parent_id]

    def send(self, command: do.Command) -> None:
        self._is_closing |= isinstance(command, do.ReportFinished | do.ReportFailed)  # it hangs up when it hears that
        if request := self._messages.request(command, time.time()):
            self._outbox.put_nowait(request)

    async def close(self) -> None:
        self._is_closing = True
        self._outbox.put_nowait(None)
        done, _ = await asyncio.wait({self._task}, timeout=CLOSE_TIMEOUT)
        if not done:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _converse(self) -> None:
        try:
            await self._talk_to_any()
            error: DragonflyError = SchedulerUnreachable(address="its address", reason="it ended the conversation")
        except DragonflyError as failure:
            error = failure
        except Exception as failure:  # whatever it was, the download must not wait for this conversation
            log.exception("the conversation of peer %s broke", self._flight.peer_id)
            error = InternalFailure(reason=type(failure).__name__)
        if self._is_closing:
            return
        log.info("peer %s has no scheduler: %s", self._flight.peer_id, error)
        self._flight.post(SchedulerRefused(error) if isinstance(error, REFUSALS) else SchedulerLost(error))

    async def _talk_to_any(self) -> None:
        """With the first scheduler that answers. Raises the last one's error if none does."""
        register = await self._outbox.get()
        addresses = self._link.addresses_for(self._flight.key.wire_id)
        for position, address in enumerate(addresses):
            try:
                await self._introduced(address, register)
            except SchedulerUnreachable:
                if self._is_answered or position == len(addresses) - 1:
                    raise
            else:
                return

    async def _introduced(self, address: str, register: Request | None) -> None:
        try:
            await self._talk_to(address, register)
        except HostUnknown:
            if self._is_answered:
                raise
            await self._link.announce_host(address)
            await self._talk_to(address, register)

    async def _talk_to(self, address: str, register: Request | None) -> None:
        """Raises SchedulerUnreachable if the scheduler fell silent; to wait for a seed peer is not that."""
        silence = self._link.silence(address)
        async with self._link.stub(address) as scheduler:
            if silence.is_on:
                raise SchedulerUnreachable(address=address, reason="it fell silent")
            call = scheduler.AnnouncePeer()
            writing = asyncio.create_task(self._write(call, register), name=f"reports of peer {self._flight.peer_id}")
            try:
                with silence.heard_by(call.cancel):
                    if self._flight.geometry.is_open:
                        await _see_that_it_is_ours(call, address)
                    await self._read(call, address)
            except asyncio.CancelledError:
                if _is_cancelled():
                    raise
                raise SchedulerUnreachable(address=address, reason="it fell silent") from None
            except TimeoutError:
                raise SchedulerUnreachable(address=address, reason="it fell silent") from None
            finally:
                call.cancel()
                writing.cancel()  # or it would swallow what the next call has to say
                await asyncio.wait({writing})

    async def _read(self, call: AnnounceCall, address: str) -> None:
        """Hear answers until the scheduler ends the conversation. Raises TimeoutError after a silence."""
        while True:
            async with asyncio.timeout(self._silence_timeout):
                answer = await call.read()
            if answer is grpc.aio.EOF:
                return
            self._hear(answer, address)

    async def _write(self, call: AnnounceCall, register: Request | None) -> None:
        """Pass on what there is to say; a call that is broken tells its reader why."""
        request = register
        try:
            while request is not None:
                await call.write(request)
                request = await self._outbox.get()
            await call.done_writing()
        except (grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.InvalidStateError):
            return

    def _hear(self, response: scheduler_pb2.AnnouncePeerResponse, address: str) -> None:
        heard = read_response(response, address)
        self._addresses |= heard.addresses
        if isinstance(heard.event, RootsTold):
            self._flight.learn_roots(heard.roots)
        else:
            self._is_answered = True
        self._flight.post(heard.event)
        if heard.content_length is not None:
            self._flight.settle_length(heard.content_length)


def _is_cancelled() -> bool:
    """Whether this very task is being cancelled, and not only the call it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _see_that_it_is_ours(call: AnnounceCall, address: str) -> None:
    """Only our scheduler serves files of unknown length. Raises SchedulerUnreachable for any other."""
    try:
        async with asyncio.timeout(INTRODUCTION_TIMEOUT):
            known = {str(key) for key, _ in await call.initial_metadata() or ()}
    except TimeoutError:  # the reference's scheduler sends nothing before its first answer
        known = set()
    if SCHEDULER_VERSION not in known:
        raise SchedulerUnreachable(address=address, reason="it cannot schedule files of unknown length")
