"""A connection as piece bytes pass through it, in the clear or under TLS; the same calls at either end.

`take` and `send_now` never wait. The others wait at most the channel's `wait`: in the clear the kernel ends them
(SO_RCVTIMEO, SO_SNDTIMEO), under TLS a poll does. Nothing within that time is None, or BlockingIOError for a send.
A channel is read by one thread and sent on by one thread at a time; these may be two.
"""

import os
import select
import socket
import ssl
import struct
import threading
from contextlib import suppress
from typing import Final, Protocol

from dragonfly.core.model.units import Bytes, KiB, MiB, Seconds
from dragonfly.dfdaemon.pieces.socket import limit_waits

SENDFILE_LENGTH: Final[Bytes] = 16 * MiB  # one call: so often a worker looks up while a fast child takes a long piece
TLS_CHUNK: Final[Bytes] = 256 * KiB

_memory = threading.local()


class Channel(Protocol):
    """What the piece server and client need of a connection. Everything raises OSError where it broke."""

    socket: socket.socket

    def take(self, count: Bytes) -> bytes | None:
        """Up to `count` bytes that are here already; empty at the end, None if there are none."""

    def receive(self, count: Bytes) -> bytes | None:
        """Up to `count` bytes, waited for."""

    def receive_into(self, view: memoryview) -> Bytes | None:
        """Fill `view`, or what came of it in time; 0 at the end."""

    def send_now(self, data: bytes) -> None:
        """All of it at once. Raises BlockingIOError where it does not fit: the channel is of no use then."""

    def send(self, view: memoryview, *, more: bool) -> Bytes:
        """Some of it; `more` follows at once."""

    def send_file(self, fd: int, position: Bytes, count: Bytes) -> Bytes:
        """Some of the file's bytes; 0 where it ends. What raised BlockingIOError is asked for again, and no less."""

    def interrupt(self) -> None:
        """End whatever another thread waits for on it. Never fails."""

    def close(self) -> None:
        """Give the socket back."""


class PlainChannel:
    """TCP: content goes from the file to the socket and from the socket into the view without a copy of ours."""

    def __init__(self, connected: socket.socket, wait: Seconds) -> None:
        self.socket = connected
        connected.settimeout(None)
        with suppress(OSError):  # gone already; the first byte will tell
            limit_waits(connected, socket.SO_RCVTIMEO, wait)
            limit_waits(connected, socket.SO_SNDTIMEO, wait)

    def take(self, count: Bytes) -> bytes | None:
        try:
            return self.socket.recv(count, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None

    def receive(self, count: Bytes) -> bytes | None:
        try:
            return self.socket.recv(count)
        except BlockingIOError:
            return None

    def receive_into(self, view: memoryview) -> Bytes | None:
        try:
            return self.socket.recv_into(view, 0, socket.MSG_WAITALL)
        except BlockingIOError:
            return None

    def send_now(self, data: bytes) -> None:
        if self.socket.send(data, socket.MSG_DONTWAIT) < len(data):
            raise BlockingIOError

    def send(self, view: memoryview, *, more: bool) -> Bytes:
        return self.socket.send(view, socket.MSG_MORE if more else 0)

    def send_file(self, fd: int, position: Bytes, count: Bytes) -> Bytes:
        return os.sendfile(self.socket.fileno(), fd, position, min(count, SENDFILE_LENGTH))

    def interrupt(self) -> None:
        _shut(self.socket)

    def close(self) -> None:
        self.socket.close()


class TlsChannel:
    """TLS over a socket that never blocks. OpenSSL's state takes one call at a time: a lock, never held in a wait."""

    def __init__(self, secured: ssl.SSLSocket, wait: Seconds) -> None:
        self.socket: socket.socket = secured
        self._secured = secured
        self._wait = wait
        self._lock = threading.Lock()
        self._owed: Bytes = 0  # OpenSSL wants a write it could not finish again, and not shorter
        secured.setblocking(False)

    def take(self, count: Bytes) -> bytes | None:
        try:
            with self._lock:
                return self._secured.recv(count)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None

    def receive(self, count: Bytes) -> bytes | None:
        data = self.take(count)
        if data is None and self._poll(select.POLLIN):
            data = self.take(count)
        return data

    def receive_into(self, view: memoryview) -> Bytes | None:
        filled = 0
        while filled < len(view):
            try:
                with self._lock:
                    count = self._secured.recv_into(view[filled:])
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                if not self._poll(select.POLLIN):
                    return filled or None
            else:
                if count == 0:
                    return filled
                filled += count
        return filled

    def send_now(self, data: bytes) -> None:
        try:
            with self._lock:
                self._secured.send(data)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
            raise BlockingIOError from error

    def send(self, view: memoryview, *, more: bool) -> Bytes:
        try:
            with self._lock:
                return self._secured.send(view)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
            self._poll(select.POLLOUT)
            raise BlockingIOError from error

    def send_file(self, fd: int, position: Bytes, count: Bytes) -> Bytes:
        view = _chunk()[: self._owed or min(count, TLS_CHUNK)]
        view = view[: os.preadv(fd, [view], position)]
        if not view:
            return 0
        try:
            with self._lock:
                sent = self._secured.send(view)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
            self._owed = len(view)
            if self._poll(select.POLLOUT):
                return self._again(view)
            raise BlockingIOError from error
        self._owed = 0
        return sent

    def handshake(self) -> bool:
        """Go on with it as far as bytes are here; whether it is done. Raises ssl.SSLError."""
        try:
            self._secured.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLWantWriteError:
            return self._poll(select.POLLOUT) and self.handshake()
        return True

    def interrupt(self) -> None:
        _shut(self._secured)

    def close(self) -> None:
        self._secured.close()

    def _again(self, view: memoryview) -> Bytes:
        try:
            with self._lock:
                sent = self._secured.send(view)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
            raise BlockingIOError from error
        self._owed = 0
        return sent

    def _poll(self, event: int) -> bool:
        poll = select.poll()
        poll.register(self._secured, event)
        return bool(poll.poll(self._wait * 1000))


def reset_on_close(connected: socket.socket) -> None:
    """Make the close a reset: the peer cannot take what it has for all, and the kernel keeps nothing for it."""
    with suppress(OSError):
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("@ii", 1, 0))


def _shut(connected: socket.socket) -> None:
    with suppress(OSError):
        socket.socket.shutdown(connected, socket.SHUT_RDWR)  # not SSLSocket's own, which drops the state in use


def _chunk() -> memoryview:
    """This thread's own buffer for what is to be encrypted; made once."""
    view: memoryview | None = getattr(_memory, "view", None)
    if view is None:
        view = _memory.view = memoryview(bytearray(TLS_CHUNK))
    return view
