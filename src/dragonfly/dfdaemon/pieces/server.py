"""Serves pieces to other peers: vortex over TCP, `os.sendfile` from the content file, no byte of content in Python.

    listener ──► IDLE ──74 bytes──► QUEUED ──► worker ──all sent──► IDLE     (kept for the child's next request)
                  │                   ▲           │
                  │                   │           └─child takes nothing──► PARKED ──writable──► QUEUED
                  └─closed, silent, malformed──► gone ◄──stalled for stall_timeout──┘

One thread, the watcher, owns the selector, the listener and every connection that is IDLE or PARKED: it never blocks on
one. It reads requests itself, so a child that dribbles its 74 bytes costs a table entry, not a thread. Workers block:
they open the piece and push it out; a child that takes nothing for PARK_AFTER is parked, so stalled children cannot
hold the workers either. A worker that is done looks for the child's next request for LINGER before it gives the
connection back: a busy child is served without a detour through the watcher.
A connection belongs to the watcher or to one worker, never both; they pass it through two queues.

The reference's children send one request, close their writing side, and read to the end: the answer is finished first,
then their end of file is seen and the connection closed. A piece still being fetched here is waited for, by at most
half of the workers. Unknown pieces are refused at once; whatever is no request ends the connection without an answer.
"""

import errno
import logging
import select
import selectors
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from enum import Enum, auto
from queue import SimpleQueue
from threading import BoundedSemaphore, Thread
from typing import Final

from dragonfly.core.model.ids import TaskKey
from dragonfly.core.model.piece import PieceNumber
from dragonfly.core.model.units import Bytes, Seconds
from dragonfly.dfdaemon.pieces.answer import Answer, unix_time
from dragonfly.dfdaemon.pieces.socket import Address, family_of, limit_waits, text_of, tune
from dragonfly.errors import DragonflyError, PieceNotFound, ProtocolViolation, ServiceError, TaskNotFound
from dragonfly.storage.store import PieceReader, TaskStore
from dragonfly.wire.vortex import PieceRequest, RefusalCode, RequestDecoder

log = logging.getLogger(__name__)

BACKLOG: Final = 1024
LINGER: Final[Seconds] = 0.02  # a child asks again some hundred microseconds after a piece; 20 ms spares a slow one too
PARK_AFTER: Final[Seconds] = 0.2
SWEEP_EVERY: Final[Seconds] = 1.0
ACCEPT_PAUSE: Final[Seconds] = 0.2  # after the process ran out of descriptors
WAIT_SLICE: Final[Seconds] = 0.25  # how late a worker that waits for a piece notices that the server stops
ANSWER_TIMEOUT: Final[Seconds] = 360.0  # the reference's limit for the body of one piece
_OUT_OF_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class _Read(Enum):
    REQUEST = auto()
    NOTHING_YET = auto()
    ENDED = auto()


class _Connection:
    """One child: its socket, its request so far, what it is still owed. Owned by one thread at a time."""

    __slots__ = ("address", "answer", "answer_until", "deadline", "decoder", "request", "socket")

    def __init__(self, connected: socket.socket, address: Address) -> None:
        self.socket = connected
        self.address = text_of(address)
        self.decoder = RequestDecoder(self.address)
        self.request: PieceRequest | None = None
        self.answer: Answer | None = None
        self.answer_until: Seconds = 0.0
        self.deadline: Seconds = 0.0  # of being idle, or parked

    def read(self) -> _Read:
        """Take what has arrived of a request, without waiting. Raises ProtocolViolation, OSError."""
        while self.decoder.needs:
            try:
                data = self.socket.recv(self.decoder.needs, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return _Read.NOTHING_YET
            if not data:
                return _Read.ENDED
            frame = self.decoder.feed(data)
            if frame is not None:
                self.decoder.reset()
                self.request = frame if isinstance(frame, PieceRequest) else None
                return _Read.REQUEST if self.request else _Read.ENDED
        return _Read.ENDED

    def give_up_answer(self) -> None:
        """Owe it no longer; the close becomes a reset, so that the kernel does not keep what the child never takes."""
        answer, self.answer = self.answer, None
        if answer is not None:
            answer.close()
            with suppress(OSError):
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("@ii", 1, 0))

    def close(self) -> None:
        self.give_up_answer()
        self.socket.close()


class PieceServer:
    """The piece service of one store. `start` and `stop` once, from one thread.

    `header_timeout` bounds the arrival of a request, `idle_timeout` the time between requests, `stall_timeout` how long
    a child may take nothing of an answer. `on_upload` is called by a worker after each piece sent, with its length.
    """

    def __init__(
        self,
        store: TaskStore,
        *,
        ip: str,
        port: int,
        max_connections: int = 1024,
        workers: int = 32,
        header_timeout: Seconds = 10.0,
        idle_timeout: Seconds = 60.0,
        stall_timeout: Seconds = 30.0,
        wait_for_piece: Seconds = 30.0,
        on_upload: Callable[[TaskKey, Bytes], None] | None = None,
    ) -> None:
        self._store = store
        self._address: Address = (ip, port)
        self._max_connections = max_connections
        self._header_timeout, self._idle_timeout, self._stall_timeout = header_timeout, idle_timeout, stall_timeout
        self._sweep_every = min(SWEEP_EVERY, header_timeout / 2, idle_timeout / 2, stall_timeout / 2)
        self._wait_for_piece = wait_for_piece
        self._on_upload = on_upload
        self._queue: SimpleQueue[_Connection | None] = SimpleQueue()
        self._returned: deque[_Connection] = deque()
        self._connections: set[_Connection] = set()  # all of them; the watcher adds and removes
        self._waiting = BoundedSemaphore(max(workers // 2, 1))
        self._stopping = False
        self._threads = [
            Thread(target=self._work, name=f"piece-server-{number}", daemon=True) for number in range(workers)
        ]

    def start(self) -> int:
        """Listen and serve; the port. Raises ServiceError where the address is taken or not ours."""
        ip, port = self._address
        self._listener = socket.socket(family_of(ip), socket.SOCK_STREAM)
        try:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._listener.bind((ip, port))
            self._listener.listen(BACKLOG)
        except OSError as error:
            self._listener.close()
            raise ServiceError(reason=f"cannot listen on {text_of(self._address)}: {error.strerror}") from error
        self._listener.setblocking(False)
        self._alarm, self._bell = socket.socketpair()  # a byte into _bell wakes the watcher
        for end in (self._alarm, self._bell):
            end.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._alarm, selectors.EVENT_READ)
        self._threads.append(Thread(target=self._watch, name="piece-server-watcher", daemon=True))
        for thread in self._threads:
            thread.start()
        return int(self._listener.getsockname()[1])

    def stop(self) -> None:
        """End every connection, also in the middle of an answer, and wait for the threads."""
        if self._stopping or not hasattr(self, "_selector"):
            return
        self._stopping = True
        self._ring()
        for thread in reversed(self._threads):  # the watcher first: it ends what the workers are blocked on
            thread.join()
        for connection in self._connections:
            connection.close()
        self._selector.close()
        for end in (self._alarm, self._bell):
            end.close()

    # --- the watcher

    def _watch(self) -> None:
        listen_at = sweep_at = time.monotonic()
        is_listening = False
        while not self._stopping:
            now = time.monotonic()
            if not is_listening and now >= listen_at:
                self._selector.register(self._listener, selectors.EVENT_READ)
                is_listening = True
            if now >= sweep_at:
                self._sweep(now)
                sweep_at = now + self._sweep_every
            wakes = [sweep_at] if self._connections else []
            timeout = min([*wakes, *([] if is_listening else [listen_at])], default=None)
            for key, _ in self._selector.select(None if timeout is None else max(timeout - now, 0.0)):
                if key.fileobj is self._alarm:
                    self._take_back()
                elif key.fileobj is self._listener:
                    if not self._accept():
                        self._selector.unregister(self._listener)
                        is_listening, listen_at = False, time.monotonic() + ACCEPT_PAUSE
                elif key.data in self._connections:  # one that made room for a newcomer a moment ago is not
                    self._ready(key.data)
        self._listener.close()
        for connection in list(self._connections):
            with suppress(OSError):
                connection.socket.shutdown(socket.SHUT_RDWR)
        for _ in self._threads[:-1]:
            self._queue.put(None)

    def _accept(self) -> bool:
        """Take a waiting connection; False if the process cannot have any more for now."""
        try:
            connected, address = self._listener.accept()
        except OSError as error:
            if error.errno not in _OUT_OF_RESOURCES:
                return True  # that child is gone again
            log.warning("no more connections for now: %s", error)
            return self._drop_longest_idle()
        if len(self._connections) >= self._max_connections and not self._drop_longest_idle():
            connected.close()
            return True
        connected.setblocking(True)
        tune(connected)
        with suppress(OSError):
            limit_waits(connected, socket.SO_SNDTIMEO, PARK_AFTER)
        connection = _Connection(connected, address)
        self._connections.add(connection)
        self._await_request(connection, self._header_timeout)
        return True

    def _drop_longest_idle(self) -> bool:
        """Make room for a newcomer at the cost of whoever has asked for nothing longest; False if all are busy."""
        idle = (key.data for key in self._selector.get_map().values() if key.data and key.data.answer is None)
        oldest = min(idle, key=lambda connection: connection.deadline, default=None)
        if oldest is None:
            return False
        self._selector.unregister(oldest.socket)
        self._end(oldest)
        return True

    def _await_request(self, connection: _Connection, timeout: Seconds) -> None:
        connection.deadline = time.monotonic() + timeout
        self._look_for(connection, selectors.EVENT_READ)

    def _look_for(self, connection: _Connection, event: int) -> None:
        try:
            self._selector.register(connection.socket, event, connection)
        except OSError as error:  # the kernel has no room for one more
            log.warning("the connection of %s is dropped: %s", connection.address, error)
            self._end(connection)

    def _ready(self, connection: _Connection) -> None:
        """A request has arrived in part or whole, or a parked child takes bytes again."""
        if connection.answer is None:
            began = connection.decoder.began
            try:
                read = connection.read()
            except (ProtocolViolation, OSError) as error:
                log.debug("a connection is dropped: %s", error)
                read = _Read.ENDED
            if read is _Read.NOTHING_YET:
                if not began:
                    connection.deadline = time.monotonic() + self._header_timeout
                return
            if read is _Read.ENDED:
                self._selector.unregister(connection.socket)
                self._end(connection)
                return
        self._selector.unregister(connection.socket)
        self._queue.put(connection)

    def _take_back(self) -> None:
        """What workers are done with: to be closed, parked, or kept for its next request."""
        with suppress(BlockingIOError):
            while self._alarm.recv(4096):
                pass
        while self._returned:
            connection = self._returned.popleft()
            if connection.deadline < 0:
                self._end(connection)
            elif connection.answer is not None:
                self._look_for(connection, selectors.EVENT_WRITE)
            else:
                self._await_request(
                    connection, self._header_timeout if connection.decoder.began else self._idle_timeout
                )

    def _sweep(self, now: Seconds) -> None:
        for key in list(self._selector.get_map().values()):
            if key.data is not None and key.data.deadline <= now:
                self._selector.unregister(key.data.socket)
                self._end(key.data)

    def _end(self, connection: _Connection) -> None:
        self._connections.discard(connection)
        connection.close()

    # --- the workers

    def _work(self) -> None:
        while (connection := self._queue.get()) is not None:
            try:
                keep = self._serve(connection)
            except (OSError, ProtocolViolation) as error:
                log.debug("the connection of %s ended: %s", connection.address, error)
                keep = False
            except Exception:  # a worker outlives whatever one connection does to it
                log.exception("an upload to %s failed", connection.address)
                keep = False
            if not keep:
                connection.deadline = -1.0
                connection.give_up_answer()
            self._returned.append(connection)
            self._ring()

    def _ring(self) -> None:
        with suppress(BlockingIOError):  # it rings already
            self._bell.send(b"\0")

    def _serve(self, connection: _Connection) -> bool:
        """Answer requests while they come; False if the connection is to be closed."""
        while not self._stopping:
            if connection.answer is None:
                assert connection.request is not None
                connection.answer = self._answer(connection.request)
                connection.request = None
                connection.answer_until = time.monotonic() + ANSWER_TIMEOUT
                connection.deadline = time.monotonic() + self._stall_timeout
            if not self._send(connection, connection.answer):
                return True
            read = self._next_request(connection)
            if read is not _Read.REQUEST:
                return read is _Read.NOTHING_YET
        return False

    def _send(self, connection: _Connection, answer: Answer) -> bool:
        """Send the answer; False if the child takes nothing and is to be parked. Raises OSError."""
        while not answer.is_complete:
            moved = answer.send(connection.socket)
            now = time.monotonic()
            if now > connection.answer_until:
                raise TimeoutError("the child is too slow")
            if moved:
                connection.deadline = now + self._stall_timeout
            elif not answer.is_complete:
                return False
        connection.answer = None
        answer.close()
        if answer.key is not None and self._on_upload is not None:
            self._on_upload(answer.key, answer.length)
        return True

    def _next_request(self, connection: _Connection) -> _Read:
        read = connection.read()
        if read is _Read.NOTHING_YET and not connection.decoder.began and self._queue.empty():
            poll = select.poll()
            poll.register(connection.socket, select.POLLIN)
            if poll.poll(LINGER * 1000):
                return connection.read()
        return read

    def _answer(self, request: PieceRequest) -> Answer:
        number = PieceNumber(request.number)
        key = self._store.find(request.task_id)
        try:
            if key is None:
                raise PieceNotFound(number=number, task_id=request.task_id)
            return Answer.with_piece(key, self._open(key, number), request.tag, unix_time())
        except (PieceNotFound, TaskNotFound):
            return Answer.refusing(RefusalCode.NOT_FOUND, f"piece {request.task_id}-{number} not found")
        except DragonflyError as error:
            log.warning("piece %s-%d cannot be served: %s", request.task_id, number, error)
            return Answer.refusing(RefusalCode.INTERNAL, f"failed to get piece: {error.code}")

    def _open(self, key: TaskKey, number: PieceNumber) -> PieceReader:
        """The piece, waited for if it is in flight and not too many workers wait already. Raises PieceNotFound."""
        try:
            return self._store.open_piece(key, number)
        except PieceNotFound:
            if not self._waiting.acquire(blocking=False):
                raise
        try:
            return self._wait(key, number)
        finally:
            self._waiting.release()

    def _wait(self, key: TaskKey, number: PieceNumber) -> PieceReader:
        """In slices, so that a stop is noticed; a refusal before a slice is over means that the piece is not coming."""
        until = time.monotonic() + self._wait_for_piece
        while True:
            began = time.monotonic()
            wait = min(WAIT_SLICE, until - began)
            try:
                return self._store.open_piece(key, number, wait=wait)
            except PieceNotFound:
                now = time.monotonic()
                if self._stopping or now - began < wait or now >= until:
                    raise
