"""One peer's conversation with its scheduler, its answers posted to the flight as events.

Before the first answer a scheduler that is away is replaced by the next one of the ring, and one that does not know
this host (it has just started) is told about it and asked again. After that a broken stream is a lost scheduler: the
download goes on without, the next one asks again.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dragonfly.core.model.ids import PeerId
from dragonfly.core.model.piece import PieceNumber
from dragonfly.core.model.units import Seconds
from dragonfly.core.transfer import commands as do
from dragonfly.core.transfer.events import RootsTold, SchedulerLost, SchedulerRefused
from dragonfly.dfdaemon.fetch import ParentAddress
from dragonfly.dfdaemon.flight import Flight
from dragonfly.dfdaemon.lines import Line, silent
from dragonfly.dfdaemon.parent_host import ParentHost
from dragonfly.dfdaemon.scheduler_link import SchedulerLink
from dragonfly.errors import (
    DownloadForbidden,
    DragonflyError,
    HostUnknown,
    InternalFailure,
    NoSourceAllowed,
    SchedulerUnreachable,
)
from dragonfly.wire.transfer import Answer, PeerMessages, Request, read_response

log = logging.getLogger(__name__)

CLOSE_TIMEOUT: Seconds = 5.0  # for the scheduler to end the conversation after our last word
FIRST_PIECE = PieceNumber(0)
REFUSALS = (DownloadForbidden, NoSourceAllowed)


class Talk:
    """Starts with the first word. `silence_timeout` bounds how long the scheduler may say nothing."""

    def __init__(self, link: SchedulerLink, flight: Flight, messages: PeerMessages, silence_timeout: Seconds) -> None:
        self._link, self._flight, self._messages = link, flight, messages
        self._silence_timeout = silence_timeout
        self._unsaid: list[Request] = []  # what there was to say while there was no line
        self._line: Line | None = None
        self._addresses: dict[PeerId, str] = {}
        self._piece_addresses: dict[PeerId, tuple[str, int]] = {}
        self._is_told = False  # what the first piece hashes to
        self._awaiting_root: list[Callable[[], None]] = []
        self._is_answered = False
        self._is_heard = False  # a scheduler of ours took the registration
        self._is_closing = False
        self._has_finished = False
        self._task: asyncio.Task[None] | None = None

    def host_of(self, parent_id: PeerId) -> ParentHost:
        """Where a parent is reached that was offered."""
        place = self._piece_addresses.get(parent_id)
        pieces = ParentAddress(*place) if place is not None else None
        return ParentHost(self._addresses[parent_id], pieces, self._when_told)

    def _when_told(self, then: Callable[[], None]) -> None:
        if self._is_told:
            then()
        else:
            self._awaiting_root.append(then)

    def send(self, command: do.Command) -> None:
        self._is_closing |= isinstance(command, do.ReportFinished | do.ReportFailed)  # it hangs up when it hears that
        request = self._messages.request(command, time.time())
        if request is None:
            return
        if self._task is None:
            self._task = asyncio.create_task(self._converse(request), name=f"announce peer {self._flight.peer_id}")
        elif self._line is None:
            self._unsaid.append(request)
        else:
            self._line.say(request)

    async def close(self) -> None:
        self._is_closing = self._has_finished = True
        if self._line is not None:
            self._line.finish()
        if self._task is None:
            return
        done, _ = await asyncio.wait({self._task}, timeout=CLOSE_TIMEOUT)
        if not done:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _converse(self, register: Request) -> None:
        try:
            await self._talk_to_any(register)
            error: DragonflyError = SchedulerUnreachable(address="its address", reason="it ended the conversation")
        except DragonflyError as failure:
            error = failure
        except Exception as failure:  # whatever it was, the download must not wait for this conversation
            log.exception("the conversation of peer %s broke", self._flight.peer_id)
            error = InternalFailure(reason=type(failure).__name__)
        if self._is_closing:
            return
        log.info("peer %s has no scheduler: %s", self._flight.peer_id, error)
        is_refusal = isinstance(error, REFUSALS)
        was_there = self._is_heard or self._is_answered
        self._flight.post(SchedulerRefused(error) if is_refusal else SchedulerLost(error, was_there))

    async def _talk_to_any(self, register: Request) -> None:
        """With the first scheduler that answers. Raises the last one's error if none does."""
        addresses = self._link.addresses_for(self._flight.key.wire_id)
        for position, address in enumerate(addresses):
            try:
                await self._introduced(address, register)
            except SchedulerUnreachable:
                if self._is_answered or position == len(addresses) - 1:
                    raise
            else:
                return

    async def _introduced(self, address: str, register: Request) -> None:
        try:
            await self._talk_to(address, register)
        except HostUnknown:
            if self._is_answered:
                raise
            await self._link.announce_host(address)
            await self._talk_to(address, register)

    async def _talk_to(self, address: str, register: Request) -> None:
        """Raises SchedulerUnreachable if the scheduler fell silent; to wait for a seed peer is not that."""
        silence = self._link.silence(address)
        async with self._link.line(address, self._flight.peer_id) as line:
            if silence.is_on:
                raise silent(address)
            with silence.heard_by(line.break_off), self._talking_on(line, register):
                if self._flight.geometry.is_open and not await line.is_ours():
                    raise SchedulerUnreachable(address=address, reason="it cannot schedule files of unknown length")
                await self._read(line, address)

    @contextmanager
    def _talking_on(self, line: Line, register: Request) -> Iterator[None]:
        """What there is to say goes there until the end of the block."""
        unsaid, self._unsaid = self._unsaid, []
        for request in (register, *unsaid):
            line.say(request)
        if self._has_finished:
            line.finish()
        self._line = line
        self._is_heard |= line.is_shared
        try:
            yield
        finally:
            self._line = None

    async def _read(self, line: Line, address: str) -> None:
        """Hear answers until the scheduler ends the conversation. Raises SchedulerUnreachable after a silence."""
        try:
            while True:
                async with asyncio.timeout(self._silence_timeout):
                    answer = await line.hear()
                if answer is None:
                    return
                self._hear(answer, address)
        except TimeoutError:
            raise silent(address) from None

    def _hear(self, response: Answer, address: str) -> None:
        heard = read_response(response, address)
        self._addresses |= heard.addresses
        self._piece_addresses |= heard.piece_addresses
        if isinstance(heard.event, RootsTold):
            self._flight.learn_roots(heard.roots)
        else:
            self._is_answered = True
        self._flight.post(heard.event)
        if heard.content_length is not None:
            self._flight.settle_length(heard.content_length)
        if heard.roots.get(FIRST_PIECE) and not self._is_told:
            self._is_told = True
            for then in self._awaiting_root:
                then()
