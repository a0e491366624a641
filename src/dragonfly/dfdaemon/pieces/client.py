"""Takes pieces from parents: vortex over TCP, socket -> one reused buffer -> CRC and file, in the caller's thread.

A connection that gave its answer whole is kept for the next piece from that parent. The reference closes after each
answer, so a kept connection that is readable is dead or lying and is dropped; one that dies between that look and its
first answer byte is replaced once by a fresh one. Whatever a parent sends is bounded before it is read: the answer's
head by the decoder, the content by the length the piece has for us, which alone decides how much is taken.
Waiting happens in short slices of the kernel's own timeout, after each of which `stopped()` is asked.
"""

import socket
import threading
import time
from collections.abc import Callable
from typing import Final

from dragonfly.core.model.piece import Piece
from dragonfly.core.model.units import Bytes, MiB, Seconds
from dragonfly.dfdaemon.pieces.connections import Connection, IdleConnections
from dragonfly.dfdaemon.pieces.socket import Address, limit_waits, text_of, tune
from dragonfly.errors import (
    DownloadCancelled,
    ParentTimedOut,
    ParentUnreachable,
    PeerError,
    PieceDigestMismatch,
    PieceLengthMismatch,
    PieceNotFound,
    ProtocolViolation,
)
from dragonfly.storage.store import PieceWriter
from dragonfly.wire.vortex import AnswerDecoder, ContentHead, Frame, PieceRequest, Refusal, RefusalCode

BUFFER_LENGTH: Final[Bytes] = MiB  # filled before it is passed on: 0.74 CPU s/GiB for both ends, 0.98 with 256 KiB
WAIT_SLICE: Final[Seconds] = 0.25  # how late a stopped download is noticed
_MESSAGE_LENGTH: Final = 200  # of a stranger's text in our errors

_memory = threading.local()


class PieceClient:
    """Fetches pieces from any number of parents. Thread-safe; `close` drops the idle connections.

    `header_timeout` bounds the wait for the answer's head (a parent may itself be waiting for the piece),
    `body_silence` each pause within the content, `body_timeout` the content of one piece as a whole.
    """

    def __init__(
        self,
        *,
        connect_timeout: Seconds = 2.0,
        header_timeout: Seconds = 60.0,
        body_silence: Seconds = 15.0,
        body_timeout: Seconds = 360.0,
        max_idle_per_address: int = 8,
    ) -> None:
        self._connect_timeout = connect_timeout
        self._header_timeout = header_timeout
        self._body_silence = body_silence
        self._body_timeout = body_timeout
        self._slice = min(WAIT_SLICE, header_timeout, body_silence)
        self._idle = IdleConnections(max_idle_per_address)

    def fetch(
        self,
        address: Address,
        task_id: str,
        writer: PieceWriter,
        *,
        parent_id: str,
        stopped: Callable[[], bool],
        expected_digest: str = "",
    ) -> Piece:
        """Take the writer's piece from the parent at `address` and commit it.

        It is checked against `expected_digest` or, without one, against the digest the parent names.
        Raises ParentUnreachable, ParentTimedOut, PieceNotFound, PieceDigestMismatch, PieceLengthMismatch,
        ProtocolViolation, PeerError with the address; DownloadCancelled; StorageError. After an error the writer may
        be used for another parent.
        """
        writer.restart()
        began = time.monotonic()
        request = PieceRequest(task_id, writer.number).encode()
        connection, frame = self._ask(address, request, stopped)
        try:
            head = _accepted(frame, task_id, writer, connection.address)
            self._take_content(connection.socket, connection.address, writer, stopped)
            digest = expected_digest or head.digest
            piece = _committed(writer, parent_id, time.monotonic() - began, digest, connection.address)
        except PieceNotFound:  # an honest answer, read whole
            self._idle.put(address, connection)
            raise
        except BaseException:
            connection.socket.close()
            raise
        self._idle.put(address, connection)
        return piece

    def close(self) -> None:
        """Drop the idle connections, and those still in use as soon as they are done."""
        self._idle.close()

    def _ask(self, address: Address, request: bytes, stopped: Callable[[], bool]) -> tuple[Connection, Frame]:
        """Send the request on a kept or a fresh connection, and read the head of the answer."""
        kept = self._idle.take(address)
        if kept is not None:
            try:
                return kept, self._exchange(kept, request, stopped)
            except _DiedUnasked:
                pass
        fresh = self._connect(address)
        try:
            return fresh, self._exchange(fresh, request, stopped)
        except _DiedUnasked as died:
            raise ParentUnreachable(address=fresh.address, reason=died.reason) from died.__cause__

    def _connect(self, address: Address) -> Connection:
        name = text_of(address)
        try:
            connected = socket.create_connection(address, timeout=self._connect_timeout)
        except TimeoutError as error:
            raise ParentTimedOut(address=name, seconds=self._connect_timeout) from error
        except (OSError, UnicodeError, OverflowError) as error:  # the latter two: no address at all
            raise ParentUnreachable(address=name, reason=_reason(error)) from error
        connected.settimeout(None)
        tune(connected)
        limit_waits(connected, socket.SO_RCVTIMEO, self._slice)
        limit_waits(connected, socket.SO_SNDTIMEO, self._body_silence)
        return Connection(connected, name)

    def _exchange(self, connection: Connection, request: bytes, stopped: Callable[[], bool]) -> Frame:
        """The first frame of the answer. Raises _DiedUnasked where the connection ended before any byte of it."""
        try:
            connection.socket.sendall(request)
            return self._read_frame(connection, stopped)
        except BlockingIOError as error:  # 74 bytes that do not fit
            connection.socket.close()
            raise ParentTimedOut(address=connection.address, seconds=self._body_silence) from error
        except OSError as error:
            connection.socket.close()
            raise _DiedUnasked(_reason(error)) from error
        except BaseException:
            connection.socket.close()
            raise

    def _read_frame(self, connection: Connection, stopped: Callable[[], bool]) -> Frame:
        decoder = AnswerDecoder(connection.address)
        until = time.monotonic() + self._header_timeout
        while True:
            data = _received(connection.socket, decoder.needs)
            if data:
                frame = decoder.feed(data)
                if frame is not None:
                    return frame
            elif data is not None:
                if not decoder.began:
                    raise _DiedUnasked("it closed the connection without an answer")
                raise ParentUnreachable(address=connection.address, reason="it closed the connection within an answer")
            if stopped():
                raise DownloadCancelled
            if time.monotonic() >= until:
                raise ParentTimedOut(address=connection.address, seconds=self._header_timeout)

    def _take_content(
        self, connected: socket.socket, address: str, writer: PieceWriter, stopped: Callable[[], bool]
    ) -> None:
        buffer = _buffer()
        now = time.monotonic()
        silent_until, slow_until = now + self._body_silence, now + self._body_timeout
        while left := writer.remaining:
            count = _received_into(connected, buffer[: min(left, BUFFER_LENGTH)], address)
            now = time.monotonic()
            if count:
                writer.write(buffer[:count])
                silent_until = now + self._body_silence
            elif count is not None:
                got, expected = writer.length - left, writer.length
                raise PieceLengthMismatch(number=writer.number, got=got, expected=expected, address=address)
            elif now >= silent_until:
                raise ParentTimedOut(address=address, seconds=self._body_silence)
            if now >= slow_until:
                raise PeerError(address=address, reason=f"it sent too little of a piece in {self._body_timeout} s")
            if stopped():
                raise DownloadCancelled


class _DiedUnasked(Exception):
    """The connection ended before its first answer byte: a fresh one may do better."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def _accepted(frame: Frame, task_id: str, writer: PieceWriter, address: str) -> ContentHead:
    """The head of the very piece that was asked for. Raises PeerErrors."""
    match frame:
        case ContentHead():
            if frame.length != writer.length:
                raise PieceLengthMismatch(
                    number=writer.number, got=frame.length, expected=writer.length, address=address
                )
            if (frame.number, frame.offset) != (writer.number, writer.offset):
                reason = f"asked for piece {writer.number} it sent piece {frame.number} of offset {frame.offset}"
                raise ProtocolViolation(address=address, reason=reason)
            return frame
        case Refusal(code=RefusalCode.NOT_FOUND):
            raise PieceNotFound(number=writer.number, task_id=task_id, address=address)
        case Refusal():
            text = "".join(letter if letter.isprintable() else "?" for letter in frame.message[:_MESSAGE_LENGTH])
            raise PeerError(address=address, reason=f"it refused: {text or frame.code.name}")
        case _:
            raise ParentUnreachable(address=address, reason="it closed the conversation")


def _committed(writer: PieceWriter, parent_id: str, cost: Seconds, digest: str, address: str) -> Piece:
    try:
        return writer.commit(parent_id=parent_id, cost=cost, expected_digest=digest)
    except PieceDigestMismatch as error:
        raise PieceDigestMismatch(**error.facts, address=address) from error


def _received(connected: socket.socket, count: Bytes) -> bytes | None:
    """Up to `count` bytes; empty at the end, None if the slice passed in silence. Raises OSError."""
    try:
        return connected.recv(count)
    except BlockingIOError:
        return None


def _received_into(connected: socket.socket, view: memoryview, address: str) -> Bytes | None:
    """Fill `view`, or what came of it within a slice; 0 at the end, None after silence. Raises ParentUnreachable."""
    try:
        return connected.recv_into(view, 0, socket.MSG_WAITALL)
    except BlockingIOError:
        return None
    except OSError as error:
        raise ParentUnreachable(address=address, reason=_reason(error)) from error


def _buffer() -> memoryview:
    """This thread's own buffer; made once."""
    view: memoryview | None = getattr(_memory, "view", None)
    if view is None:
        view = _memory.view = memoryview(bytearray(BUFFER_LENGTH))
    return view


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
