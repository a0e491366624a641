"""AnnouncePeer: the conversation with one peer of a task, from its registration to its end.

What it means is in `register`, `report` and `hear_out`, however it travels: on a stream of its own (`announce_peer`),
or with all peers of its host on one stream (`host_stream`).
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

from dragonfly.core.model.ids import HostId
from dragonfly.core.model.units import Seconds
from dragonfly.errors import DeadlineExceeded, DragonflyError, InvalidInput
from dragonfly.scheduler.shell import Shell
from dragonfly.scheduler.stream import PeerStream
from dragonfly.wire.announce import Request, Response, StreamIdentity, event_from_pb, registration_from_pb

log = logging.getLogger(__name__)

REGISTER_TIMEOUT: Seconds = 10.0  # from opening a stream to its first message; upstream: a client's send timeout

Message = TypeVar("Message")


async def register(
    shell: Shell, first: Request, changed: Callable[[], object], host_id: HostId | None = None
) -> PeerStream:
    """Begin the conversation of the peer that `first` registers; `changed` is its stream's.

    Raises InvalidInput for a message that makes no sense, or is another host's than `host_id`, where that is given.
    """
    identity = StreamIdentity.of(first)
    if host_id is not None and identity.host_id != host_id:
        raise InvalidInput(reason=f"the stream of host {host_id} carried a peer of another one")
    registered = registration_from_pb(identity, first)
    stream = PeerStream(identity, first.register_peer_request.download, changed)
    await shell.has_room()
    shell.open(stream)
    shell.post(registered)
    return stream


async def report(shell: Shell, stream: PeerStream, request: Request) -> None:
    """Take in a later message; one that makes no sense ends the stream, for `shell.close` to tell."""
    try:
        event = event_from_pb(stream.identity, request)
    except DragonflyError as error:
        log.info("peer %s broke the protocol: %s", stream.identity.peer_id, error)
        stream.end(error)
        return
    await shell.has_room()
    shell.post(event)


def hear_out(shell: Shell, stream: PeerStream) -> None:
    """The peer says no more. Its last report may be in the inbox still: the machine's own end comes first."""
    shell.after(lambda: stream.end(None))


async def announce_peer(shell: Shell, requests: AsyncIterator[Request]) -> AsyncIterator[Response]:
    """Serve one peer's own stream: its messages become events, the machine's answers its responses.

    Ends when the machine says so, with the machine's error, or with ours about a message that makes no sense. However
    it breaks, the machine hears that the peer has left.
    """
    changed = asyncio.Event()
    stream = await register(shell, await first_message(requests), changed.set)
    reader = asyncio.create_task(_read(shell, stream, requests), name=f"peer {stream.identity.peer_id}")
    try:
        while not stream.is_over:
            if (response := stream.take()) is not None:
                yield response
            else:
                changed.clear()
                await changed.wait()
        if stream.error is not None:
            raise stream.error
    finally:
        shell.close(stream)
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)


async def first_message(messages: AsyncIterator[Message]) -> Message:
    """What a stream begins with. Raises DeadlineExceeded, InvalidInput where it does not."""
    try:
        async with asyncio.timeout(REGISTER_TIMEOUT):
            return await anext(messages)
    except TimeoutError:
        raise DeadlineExceeded(seconds=REGISTER_TIMEOUT) from None
    except StopAsyncIteration:
        raise InvalidInput(reason="the stream ended before a peer registered") from None


async def _read(shell: Shell, stream: PeerStream, requests: AsyncIterator[Request]) -> None:
    async for request in requests:
        await report(shell, stream, request)
    hear_out(shell, stream)
