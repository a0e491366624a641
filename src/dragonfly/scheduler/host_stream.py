"""AnnouncePeers: the conversations of all peers of one host on one stream, whose messages carry whatever waits.

Each peer's conversation is the one of `announce`; here is only who gets which message. What is wrong with one peer's
messages ends that peer. A peer's answers wait in its own `PeerStream`, which is bounded: a host that does not read
loses its peers one by one, each when it is owed too much. When the stream breaks, all of them have left.

A seed's stream carries besides what it is asked to fetch. That has the requester's credentials in it, so it goes only
to a stream that comes from where the seed said it is: nowhere else than a DownloadTask would have gone.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator
from functools import partial
from ipaddress import IPv6Address, ip_address
from itertools import count
from urllib.parse import unquote

from dragonfly.core.model.host import Host
from dragonfly.core.model.ids import HostId
from dragonfly.core.model.units import Bytes, MiB, Seconds
from dragonfly.errors import DaemonUnreachable, DragonflyError, InternalFailure, Overloaded, SchedulerUnreachable
from dragonfly.scheduler.announce import first_message, hear_out, register, report
from dragonfly.scheduler.shell import Shell
from dragonfly.scheduler.stream import PeerStream
from dragonfly.wire.announce import Request, end_to_pb, error_from_end
from dragonfly.wire.convert import checked_identifier
from dragonfly.wire.pb import common_pb2, scheduler_pb2

log = logging.getLogger(__name__)

Reports = scheduler_pb2.PeerReports
Answers = scheduler_pb2.PeerAnswers

BREATH: Seconds = 0.003  # between two messages, so that what many peers are told goes along in one
MAX_ANSWERS_LENGTH: Bytes = MiB  # of one message, but for its last answer
MAX_FETCHES = 1000  # that a seed leaves unread before it is asked for no more
MAX_REFUSALS = 1000  # that a host leaves unread before it is not worth hearing


class HostStreams:
    """The streams there are, by their hosts; of several of one host the latest, for it has come back."""

    def __init__(self) -> None:
        self._by_host: dict[HostId, HostStream] = {}
        self._all: set[HostStream] = set()

    def to_seed(self, host: Host) -> "HostStream | None":
        """The stream to wake a seed on; None where it has none, or that is not where the seed said it is."""
        stream = self._by_host.get(host.id)
        return stream if stream is not None and stream.takes_fetches and stream.ip == host.ip else None

    async def serve(self, shell: Shell, messages: AsyncIterator[Reports], ip: str) -> AsyncIterator[Answers]:
        """Serve a stream from `ip` until its host ends it, or it breaks. Raises InvalidInput where it names no host."""
        first = await first_message(messages)
        host_id = HostId(checked_identifier("host id", first.host_id))
        host = HostStream(shell, host_id, ip, takes_fetches=first.takes_fetches)
        self._all.add(host)
        self._by_host[host.host_id] = host
        reader = asyncio.create_task(_read(host, first, messages), name=f"peers of host {host.host_id}")
        try:
            async for answers in host.answers():
                yield answers
        finally:
            self._all.discard(host)
            if self._by_host.get(host.host_id) is host:
                del self._by_host[host.host_id]
            host.close()
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    def drain(self) -> None:
        """Take no more peers, and end each stream with its last peer: this scheduler stops."""
        for host in self._all:
            host.drain()


async def _read(host: "HostStream", first: Reports, messages: AsyncIterator[Reports]) -> None:
    try:
        await host.hear(first)
        async for message in messages:
            await host.hear(message)
        host.end(None)
    except DragonflyError as error:
        log.info("host %s broke the protocol: %s", host.host_id, error)
        host.end(error)
    except Exception as error:  # the writer must not wait for a reader that is gone
        log.exception("the stream of host %s broke", host.host_id)
        host.end(InternalFailure(reason=type(error).__name__))


class HostStream:
    """The peers of one host that talk on one stream, which comes from `ip`."""

    def __init__(self, shell: Shell, host_id: HostId, ip: str, *, takes_fetches: bool) -> None:
        self.host_id, self.ip, self.takes_fetches = host_id, ip, takes_fetches
        self._shell = shell
        self._peers: dict[str, PeerStream] = {}
        self._changed_peers: dict[str, None] = {}  # in the order in which they changed
        self._refusals: deque[scheduler_pb2.PeerAnswer] = deque()
        self._calls = count(1)
        self._fetches: deque[scheduler_pb2.SeedFetch] = deque()  # to be sent
        self._fetching: dict[int, asyncio.Future[DragonflyError | None]] = {}
        self._changed = asyncio.Event()
        self._is_ended = False
        self._error: DragonflyError | None = None

    async def hear(self, message: Reports) -> None:
        """Take in what peers report. Raises Overloaded where the host leaves too much unread."""
        for spoken in message.reports:
            match spoken.WhichOneof("report"):
                case "request":
                    await self._hear_request(spoken.request)
                case "finished_peer_id" if stream := self._peers.get(spoken.finished_peer_id):
                    hear_out(self._shell, stream)
                case "gone_peer_id" if stream := self._peers.pop(spoken.gone_peer_id, None):
                    self._shell.close(stream)
                    self._changed.set()  # the last one may have been waited for
                case "fetch_end":
                    self._fetched(spoken.fetch_end)

    async def _hear_request(self, request: Request) -> None:
        peer_id = request.peer_id
        try:
            if (stream := self._peers.get(peer_id)) is not None:
                await report(self._shell, stream, request)
                return
            if self._is_ended:
                raise SchedulerUnreachable(address="its address", reason="it is stopping")
            changed = partial(self._peer_changed, peer_id)
            self._peers[peer_id] = await register(self._shell, request, changed, self.host_id)
        except DragonflyError as error:
            log.info("peer %s of host %s broke the protocol: %s", peer_id, self.host_id, error)
            self._refuse(peer_id, error)
        except Exception as error:  # a defect met by one peer's message must not take its neighbours' stream away
            log.exception("could not hear peer %s", peer_id)
            self._refuse(peer_id, InternalFailure(reason=type(error).__name__))

    def _refuse(self, peer_id: str, error: DragonflyError) -> None:
        """End a peer whatever it was, and however far it came."""
        if (stream := self._peers.get(peer_id)) is not None:
            stream.end(error)
            return
        if len(self._refusals) >= MAX_REFUSALS:
            raise Overloaded(reason="the host does not read its answers")
        self._refusals.append(scheduler_pb2.PeerAnswer(peer_id=peer_id, end=end_to_pb(error)))
        self._changed.set()

    def _peer_changed(self, peer_id: str) -> None:
        self._changed_peers[peer_id] = None
        self._changed.set()

    async def fetch(self, download: common_pb2.Download) -> None:
        """Return when the seed has all of it. Raises what the seed failed with, DaemonUnreachable if it goes away."""
        if len(self._fetches) >= MAX_FETCHES:
            raise Overloaded(reason="the seed does not read what it is asked for")
        call = next(self._calls)
        fetching = self._fetching[call] = asyncio.get_running_loop().create_future()
        self._fetches.append(scheduler_pb2.SeedFetch(call=call, download=download))
        self._changed.set()
        try:
            error = await fetching
        finally:
            del self._fetching[call]
        if error is not None:
            raise error

    def _fetched(self, message: scheduler_pb2.SeedFetchEnd) -> None:
        fetching = self._fetching.get(message.call)
        if fetching is not None and not fetching.done():
            fetching.set_result(error_from_end(message.end))

    def drain(self) -> None:
        """Take no more peers, and end with the last one."""
        self._is_ended = True
        self._changed.set()

    def end(self, error: DragonflyError | None) -> None:
        """The host says no more: its peers are heard out, unless there was an error."""
        self._is_ended, self._error = True, error
        for stream in self._peers.values():
            hear_out(self._shell, stream)
        self._changed.set()

    def close(self) -> None:
        """The stream is over: whoever was not ended before has left."""
        for stream in self._peers.values():
            self._shell.close(stream)
        self._peers.clear()
        for fetching in self._fetching.values():
            if not fetching.done():
                fetching.set_result(DaemonUnreachable(endpoint=self.host_id, reason="its stream broke"))

    async def answers(self) -> AsyncIterator[Answers]:
        """Messages of what waits, until the host has ended and its peers were. Raises the error it was ended with."""
        while True:
            if self._error is not None:
                raise self._error
            if self._changed_peers or self._refusals or self._fetches:
                answers = self._batch()
                if answers.answers or answers.fetches:
                    yield answers
                    await asyncio.sleep(BREATH)
            elif self._is_ended and not self._peers:
                return
            else:
                self._changed.clear()
                await self._changed.wait()

    def _batch(self) -> Answers:
        answers, length = Answers(), 0
        while self._refusals:
            answers.answers.append(self._refusals.popleft())
        while self._fetches and length < MAX_ANSWERS_LENGTH:
            answers.fetches.append(fetch := self._fetches.popleft())
            length += fetch.ByteSize()
        while self._changed_peers and length < MAX_ANSWERS_LENGTH:
            peer_id = next(iter(self._changed_peers))
            if (stream := self._peers.get(peer_id)) is None:
                del self._changed_peers[peer_id]
            elif (response := stream.take()) is not None:
                answers.answers.add(peer_id=peer_id, response=response)
                length += response.ByteSize()
            else:
                del self._changed_peers[peer_id]
                if stream.is_over:
                    answers.answers.add(peer_id=peer_id, end=end_to_pb(stream.error))
                    del self._peers[peer_id]
                    self._shell.close(stream)
        return answers


def ip_of(peer: str) -> str:
    """Whence a caller calls, from gRPC's name of it (`ipv4:10.0.0.1:4711`, `ipv6:%5B::1%5D:4711`); empty if unknown."""
    host = unquote(peer.partition(":")[2]).rpartition(":")[0].strip("[]")
    try:
        ip = ip_address(host)
    except ValueError:
        return ""
    return str(ip.ipv4_mapped or ip) if isinstance(ip, IPv6Address) else str(ip)
