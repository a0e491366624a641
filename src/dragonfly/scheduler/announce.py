"""AnnouncePeer: one stream for each peer of a task, from its registration to its end."""

import asyncio
import logging
from collections.abc import AsyncIterator

from dragonfly.core.model.units import Seconds
from dragonfly.errors import DeadlineExceeded, DragonflyError, InvalidInput
from dragonfly.scheduler.shell import Shell
from dragonfly.scheduler.stream import PeerStream
from dragonfly.wire.announce import Request, Response, StreamIdentity, event_from_pb, registration_from_pb

log = logging.getLogger(__name__)

REGISTER_TIMEOUT: Seconds = 10.0  # from opening a stream to its first message; upstream: a client's send timeout


async def announce_peer(shell: Shell, requests: AsyncIterator[Request]) -> AsyncIterator[Response]:
    """Serve one stream: its messages become events, the machine's answers its responses.

    Ends when the machine says so, with the machine's error, or with ours about a message that makes no sense. However
    it breaks, the machine hears that the peer has left.
    """
    first = await _first(requests)
    identity = StreamIdentity.of(first)
    registered = registration_from_pb(identity, first)
    stream = PeerStream(identity, first.register_peer_request.download)
    await shell.has_room()
    shell.open(stream)
    shell.post(registered)
    reader = asyncio.create_task(_read(shell, stream, requests), name=f"peer {identity.peer_id}")
    try:
        while (response := await stream.next()) is not None:
            yield response
    finally:
        shell.close(stream)
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)


async def _first(requests: AsyncIterator[Request]) -> Request:
    try:
        async with asyncio.timeout(REGISTER_TIMEOUT):
            return await anext(requests)
    except TimeoutError:
        raise DeadlineExceeded(seconds=REGISTER_TIMEOUT) from None
    except StopAsyncIteration:
        raise InvalidInput(reason="the stream ended before a peer registered") from None


async def _read(shell: Shell, stream: PeerStream, requests: AsyncIterator[Request]) -> None:
    """Post what the peer reports until it reports no more; whatever ends this ends the stream, for `close` to tell."""
    try:
        async for request in requests:
            event = event_from_pb(stream.identity, request)
            await shell.has_room()
            shell.post(event)
        # The last report may be on its way through the inbox: the machine's own end of the stream comes first.
        await shell.ask(lambda machine: None)
        stream.end(None)
    except DragonflyError as error:
        log.info("peer %s broke the protocol: %s", stream.identity.peer_id, error)
        stream.end(error)
