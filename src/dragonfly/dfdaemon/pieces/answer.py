"""One answer of the piece server: a head, then maybe a run of a file, sent as far as the socket takes it."""

import os
import socket
import time
from typing import Final

from dragonfly.core.model.ids import TaskKey
from dragonfly.core.model.units import Bytes, MiB, Seconds
from dragonfly.storage.store import PieceReader
from dragonfly.wire.vortex import ContentHead, Refusal, RefusalCode, Tag

SENDFILE_LENGTH: Final[Bytes] = 16 * MiB  # one call: so often a worker looks up while a fast child takes a long piece


class Answer:
    """What is left to send. Owns the reader, if there is one; `close` gives it back."""

    def __init__(self, head: bytes, reader: PieceReader | None = None, key: TaskKey | None = None) -> None:
        self._head = memoryview(head)
        self._reader = reader
        self._position = reader.position if reader else 0
        self._left: Bytes = reader.piece.length if reader else 0
        self.key = key
        self.length = self._left

    @classmethod
    def with_piece(cls, key: TaskKey, reader: PieceReader, tag: Tag, now: Seconds) -> "Answer":
        piece = reader.piece
        head = ContentHead(
            number=piece.number,
            offset=piece.offset,
            length=piece.length,
            digest=piece.digest,
            parent_id=piece.parent_id or "",
            cost=max(int(piece.cost), 0),
            created_at=int(now),
            tag=Tag(tag + 1),
        )
        return cls(head.encode(), reader, key)

    @classmethod
    def refusing(cls, code: RefusalCode, message: str) -> "Answer":
        return cls(Refusal(code, message).encode())

    @property
    def is_complete(self) -> bool:
        return not self._head and self._left == 0

    def send(self, connection: socket.socket) -> bool:
        """Send until all is sent or the socket's own timeout strikes; whether a byte moved. Raises OSError.

        ConnectionError also where the file ends too early: the child must not take what follows for the piece.
        """
        before = len(self._head) + self._left
        try:
            while self._head:
                flags = socket.MSG_MORE if self._left else 0  # the head travels with the first bytes of the piece
                self._head = self._head[connection.send(self._head, flags) :]
            self._send_piece(connection)
        except BlockingIOError:
            pass
        return len(self._head) + self._left < before

    def _send_piece(self, connection: socket.socket) -> None:
        while self._left:
            assert self._reader is not None
            count = min(self._left, SENDFILE_LENGTH)
            sent = os.sendfile(connection.fileno(), self._reader.fd, self._position, count)
            if sent == 0:
                raise ConnectionError("the content file is shorter than its piece")
            self._position += sent
            self._left -= sent
            if sent < count:
                raise BlockingIOError

    def close(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.__exit__(None, None, None)


def unix_time() -> Seconds:
    return time.time()
