"""Takes pieces from parents: vortex over TCP, socket -> one reused buffer -> store, in the caller's thread.

Requests are sent at once, also on a connection that another thread still reads its own answer from; `lanes` says when
a thread's turn to read has come, and whether to ask again elsewhere. A connection that gave answers before and dies
before the first byte of the next is replaced once by a fresh one.
Whatever a parent sends is bounded before it is read: the answer's head by the decoder, the content by the length the
piece has for us, which alone decides how much is taken. Length, offset, number and the digest's algorithm are checked
before a byte of content is taken, leaves as they fill, digest and root before the piece exists.
Waiting happens in short slices, after each of which `stopped()` is asked.
"""

import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Final

from dragonfly.core.model.digest import Digest
from dragonfly.core.model.piece import Piece
from dragonfly.core.model.units import Bytes, KiB, Seconds
from dragonfly.dfdaemon.pieces.channel import Channel, PlainChannel, TlsChannel
from dragonfly.dfdaemon.pieces.lanes import LaneBroken, Lanes, Turn
from dragonfly.dfdaemon.pieces.socket import Address, text_of, tune, widen
from dragonfly.dfdaemon.pieces.tls import PieceTls
from dragonfly.errors import (
    DownloadCancelled,
    InvalidDigest,
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

BUFFER_LENGTH: Final[Bytes] = 512 * KiB  # filled before it is passed on: CPU for a hop 10 % below 256 KiB and 1 MiB
PACED_LENGTH: Final[Bytes] = 128 * KiB  # under a limit, so that it acts evenly
WAIT_SLICE: Final[Seconds] = 0.25  # how late a stopped download is noticed
MAX_LANES: Final = 2  # connections to one parent, once proven: 4 cost 0.05 to 0.2 CPU s/GiB more, 1 is slower
_ATTEMPTS: Final = 3  # behind lanes that break; then on a connection of its own
_MESSAGE_LENGTH: Final = 200  # of a stranger's text in our errors

_memory = threading.local()


class PieceClient:
    """Fetches pieces from any number of parents. Thread-safe; `close` drops the idle connections.

    `header_timeout` bounds the wait for the answer's head once it is this request's turn (a parent may itself be
    waiting for the piece), `body_silence` each pause within the content, `body_timeout` the content of one piece as a
    whole, pauses that `pace` makes not counted. With `tls` every parent must speak it.
    """

    def __init__(
        self,
        *,
        connect_timeout: Seconds = 2.0,
        header_timeout: Seconds = 60.0,
        body_silence: Seconds = 15.0,
        body_timeout: Seconds = 360.0,
        max_lanes: int = MAX_LANES,
        tls: PieceTls | None = None,
    ) -> None:
        self._connect_timeout = connect_timeout
        self._header_timeout = header_timeout
        self._body_silence = body_silence
        self._body_timeout = body_timeout
        self._slice = min(WAIT_SLICE, header_timeout, body_silence)
        self._tls = tls
        self._lanes = Lanes(self._connect, max_per_address=max_lanes)

    def fetch(
        self,
        address: Address,
        task_id: str,
        writer: PieceWriter,
        *,
        parent_id: str,
        stopped: Callable[[], bool],
        expected_digest: str = "",
        leaves: bytes = b"",
        root: bytes = b"",
        pace: Callable[[Bytes], None] | None = None,
    ) -> Piece:
        """Take the writer's piece from the parent at `address` and commit it.

        It is checked against `leaves` and `root` where they are given, and against `expected_digest` or, without one,
        against the digest the parent names. `pace(count)` is called before `count` bytes are received; it may block.
        Raises ParentUnreachable, ParentTimedOut, PieceNotFound, PieceDigestMismatch, PieceLengthMismatch,
        ProtocolViolation, PeerError with the address; DownloadCancelled; StorageError. After an error the writer may
        be used for another parent.
        """
        name = text_of(address)
        request = PieceRequest(task_id, writer.number).encode()
        turn, frame, began = self._ask(address, request, stopped)
        try:
            with turn:
                if isinstance(frame, Refusal):
                    turn.done()  # an honest answer, read whole
                head = _accepted(frame, task_id, writer, name)
                writer.restart(leaves=leaves, digest=head.digest)
                self._take_content(turn.channel, name, writer, stopped, pace)
                turn.done()
            return writer.commit(
                parent_id=parent_id,
                cost=time.monotonic() - began,
                expected_digest=expected_digest or head.digest,
                root=root,
            )
        except PieceDigestMismatch as error:
            raise PieceDigestMismatch(**{**error.facts, "address": name}) from error

    def close(self) -> None:
        """Drop the idle connections, and those still in use as soon as they are done."""
        self._lanes.close()

    def _ask(self, address: Address, request: bytes, stopped: Callable[[], bool]) -> tuple[Turn, Frame, Seconds]:
        """Send the request and read the head of the answer; with the time at which its turn had come."""
        broken, afresh = 0, False
        while True:
            turn = self._send(address, request, afresh=afresh or broken >= _ATTEMPTS)
            try:
                self._await_turn(turn, stopped)
                began = time.monotonic()
                return turn, self._read_head(turn.channel, text_of(address), stopped), began
            except LaneBroken:
                broken += 1
            except _DiedUnasked as died:
                turn.leave()
                if turn.is_first_of_lane:
                    raise ParentUnreachable(address=text_of(address), reason=died.reason) from died.__cause__
                afresh = True
            except BaseException:
                turn.leave()
                raise

    def _send(self, address: Address, request: bytes, *, afresh: bool) -> Turn:
        try:
            return self._lanes.ask(address, request, afresh=afresh)
        except OSError as error:
            raise ParentUnreachable(address=text_of(address), reason=_reason(error)) from error

    def _connect(self, address: Address) -> Channel:
        name = text_of(address)
        try:
            connected = socket.create_connection(address, timeout=self._connect_timeout)
        except TimeoutError as error:
            raise ParentTimedOut(address=name, seconds=self._connect_timeout) from error
        except (OSError, UnicodeError, OverflowError) as error:  # the latter two: no address at all
            raise ParentUnreachable(address=name, reason=_reason(error)) from error
        tune(connected)
        widen(connected, socket.SO_RCVBUF)
        if self._tls is None:
            return PlainChannel(connected, self._slice)
        return TlsChannel(self._secure(connected, self._tls, address), self._slice)

    def _secure(self, connected: socket.socket, tls: PieceTls, address: Address) -> ssl.SSLSocket:
        """The handshake, within the time a connection may take. Raises PeerErrors."""
        try:
            return tls.client().wrap_socket(connected, server_hostname=address[0])
        except TimeoutError as error:
            connected.close()
            raise ParentTimedOut(address=text_of(address), seconds=self._connect_timeout) from error
        except ssl.SSLCertVerificationError as error:
            connected.close()
            reason = f"its certificate is not accepted: {error.verify_message}"
            raise ParentUnreachable(address=text_of(address), reason=reason) from error
        except (OSError, ValueError) as error:
            connected.close()
            reason = f"no TLS with it, maybe it serves pieces in the clear: {_reason(error)}"
            raise ParentUnreachable(address=text_of(address), reason=reason) from error

    def _await_turn(self, turn: Turn, stopped: Callable[[], bool]) -> None:
        """Each turn before ours has its own limits, so this ends."""
        while not turn.wait(self._slice):
            if stopped():
                raise DownloadCancelled

    def _read_head(self, channel: Channel, address: str, stopped: Callable[[], bool]) -> Frame:
        """The first frame of the answer. Raises _DiedUnasked where the connection ended before any byte of it."""
        decoder = AnswerDecoder(address)
        until = time.monotonic() + self._header_timeout
        while True:
            try:
                data = channel.receive(decoder.needs)
            except OSError as error:
                if not decoder.began:
                    raise _DiedUnasked(_reason(error)) from error
                raise ParentUnreachable(address=address, reason=_reason(error)) from error
            if data:
                frame = decoder.feed(data)
                if frame is not None:
                    return frame
            elif data is not None:
                if not decoder.began:
                    raise _DiedUnasked("it closed the connection without an answer")
                raise ParentUnreachable(address=address, reason="it closed the connection within an answer")
            if stopped():
                raise DownloadCancelled
            if time.monotonic() >= until:
                raise ParentTimedOut(address=address, seconds=self._header_timeout)

    def _take_content(
        self,
        channel: Channel,
        address: str,
        writer: PieceWriter,
        stopped: Callable[[], bool],
        pace: Callable[[Bytes], None] | None,
    ) -> None:
        buffer, purse = _buffer(), _Purse(pace)
        now = time.monotonic()
        silent_until, slow_until = now + self._body_silence, now + self._body_timeout
        while left := writer.remaining:
            wanted = min(left, purse.step)
            pause = purse.pay(wanted)
            silent_until, slow_until = silent_until + pause, slow_until + pause
            try:
                count = channel.receive_into(buffer[:wanted])
            except OSError as error:
                raise ParentUnreachable(address=address, reason=_reason(error)) from error
            now = time.monotonic()
            if count:
                purse.spend(count)
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


class _Purse:
    """Bytes that `pace` allowed and that have not come yet: each is asked for once."""

    def __init__(self, pace: Callable[[Bytes], None] | None) -> None:
        self._pace = pace
        self._left: Bytes = 0
        self.step = BUFFER_LENGTH if pace is None else PACED_LENGTH

    def pay(self, wanted: Bytes) -> Seconds:
        """Be allowed `wanted` bytes; how long that took."""
        if self._pace is None or self._left >= wanted:
            return 0.0
        began = time.monotonic()
        self._pace(wanted - self._left)
        self._left = wanted
        return time.monotonic() - began

    def spend(self, count: Bytes) -> None:
        self._left = max(self._left - count, 0)


class _DiedUnasked(Exception):
    """The connection ended before its first answer byte: a fresh one may do better."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def _accepted(frame: Frame, task_id: str, writer: PieceWriter, address: str) -> ContentHead:
    """The head of the very piece that was asked for, with a digest we can compare or none. Raises PeerErrors."""
    match frame:
        case ContentHead():
            if frame.length != writer.length:
                raise PieceLengthMismatch(
                    number=writer.number, got=frame.length, expected=writer.length, address=address
                )
            if (frame.number, frame.offset) != (writer.number, writer.offset):
                reason = f"asked for piece {writer.number} it sent piece {frame.number} of offset {frame.offset}"
                raise ProtocolViolation(address=address, reason=reason)
            _check_digest(frame.digest, address)
            return frame
        case Refusal(code=RefusalCode.NOT_FOUND):
            raise PieceNotFound(number=writer.number, task_id=task_id, address=address)
        case Refusal():
            raise PeerError(address=address, reason=f"it refused: {_printable(frame.message) or frame.code.name}")
        case _:
            raise ParentUnreachable(address=address, reason="it closed the conversation")


def _check_digest(text: str, address: str) -> None:
    """A digest of an algorithm we do not trust proves nothing, so it is not compared: the parent is refused."""
    if not text:
        return
    try:
        Digest.parse(text)
    except InvalidDigest as error:
        reason = f"it names a digest we do not accept, {_printable(text)!r}"
        raise ProtocolViolation(address=address, reason=reason) from error


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text[:_MESSAGE_LENGTH])


def _buffer() -> memoryview:
    """This thread's own buffer; made once."""
    view: memoryview | None = getattr(_memory, "view", None)
    if view is None:
        view = _memory.view = memoryview(bytearray(BUFFER_LENGTH))
    return view


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
