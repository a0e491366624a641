"""The test origin's side of one connection: requests read, answers sent, at the common pace and on the tally.

Sockets are blocking, so that files go out by `sendfile`; their deadlines are the kernel's (SO_RCVTIMEO, SO_SNDTIMEO),
because a Python timeout would make them non-blocking. Bytes are counted before they are sent, and taken back if they
could not be: whoever has received a byte sees it counted.
"""

import os
import socket
import ssl
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event
from typing import BinaryIO

from dragonfly.core.model.units import Bytes, KiB, Seconds
from dragonfly.testing.origin_answer import Answer, Request, opened
from dragonfly.testing.pace import Pace
from dragonfly.testing.tally import Tally

PATIENCE: Seconds = 60.0  # with a client that says nothing or takes nothing
_LINE_LIMIT: Bytes = 16 * KiB
_LINES_LIMIT = 200
_BLOCK: Bytes = 256 * KiB


class Hangup(OSError):
    """This side ends the connection: told to, or stopped."""


def tune(wire: socket.socket) -> None:
    """Small answers leave at once, and no client can hold a thread for longer than `PATIENCE`."""
    wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    patience = struct.pack("ll", int(PATIENCE), 0)  # struct timeval
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, patience)
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, patience)


def read_request(reader: BinaryIO) -> Request | None:
    """The next request; None if the client is done, or does not speak HTTP."""
    words = reader.readline(_LINE_LIMIT).decode("latin-1").split()
    if len(words) != 3 or not words[1].startswith("/"):
        return None
    headers: dict[str, str] = {}
    for _ in range(_LINES_LIMIT):
        line = reader.readline(_LINE_LIMIT).decode("latin-1")
        if line in ("\r\n", "\n"):
            return Request(method=words[0], target=words[1], headers=headers)
        name, colon, value = line.partition(":")
        if not colon:
            return None
        headers[name.lower()] = value.strip()
    return None


class Sender:
    """Sends answers on one connection. What goes wrong is an OSError, after which the connection is of no use."""

    def __init__(self, wire: socket.socket, *, pace: Pace, tally: Tally, stopping: Event) -> None:
        self._wire = wire
        self._paces: tuple[Pace, ...] = (pace,)
        self._tally = tally
        self._stopping = stopping
        self._can_sendfile = not isinstance(wire, ssl.SSLSocket)

    def send(self, path: str, reply: Answer, pace: Pace | None = None) -> None:
        """Send head and body, at this path's own pace too. Raises Hangup where the answer ends in one."""
        self._stopping.wait(reply.first_byte_after)
        if reply.close_after == 0:
            raise self._hangup(reply, "before the head")
        self._paces = (self._paces[0], pace) if pace else self._paces[:1]
        self._wire.sendall(reply.head())
        end = min(
            reply.length, *(end for end in (reply.close_after, reply.silent_after, reply.length) if end is not None)
        )
        if reply.chunked:
            self._send_chunks(path, reply, end)
        elif isinstance(reply.body, Path) and self._can_sendfile:
            self._send_file(path, reply.body, reply.start, end)
        else:
            self._send_blocks(path, reply, end)
        if end < reply.length or reply.close_after == reply.length:
            self._stopping.wait(0 if reply.silent_after is None else PATIENCE)
            raise self._hangup(reply, "within the body")
        if reply.chunked:
            self._wire.sendall(b"0\r\n\r\n")
        if reply.until_close:
            self._say_goodbye()
            raise Hangup("that was all")

    def _hangup(self, reply: Answer, reason: str) -> Hangup:
        """The end of a connection that is closed early, in the way the answer wants it."""
        if reply.reset:
            self._wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return Hangup(reason)

    def _say_goodbye(self) -> None:
        if isinstance(self._wire, ssl.SSLSocket):
            with suppress(OSError):  # the client's own goodbye, which it may owe
                self._wire.unwrap()

    @property
    def _turn_length(self) -> Bytes:
        return min(pace.turn for pace in self._paces)

    def _send_file(self, path: str, file: Path, offset: Bytes, length: Bytes) -> None:
        with opened(file) as descriptor:
            while length:
                turn = min(self._turn_length, length)
                with self._turn(path, turn) as left:
                    while left[0]:
                        sent = os.sendfile(self._wire.fileno(), descriptor, offset, left[0])
                        if sent == 0:
                            raise Hangup("the file became shorter")
                        offset, left[0] = offset + sent, left[0] - sent
                length -= turn

    def _send_blocks(self, path: str, reply: Answer, length: Bytes) -> None:
        for block in self._blocks(reply, length):
            with self._turn(path, len(block)) as left:
                self._wire.sendall(block)
                left[0] = 0

    def _send_chunks(self, path: str, reply: Answer, length: Bytes) -> None:
        for block in self._blocks(reply, length):
            with self._turn(path, len(block)) as left:
                self._wire.sendall(b"%x\r\n" % len(block) + bytes(block) + b"\r\n")
                left[0] = 0

    def _blocks(self, reply: Answer, length: Bytes) -> Iterator[memoryview]:
        """The first `length` bytes of an answer's body, in turns."""
        step = min(self._turn_length, _BLOCK)
        if isinstance(reply.body, bytes):
            body = memoryview(reply.body)[reply.start : reply.start + length]
            yield from (body[at : at + step] for at in range(0, length, step))
            return
        with opened(reply.body) as descriptor:
            buffer = memoryview(bytearray(step))
            for at in range(0, length, step):
                wanted = buffer[: min(step, length - at)]
                if os.preadv(descriptor, [wanted], reply.start + at) < len(wanted):
                    raise Hangup("the file became shorter")
                yield wanted

    @contextmanager
    def _turn(self, path: str, count: Bytes) -> Iterator[list[Bytes]]:
        """Wait for a turn of `count` bytes. The sender writes into the list how many are left, should it fail."""
        for pace in self._paces:
            pace.take(count)
        if self._stopping.is_set():
            raise Hangup("stopped")
        self._tally.body_bytes(path, count)
        left = [count]
        try:
            yield left
        except BaseException:
            self._tally.body_bytes(path, -left[0])
            raise
