"""HTTP/1.1 connections that are kept between requests, and the bytes of an answer on their way out of one.

A connection is borrowed by one thread, asked one thing, and comes back only after its answer was read to the end;
anything else closes it. A kept one may have been closed by the origin meanwhile. That shows as a readable socket when
it is borrowed, or, if the two cross on the wire, as an error before the first byte of the answer: `ConnectionPool.ask`
then asks once more on a new connection.
"""

import select
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPMessage, HTTPResponse
from types import TracebackType
from typing import NamedTuple, Self

from dragonfly.core.model.units import Bytes, KiB, Seconds
from dragonfly.source.dialling import Dialler, Trust
from dragonfly.source.http_address import HttpAddress

KEPT_FOR: Seconds = 30.0  # shorter than the idle timeouts of common servers and address translators (60 s and more)
KEPT_PER_ORIGIN = 32
KEPT_IN_ALL = 256
DRAINED_AT_MOST: Bytes = 64 * KiB  # reading more than this costs more than a new connection
DRAINED_WITHIN: Seconds = 0.25
DELIVERED_AFTER: Seconds = 0.25  # a slow origin's bytes wait no longer than this for the buffer to fill


class Interrupted(Exception):
    """The connection ended, broke or fell silent within a body; the cause says how."""


class PoolClosed(Exception):
    """The pool was closed while somebody still wanted a connection."""


class PoolKey(NamedTuple):
    """What must be equal for a connection to be used again."""

    scheme: str
    host: str
    port: int
    trust: Trust


class Connection(HTTPConnection):
    """One connection, dialled by us; http.client only speaks HTTP on it."""

    auto_open = 0

    def __init__(self, key: PoolKey, wire: socket.socket) -> None:
        super().__init__(key.host, key.port)
        self.key = key
        self.wire = wire  # http.client forgets `sock` as soon as an answer says it will close
        self.sock = wire
        self.was_used = False
        self.kept_since: Seconds = 0.0

    def ask(self, method: str, address: HttpAddress, headers: Mapping[str, str], timeout: Seconds) -> HTTPResponse:
        """Send one request without a body and read the head of its answer."""
        self.wire.settimeout(timeout)
        self.putrequest(method, address.target, skip_host=True, skip_accept_encoding=True)
        self.putheader("Host", address.host_header)
        for name, value in headers.items():
            self.putheader(name, value)
        self.endheaders()
        return self.getresponse()

    def is_dead(self) -> bool:
        """Whether the origin closed it, or sent something nobody asked for."""
        poller = select.poll()
        poller.register(self.wire, select.POLLIN | select.POLLHUP | select.POLLERR)
        return bool(poller.poll(0))

    def break_off(self) -> None:
        """Wake whoever waits on it in another thread."""
        with suppress(OSError):
            self.wire.shutdown(socket.SHUT_RDWR)


class Answer:
    """The head of an answer and its unread body. A context manager: leaving it keeps or closes the connection."""

    def __init__(
        self, pool: "ConnectionPool", connection: Connection, response: HTTPResponse, address: HttpAddress
    ) -> None:
        """`address` is what was asked for."""
        self.address = address
        self._pool = pool
        self._connection = connection
        self._response = response
        self._unread: Bytes | None = response.length  # None: chunked, or until the connection closes

    @property
    def status(self) -> int:
        return self._response.status

    @property
    def headers(self) -> HTTPMessage:
        return self._response.headers

    def blocks(self, buffer: memoryview, length: Bytes | None) -> Iterator[memoryview]:
        """The next `length` bytes of the body, each block in the same buffer. Raises Interrupted when it ends early.

        Without a length it is the whole body. One in chunks ends with its last chunk; one without any length ends with
        the connection, and only a goodbye (TLS) or an orderly close (TCP) is taken for its end: a reset, silence, or
        TLS cut off is not. An origin that closes a plain connection early without a length looks like one that is done.
        What arrived before an interruption is handed out first.
        """
        left = self._unread if length is None else length
        while left is None or left > 0:
            filled, cause = self._fill(buffer if left is None else buffer[: min(left, len(buffer))])
            if filled:
                yield buffer[:filled]
            if left is None and isinstance(cause, EOFError):
                return
            left = None if left is None else left - filled
            if cause is not None:
                raise Interrupted from cause

    def drain(self) -> None:
        """Read a small rest so that the connection can be kept. A rest that is long, late or broken is left."""
        if self._unread is not None and 0 < self._unread <= DRAINED_AT_MOST and not self._response.will_close:
            self._connection.wire.settimeout(DRAINED_WITHIN)
            with suppress(Interrupted):
                for _ in self.blocks(memoryview(bytearray(self._unread)), self._unread):
                    pass

    def _fill(self, room: memoryview) -> tuple[Bytes, Exception | None]:
        """Read until `room` is full or its first byte has waited long enough: what came, and what stopped it."""
        filled, give_up = 0, time.monotonic() + DELIVERED_AFTER
        while filled < len(room):
            try:
                count = self._read_some(room[filled:])
            except (OSError, HTTPException) as error:
                return filled, error
            if count == 0:
                return filled, EOFError("the connection was closed")
            filled += count
            if time.monotonic() > give_up:
                break
        return filled, None

    def _read_some(self, room: memoryview) -> Bytes:
        if self._response.chunked:
            chunk = self._response.read1(len(room))
            room[: len(chunk)] = chunk
            if not chunk:  # the last chunk was seen; a connection that ended before it raises IncompleteRead
                self._unread = 0
            return len(chunk)
        count = self._response.fp.readinto1(room)  # one receive, straight into `room`
        if self._unread is not None:
            self._unread -= count
        return count

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        can_stay = self._unread == 0 and not self._response.will_close
        self._response.close()
        if can_stay:
            self._pool.give_back(self._connection)
        else:
            self._pool.discard(self._connection)


class ConnectionPool:
    """Connections by origin, most recently used first. Thread-safe."""

    def __init__(self, dialler: Dialler, *, clock: Callable[[], Seconds] = time.monotonic) -> None:
        self._dialler = dialler
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: dict[PoolKey, list[Connection]] = {}
        self._borrowed: set[Connection] = set()
        self.is_closed = False

    @property
    def kept_count(self) -> int:
        """How many connections wait to be used again."""
        with self._lock:
            return sum(map(len, self._kept.values()))

    def ask(
        self,
        address: HttpAddress,
        headers: Mapping[str, str],
        *,
        trust: Trust,
        timeout: Seconds,
        method: str = "GET",
    ) -> Answer:
        """Send one GET or HEAD, on a kept connection if one is alive.

        Raises OSError and HTTPException as they come, PoolClosed, DownloadForbidden if the policy knows the address.
        """
        key = PoolKey(*address.origin, trust=trust)
        connection = self._take(key) or self._dial(key)
        try:
            return self._asked(connection, method, address, headers, timeout)
        except TimeoutError:
            raise
        except OSError:
            if not connection.was_used or self.is_closed:
                raise
        return self._asked(self._dial(key), method, address, headers, timeout)

    def _asked(
        self, connection: Connection, method: str, address: HttpAddress, headers: Mapping[str, str], timeout: Seconds
    ) -> Answer:
        try:
            return Answer(self, connection, connection.ask(method, address, headers, timeout), address)
        except BaseException:
            self.discard(connection)
            raise

    def _take(self, key: PoolKey) -> Connection | None:
        while True:
            with self._lock:
                kept = self._kept.get(key)
                if not kept or self.is_closed:
                    return None
                connection = kept.pop()
                self._borrowed.add(connection)
            if self._clock() - connection.kept_since <= KEPT_FOR and not connection.is_dead():
                return connection
            self.discard(connection)

    def _dial(self, key: PoolKey) -> Connection:
        wire = self._dialler.dial(key.host, key.port)
        if key.scheme == "https":
            wire = self._dialler.secured(wire, key.host, key.trust)
        connection = Connection(key, wire)
        with self._lock:
            if not self.is_closed:
                self._borrowed.add(connection)
                return connection
        connection.close()
        raise PoolClosed

    def give_back(self, connection: Connection) -> None:
        """Keep it for the next request to its origin; the longest unused one makes room."""
        connection.was_used = True
        connection.kept_since = self._clock()
        with self._lock:
            self._borrowed.discard(connection)
            if self.is_closed:
                surplus = [connection]
            else:
                self._kept.setdefault(connection.key, []).append(connection)
                surplus = self._surplus(connection.key)
        for old in surplus:
            old.close()

    def _surplus(self, key: PoolKey) -> list[Connection]:
        surplus = []
        if len(self._kept[key]) > KEPT_PER_ORIGIN:
            surplus.append(self._kept[key].pop(0))
        if sum(map(len, self._kept.values())) > KEPT_IN_ALL:
            oldest = min((kept for kept in self._kept.values() if kept), key=lambda kept: kept[0].kept_since)
            surplus.append(oldest.pop(0))
        self._kept = {origin: kept for origin, kept in self._kept.items() if kept}
        return surplus

    def discard(self, connection: Connection) -> None:
        """Close a connection nobody will use again."""
        with self._lock:
            self._borrowed.discard(connection)
        connection.close()

    def close(self) -> None:
        """Close what is kept and break off what is under way; whoever uses it gets an error."""
        with self._lock:
            self.is_closed = True
            kept = [connection for connections in self._kept.values() for connection in connections]
            self._kept.clear()
            borrowed = list(self._borrowed)
        for connection in kept:
            connection.close()
        for connection in borrowed:
            connection.break_off()
