"""One peer's stream as the shell sees it: who it is, what it asked for, what is still to be sent."""

import asyncio
from collections import deque

from dragonfly.core.scheduling.editions import ROOTS_PER_MESSAGE
from dragonfly.errors import DragonflyError
from dragonfly.wire.announce import Response, StreamIdentity
from dragonfly.wire.pb import common_pb2

OUTGOING_LIMIT = 16  # a peer is owed five answers at most; one that leaves this many unread is not reading


class PeerStream:
    """Answers on their way to one peer. `download` has the request headers; they live as long as the stream."""

    def __init__(self, identity: StreamIdentity, download: common_pb2.Download) -> None:
        self.identity = identity
        self.download = download
        self._outgoing: deque[Response] = deque()
        self._answer_count = 0  # of those outgoing, roots not counted
        self._changed = asyncio.Event()
        self._is_ended = False
        self._error: DragonflyError | None = None

    def send(self, response: Response) -> bool:
        """Queue an answer; False if the peer leaves too many unread."""
        if self._answer_count >= OUTGOING_LIMIT:
            return False
        self._answer_count += 1
        self._outgoing.append(response)
        self._changed.set()
        return True

    def tell(self, roots: Response) -> None:
        """Queue roots of pieces; those that wait unread are put into one message, so that they stay few."""
        last = self._outgoing[-1] if self._outgoing else None
        if last is not None and 0 < len(last.piece_roots_response.roots) < ROOTS_PER_MESSAGE:
            joined = Response()
            joined.CopyFrom(last)  # the message may be on its way to others, too
            joined.MergeFrom(roots)
            self._outgoing[-1] = joined
        else:
            self._outgoing.append(roots)
        self._changed.set()

    def end(self, error: DragonflyError | None) -> None:
        """End the stream after what is queued: in peace, or with an error. Only the first end counts."""
        if not self._is_ended:
            self._is_ended, self._error = True, error
            self._changed.set()

    async def next(self) -> Response | None:
        """The next answer; None at the end. Raises the error the stream ends with. For one reader."""
        while not self._outgoing and not self._is_ended:
            self._changed.clear()
            await self._changed.wait()
        if self._outgoing:
            response = self._outgoing.popleft()
            self._answer_count -= response.WhichOneof("response") != "piece_roots_response"
            return response
        if self._error is not None:
            raise self._error
        return None
