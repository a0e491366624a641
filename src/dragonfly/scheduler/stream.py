"""One peer's stream as the shell sees it: who it is, what it asked for, what is still to be sent."""

from collections import deque
from collections.abc import Callable

from dragonfly.core.scheduling.editions import ROOTS_PER_MESSAGE
from dragonfly.errors import DragonflyError
from dragonfly.wire.announce import Response, StreamIdentity
from dragonfly.wire.pb import common_pb2

OUTGOING_LIMIT = 16  # a peer is owed five answers at most; one that leaves this many unread is not reading


class PeerStream:
    """Answers on their way to one peer. `download` has the request headers; they live as long as the stream.

    `changed` is called whenever there is something to `take`, or the stream has been ended.
    """

    def __init__(self, identity: StreamIdentity, download: common_pb2.Download, changed: Callable[[], object]) -> None:
        self.identity = identity
        self.download = download
        self.error: DragonflyError | None = None  # what it ended with
        self._outgoing: deque[Response] = deque()
        self._answer_count = 0  # of those outgoing, roots not counted
        self._changed = changed
        self._is_ended = False

    @property
    def is_over(self) -> bool:
        """Whether it has been ended, and everything before that was taken."""
        return self._is_ended and not self._outgoing

    def send(self, response: Response) -> bool:
        """Queue an answer; False if the peer leaves too many unread."""
        if self._answer_count >= OUTGOING_LIMIT:
            return False
        self._answer_count += 1
        self._outgoing.append(response)
        self._changed()
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
        self._changed()

    def end(self, error: DragonflyError | None) -> None:
        """End the stream after what is queued: in peace, or with an error. Only the first end counts."""
        if not self._is_ended:
            self._is_ended, self.error = True, error
            self._changed()

    def take(self) -> Response | None:
        """The next answer; None where there is none now."""
        if not self._outgoing:
            return None
        response = self._outgoing.popleft()
        self._answer_count -= response.WhichOneof("response") != "piece_roots_response"
        return response
