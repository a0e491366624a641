"""One answer of the piece server: a head, then maybe a run of a file, sent as far as the child and the limits let it.

The run may still be growing: a piece that is coming in is sent below its watermark. Such an answer names the digest
that our own parent claims, so it is broken off, and the connection reset, if the piece is given up or turns out to
have another digest; its last byte waits until the piece is kept.
"""

import time
from collections.abc import Callable
from enum import Enum, auto
from typing import Protocol

from dragonfly.core.model.ids import TaskKey
from dragonfly.core.model.units import Bytes, Seconds
from dragonfly.dfdaemon.pieces.channel import SENDFILE_LENGTH, Channel
from dragonfly.errors import PieceNotFound, TaskNotFound
from dragonfly.storage.store import PieceFollower, PieceReader
from dragonfly.wire.vortex import ContentHead, Refusal, RefusalCode, Tag

Grant = Callable[[TaskKey, Bytes], tuple[Bytes, Seconds]]
"""How many of the wanted bytes may go now; where none may, after how many seconds to ask again."""


class Next(Enum):
    """What an answer waits for."""

    NOTHING = auto()  # it is sent
    ROOM = auto()  # for the child to take what was sent
    GRANT = auto()  # for its `pause` to pass
    BYTES = auto()  # for the piece to grow, or to be kept


class Content(Protocol):
    """The run of a file that is to be sent."""

    fd: int
    position: Bytes
    length: Bytes

    def ready(self) -> Bytes:
        """How much of it may be sent. Raises ConnectionError where the piece will not come."""

    def wait_beyond(self, count: Bytes, timeout: Seconds) -> None:
        """Be back when more than `count` bytes are ready, or after `timeout`. Raises ConnectionError."""

    def close(self) -> None:
        """Give the file back."""


class WholePiece:
    """A finished piece."""

    def __init__(self, reader: PieceReader) -> None:
        self._reader = reader
        self.fd, self.position, self.length = reader.fd, reader.position, reader.piece.length

    def ready(self) -> Bytes:
        return self.length

    def wait_beyond(self, count: Bytes, timeout: Seconds) -> None:
        return

    def close(self) -> None:
        self._reader.__exit__(None, None, None)


class GrowingPiece:
    """A piece that comes in; `kept_digest` is None until it is kept."""

    def __init__(self, follower: PieceFollower, kept_digest: Callable[[], str | None]) -> None:
        self._follower = follower
        self._kept_digest = kept_digest
        self._is_kept = False
        self.digest = follower.digest
        self.fd, self.position, self.length = follower.fd, follower.position, follower.length

    def ready(self) -> Bytes:
        count = self._looked(-1, 0.0)
        if count < self.length or self._is_kept:
            return count
        digest = self._kept_digest()
        self._check(digest or self.digest)
        self._is_kept = digest is not None
        return count if self._is_kept else count - 1

    def wait_beyond(self, count: Bytes, timeout: Seconds) -> None:
        self._looked(self.length if count == self.length - 1 else count, timeout)  # the last byte waits for the keeping

    def close(self) -> None:
        self._follower.__exit__(None, None, None)

    def _looked(self, count: Bytes, timeout: Seconds) -> Bytes:
        try:
            count = self._follower.wait_beyond(count, timeout)
        except (PieceNotFound, TaskNotFound) as error:
            raise ConnectionError("the piece was given up while it was sent on") from error
        self._check(self._follower.digest)
        if self._follower.length != self.length:
            raise ConnectionError("the piece is shorter than was told")
        return count

    def _check(self, digest: str) -> None:
        if digest != self.digest:
            raise ConnectionError("the piece has another digest than was told")


class Answer:
    """What is left to send. Owns the content, if there is some; `close` gives it back."""

    def __init__(self, head: bytes, content: Content | None = None, key: TaskKey | None = None) -> None:
        self._head = memoryview(head)
        self._content = content
        self._sent: Bytes = 0
        self._granted: Bytes = 0  # and not sent yet
        self.key = key
        self.length: Bytes = content.length if content else 0
        self.moved = False  # whether the last `send` got a byte out
        self.pause: Seconds = 0.0

    @classmethod
    def with_piece(cls, key: TaskKey, reader: PieceReader, tag: Tag) -> "Answer":
        piece = reader.piece
        head = ContentHead(
            number=piece.number,
            offset=piece.offset,
            length=piece.length,
            digest=piece.digest,
            parent_id=piece.parent_id or "",
            cost=max(int(piece.cost), 0),
            created_at=int(time.time()),
            tag=Tag(tag + 1),
        )
        return cls(head.encode(), WholePiece(reader), key)

    @classmethod
    def with_growing(
        cls, key: TaskKey, follower: PieceFollower, offset: Bytes, tag: Tag, kept_digest: Callable[[], str | None]
    ) -> "Answer":
        content = GrowingPiece(follower, kept_digest)
        head = ContentHead(
            number=follower.number,
            offset=offset,
            length=content.length,
            digest=content.digest,
            created_at=int(time.time()),
            tag=Tag(tag + 1),
        )
        return cls(head.encode(), content, key)

    @classmethod
    def refusing(cls, code: RefusalCode, message: str) -> "Answer":
        return cls(Refusal(code, message).encode())

    def send(self, channel: Channel, grant: Grant | None) -> Next:
        """Send until all is sent or something has to be waited for. Raises OSError.

        ConnectionError also where the file ends too early: the child must not take what follows for the piece.
        """
        self.moved = False
        try:
            while self._head:
                count = channel.send(self._head, more=self._sent < self.length)  # it travels with the first bytes
                self._head = self._head[count:]
                self.moved = True
            return self._send_content(channel, grant)
        except BlockingIOError:
            return Next.ROOM

    def wait_for_bytes(self, timeout: Seconds) -> None:
        """Be back when the piece has grown, or after `timeout`. Raises ConnectionError where it will not."""
        assert self._content is not None
        self._content.wait_beyond(self._sent, timeout)

    def close(self) -> None:
        content, self._content = self._content, None
        if content is not None:
            content.close()

    def _send_content(self, channel: Channel, grant: Grant | None) -> Next:
        while self._sent < self.length:
            assert self._content is not None
            ready = self._content.ready() - self._sent
            if ready == 0:
                return Next.BYTES
            count = self._allowed(min(ready, SENDFILE_LENGTH), grant)
            if count == 0:
                return Next.GRANT
            sent = channel.send_file(self._content.fd, self._content.position + self._sent, count)
            if sent == 0:
                raise ConnectionError("the content file is shorter than its piece")
            self._sent += sent
            self._granted -= sent
            self.moved = True
        return Next.NOTHING

    def _allowed(self, wanted: Bytes, grant: Grant | None) -> Bytes:
        if self._granted <= 0:
            if grant is None or self.key is None:
                self._granted = wanted
            else:
                self._granted, self.pause = grant(self.key, wanted)
        return min(wanted, self._granted)
