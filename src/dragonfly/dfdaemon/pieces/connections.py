"""Connections to parents that wait for their next request."""

import socket
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from threading import Lock
from typing import Final

from dragonfly.core.model.units import Seconds
from dragonfly.dfdaemon.pieces.socket import Address

MAX_IDLE: Final = 256  # over all parents
MAX_AGE: Final[Seconds] = 45.0  # our servers close after 60 s without a request


@dataclass(slots=True)
class Connection:
    """A socket to a parent, the parent's name for errors, and since when it has been idle."""

    socket: socket.socket
    address: str
    idle_since: Seconds = 0.0

    @property
    def is_quiet(self) -> bool:
        """Whether it is open and nothing has arrived on it: an end, or bytes nobody asked for, spoil it."""
        try:
            self.socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False


class IdleConnections:
    """The freshest first, so that what is not needed grows old and is dropped. Thread-safe."""

    def __init__(self, max_per_address: int, clock: Callable[[], Seconds] = time.monotonic) -> None:
        self._max_per_address = max_per_address
        self._clock = clock
        self._lock = Lock()
        self._idle: dict[Address, deque[Connection]] = {}
        self._count = 0
        self._closed = False

    def take(self, address: Address) -> Connection | None:
        """A connection to this parent that looks alive; None if there is none."""
        while True:
            with self._lock:
                kept = self._idle.get(address)
                if not kept:
                    return None
                connection = kept.pop()
                self._count -= 1
                if not kept:
                    del self._idle[address]
            if self._clock() - connection.idle_since < MAX_AGE and connection.is_quiet:
                return connection
            _close(connection)

    def put(self, address: Address, connection: Connection) -> None:
        """Keep it, if it is quiet and there is room; else close it."""
        is_quiet = connection.is_quiet
        connection.idle_since = self._clock()
        with self._lock:
            dropped = self._too_old() if self._count >= MAX_IDLE else []
            kept = self._idle.setdefault(address, deque())
            if not is_quiet or self._closed or self._count >= MAX_IDLE or len(kept) >= self._max_per_address:
                dropped.append(connection)
                if not kept:
                    del self._idle[address]
            else:
                kept.append(connection)
                self._count += 1
        for one in dropped:
            _close(one)

    def close(self) -> None:
        """Drop all, and keep none from now on."""
        with self._lock:
            self._closed = True
            dropped = [connection for kept in self._idle.values() for connection in kept]
            self._idle.clear()
            self._count = 0
        for connection in dropped:
            _close(connection)

    def _too_old(self) -> list[Connection]:
        oldest = self._clock() - MAX_AGE
        dropped = []
        for address, kept in list(self._idle.items()):
            while kept and kept[0].idle_since <= oldest:
                dropped.append(kept.popleft())
            if not kept:
                del self._idle[address]
        self._count -= len(dropped)
        return dropped


def _close(connection: Connection) -> None:
    with suppress(OSError):
        connection.socket.close()
