"""One peer's conversation with its scheduler: the AnnouncePeer stream, its answers posted to the flight as events.

Before the first answer a scheduler that is away is replaced by the next one of the ring, and one that does not know
this host (it has just started) is told about it and asked again. After that a broken stream is a lost scheduler: the
download goes on without, the next one asks again.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import suppress
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
        async with self._link.stub(address) as scheduler:
            call = scheduler.AnnouncePeer(self._outgoing(register))
            answers = aiter(call)
            try:
                if self._flight.geometry.is_open:
                    await _see_that_it_is_ours(call, address)
                with suppress(StopAsyncIteration):
                    while True:
                        self._hear(await self._next(answers, address), address)
            finally:
                call.cancel()  # or its end of the outbox would swallow what the next call has to say

    async def _next(
        self, answers: AsyncIterator[scheduler_pb2.AnnouncePeerResponse], address: str
    ) -> scheduler_pb2.AnnouncePeerResponse:
        """The next answer. Raises SchedulerUnreachable if the scheduler fell silent; to wait for a seed is not that."""
        answer = asyncio.ensure_future(anext(answers))
        silence = asyncio.create_task(self._link.silence(address).wait(), name=f"silence of {address}")
        waited: set[asyncio.Future[Any]] = {answer, silence}
        try:
            await asyncio.wait(waited, timeout=self._silence_timeout, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return answer.result()
            raise SchedulerUnreachable(address=address, reason="it fell silent")
        finally:
            for task in waited:
                task.cancel()
            await asyncio.gather(*waited, return_exceptions=True)

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

    async def _outgoing(self, register: Request | None) -> AsyncIterator[Request]:
        request = register
        while request is not None:
            yield request
            request = await self._outbox.get()


async def _see_that_it_is_ours(call: grpc.aio.StreamStreamCall[Any, Any], address: str) -> None:
    """Only our scheduler serves files of unknown length. Raises SchedulerUnreachable for any other."""
    try:
        async with asyncio.timeout(INTRODUCTION_TIMEOUT):
            known = {str(key) for key, _ in await call.initial_metadata() or ()}
    except TimeoutError:  # the reference's scheduler sends nothing before its first answer
        known = set()
    if SCHEDULER_VERSION not in known:
        raise SchedulerUnreachable(address=address, reason="it cannot schedule files of unknown length")
