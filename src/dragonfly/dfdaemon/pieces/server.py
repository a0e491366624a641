"""Serves pieces to other peers: vortex over TCP, `os.sendfile` from the content file, no byte of content in Python.

    listener ──► IDLE ──request──► QUEUED ──► worker ──all sent──► IDLE       (kept for the child's next request)
                  │                   ▲          │
                  │                   │          ├─child takes nothing──► PARKED ────writable──► QUEUED
                  │                   │          └─limit, piece not here─► SLEEPING ──in time──► QUEUED
                  └─closed, silent, malformed──► gone ◄──stalled for stall_timeout──┘

One thread, the watcher, owns the selector, the listener and every child that is IDLE, PARKED or SLEEPING: it never
blocks on one. It reads requests itself, so a child that dribbles its 74 bytes costs a table entry, not a thread.
Workers block: they open the piece and push it out; a child that takes nothing for PARK_AFTER, or little while others
are queued, is parked, so slow children cannot hold the workers either. A worker that is done looks for the child's next
request for LINGER before it gives the child back: a busy child is served without a detour through the watcher.
A child belongs to the watcher or to one worker, never both; they pass it through two queues.

The reference's children send one request, close their writing side, and read to the end: the answer is finished first,
then their end of file is seen and the connection closed. A piece still being fetched here is sent on below its
watermark as soon as its digest is known, or waited for; at most half of the workers wait at a time, further children
sleep and look again. Unknown pieces are refused at once; whatever is no request ends the connection without an answer.
Under TLS the workers do the handshake, each step of it only when the child's bytes are here.
"""

import errno
import heapq
import itertools
import logging
import select
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack, suppress
from enum import Enum, auto
from queue import SimpleQueue
from threading import BoundedSemaphore, Thread
from typing import Final

from dragonfly.core.model.ids import TaskKey
from dragonfly.core.model.piece import PieceNumber
from dragonfly.core.model.units import Bytes, Seconds
from dragonfly.dfdaemon.pieces.answer import Answer, Grant, Next
from dragonfly.dfdaemon.pieces.child import Arrival, Child
from dragonfly.dfdaemon.pieces.places import Places
from dragonfly.dfdaemon.pieces.socket import Address, choose_congestion_control, family_of, text_of, tune, widen
from dragonfly.dfdaemon.pieces.tls import PieceTls
from dragonfly.errors import DragonflyError, PieceNotFound, ProtocolViolation, ServiceError, TaskNotFound
from dragonfly.storage.store import PieceFollower, TaskStore
from dragonfly.wire.vortex import PieceRequest, RefusalCode

log = logging.getLogger(__name__)

BACKLOG: Final = 1024
LINGER: Final[Seconds] = 0.02  # a child asks again some hundred microseconds after a piece; 20 ms spares a slow one too
PARK_AFTER: Final[Seconds] = 0.2
WIDE_CHILDREN: Final = 32  # so many have large send buffers, so that stalled ones cannot take the kernel's memory
SWEEP_EVERY: Final[Seconds] = 1.0
ACCEPT_PAUSE: Final[Seconds] = 0.2  # after the process ran out of descriptors
WAIT_SLICE: Final[Seconds] = 0.25  # how late a worker that waits for a piece notices that the server stops
LOOK_AGAIN: Final[Seconds] = 0.05  # for a piece, where half of the workers wait already
WAKE_COST: Final[Seconds] = 0.0002  # for each who sleeps: together they wake the workers 5000 times a second at most
LONGEST_SLEEP: Final[Seconds] = 5.0
ANSWER_TIMEOUT: Final[Seconds] = 360.0  # the reference's limit for the body of one piece; our own waits not counted
WARN_EVERY: Final[Seconds] = 60.0
_OUT_OF_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class _Then(Enum):
    """What a worker wants done with a child."""

    CLOSE = auto()
    AWAIT_REQUEST = auto()
    AWAIT_ROOM = auto()
    WAKE = auto()  # at its `wake_at`


class PieceServer:
    """The piece service of one store. `start` and `stop` once, from one thread.

    `header_timeout` bounds the arrival of a request, `idle_timeout` the time between requests, `stall_timeout` how long
    a child may take nothing of an answer. `on_upload` is called by a worker after each piece sent, with its length;
    `grant` before bytes are sent (see answer.Grant). With `tls` children in the clear are refused.
    """

    def __init__(
        self,
        store: TaskStore,
        *,
        ip: str,
        port: int,
        max_connections: int = 10_000,
        max_connections_per_address: int = 256,
        workers: int = 32,
        header_timeout: Seconds = 10.0,
        idle_timeout: Seconds = 60.0,
        stall_timeout: Seconds = 30.0,
        wait_for_piece: Seconds = 30.0,
        on_upload: Callable[[TaskKey, Bytes], None] | None = None,
        grant: Grant | None = None,
        tls: PieceTls | None = None,
    ) -> None:
        self._store = store
        self._address: Address = (ip, port)
        self._header_timeout, self._idle_timeout, self._stall_timeout = header_timeout, idle_timeout, stall_timeout
        self._sweep_every = min(SWEEP_EVERY, header_timeout / 2, idle_timeout / 2, stall_timeout / 2)
        self._wait_for_piece = wait_for_piece
        self._on_upload = on_upload
        self._grant = grant
        self._tls = tls
        self._queue: SimpleQueue[Child | None] = SimpleQueue()
        self._returned: deque[tuple[Child, _Then]] = deque()
        self._children: Places[Child] = Places(max_connections, max_connections_per_address)  # the watcher's
        self._sleeping: list[tuple[Seconds, int, Child]] = []  # a heap; the watcher's
        self._order = itertools.count()
        self._waiting = BoundedSemaphore(max(workers // 2, 1))
        self._warned_at = -WARN_EVERY
        self._stopping = False
        self._threads = [
            Thread(target=self._work, name=f"piece-server-{number}", daemon=True) for number in range(workers)
        ]

    @property
    def uploads_under_way(self) -> int:
        """Answers that are being sent at this moment."""
        return sum(child.answer is not None for child in self._children.guests())

    def start(self) -> int:
        """Listen and serve; the port. Raises ServiceError where the address is taken or not ours."""
        ip, port = self._address
        self._listener = socket.socket(family_of(ip), socket.SOCK_STREAM)
        try:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            choose_congestion_control(self._listener)
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
        for child in self._children.guests():
            child.close()
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
            self._wake(now)
            wakes = [sweep_at] if len(self._children) else []
            wakes += [self._sleeping[0][0]] if self._sleeping else []
            timeout = min([*wakes, *([] if is_listening else [listen_at])], default=None)
            for key, _ in self._selector.select(None if timeout is None else max(timeout - now, 0.0)):
                if key.fileobj is self._alarm:
                    self._take_back()
                elif key.fileobj is self._listener:
                    if not self._accept():
                        self._selector.unregister(self._listener)
                        is_listening, listen_at = False, time.monotonic() + ACCEPT_PAUSE
                elif key.data in self._children:  # one that made room for a newcomer a moment ago is not
                    self._ready(key.data)
        self._listener.close()
        for child in self._children.guests():
            child.channel.interrupt()
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
            return self._make_room(None)
        if not self._children.has_room(address[0]) and not self._make_room(address[0]):
            connected.close()
            return True
        tune(connected)
        if len(self._children) < WIDE_CHILDREN:
            widen(connected, socket.SO_SNDBUF)
        child = Child(connected, address[:2], PARK_AFTER, self._tls)
        self._children.join(child, child.ip)
        self._await_request(child, self._header_timeout)
        return True

    def _make_room(self, ip: str | None) -> bool:
        """At the cost of whoever has asked for nothing longest; False if all are busy."""
        child = self._children.yielding(ip)
        if child is None:
            return False
        self._selector.unregister(child.channel.socket)
        self._end(child)
        return True

    def _await_request(self, child: Child, timeout: Seconds) -> None:
        child.deadline = time.monotonic() + timeout
        self._children.rest(child)
        self._look_for(child, selectors.EVENT_READ)

    def _look_for(self, child: Child, event: int) -> None:
        try:
            self._selector.register(child.channel.socket, event, child)
        except OSError as error:  # the kernel has no room for one more
            log.warning("the connection of %s is dropped: %s", child.address, error)
            self._end(child)

    def _ready(self, child: Child) -> None:
        """A request or a step of a handshake has arrived in part or whole, or a parked child takes bytes again."""
        if child.answer is None and child.tls is None:
            began = child.decoder.began
            try:
                arrival = child.read()
            except (ProtocolViolation, OSError) as error:
                log.debug("a connection is dropped: %s", error)
                arrival = Arrival.ENDED
            if arrival is Arrival.NOTHING_YET:
                if not began:
                    child.deadline = time.monotonic() + self._header_timeout
                return
            if arrival is Arrival.ENDED:
                self._selector.unregister(child.channel.socket)
                self._end(child)
                return
        self._selector.unregister(child.channel.socket)
        self._children.work(child)
        self._queue.put(child)

    def _take_back(self) -> None:
        """What workers are done with: to be closed, parked, put to sleep, or kept for its next request."""
        with suppress(BlockingIOError):
            while self._alarm.recv(4096):
                pass
        while self._returned:
            child, then = self._returned.popleft()
            match then:
                case _Then.CLOSE:
                    self._end(child)
                case _Then.AWAIT_ROOM:
                    self._look_for(child, selectors.EVENT_WRITE)
                case _Then.WAKE:
                    heapq.heappush(self._sleeping, (child.wake_at, next(self._order), child))
                case _Then.AWAIT_REQUEST if child.tls is not None:  # one deadline for the whole handshake
                    self._await_request(child, child.deadline - time.monotonic())
                case _Then.AWAIT_REQUEST:
                    self._await_request(child, self._header_timeout if child.decoder.began else self._idle_timeout)

    def _wake(self, now: Seconds) -> None:
        while self._sleeping and self._sleeping[0][0] <= now:
            self._queue.put(heapq.heappop(self._sleeping)[2])

    def _sweep(self, now: Seconds) -> None:
        for key in list(self._selector.get_map().values()):
            if key.data is not None and key.data.deadline <= now:
                self._selector.unregister(key.fileobj)
                self._end(key.data)

    def _end(self, child: Child) -> None:
        self._children.leave(child)
        child.close()

    # --- the workers

    def _work(self) -> None:
        while (child := self._queue.get()) is not None:
            then = _Then.CLOSE
            try:
                then = self._serve(child)
            except (OSError, ProtocolViolation) as error:
                log.debug("the connection of %s ended: %s", child.address, error)
            except ServiceError as error:
                self._warn(error)
            except Exception:  # a worker outlives whatever one connection does to it
                log.exception("an upload to %s failed", child.address)
            if then is _Then.CLOSE:
                child.give_up_answer()
            self._returned.append((child, then))
            self._ring()

    def _ring(self) -> None:
        with suppress(BlockingIOError):  # it rings already
            self._bell.send(b"\0")

    def _warn(self, error: ServiceError) -> None:
        """Seldom: whoever connects may cause this as often as they like."""
        now = time.monotonic()
        if now - self._warned_at >= WARN_EVERY:
            self._warned_at = now
            log.warning("%s", error)

    def _serve(self, child: Child) -> _Then:
        """Answer requests while they come."""
        if child.tls is not None:
            arrival = child.shake_hands(child.tls)
            if arrival is not Arrival.REQUEST:
                return _after(arrival)
        while not self._stopping:
            if child.answer is None:
                child.answer = self._answer(child)
                if child.answer is None:
                    return _Then.WAKE
                now = time.monotonic()
                child.answer_until, child.deadline = now + ANSWER_TIMEOUT, now + self._stall_timeout
            then = self._send(child, child.answer)
            if then is not None:
                return then
            arrival = self._next_request(child)
            if arrival is not Arrival.REQUEST:
                return _after(arrival)
        return _Then.CLOSE

    def _send(self, child: Child, answer: Answer) -> _Then | None:
        """Send the answer; what to wait for where that is not possible now. Raises OSError."""
        while (waits_for := answer.send(child.channel, self._grant)) is not Next.NOTHING:
            now = time.monotonic()
            if now > child.answer_until:
                raise TimeoutError("the child is too slow")
            if answer.moved:
                child.deadline = now + self._stall_timeout
            if waits_for is Next.ROOM:
                if not answer.moved or not self._queue.empty():
                    return _Then.AWAIT_ROOM
            elif waits_for is Next.GRANT:
                return self._sleep(child, answer.pause)
            elif now > child.deadline:
                raise TimeoutError("the piece does not grow")
            elif not self._waiting.acquire(blocking=False):
                return self._sleep(child, LOOK_AGAIN, grace=0.0)
            else:
                try:
                    answer.wait_for_bytes(WAIT_SLICE)
                finally:
                    self._waiting.release()
                child.answer_until += time.monotonic() - now
        child.answer = None
        answer.close()
        if answer.key is not None and self._on_upload is not None:
            self._on_upload(answer.key, answer.length)
        return None

    def _sleep(self, child: Child, pause: Seconds, grace: float = 1.0) -> _Then:
        """Have the watcher wake it. The pause is ours, so it does not count as the child's unless `grace` is 0."""
        pause = min(max(pause, len(self._sleeping) * WAKE_COST), LONGEST_SLEEP)
        child.wake_at = time.monotonic() + pause
        child.answer_until += pause
        child.deadline += pause * grace
        return _Then.WAKE

    def _next_request(self, child: Child) -> Arrival:
        arrival = child.read()
        if arrival is Arrival.NOTHING_YET and not child.decoder.began and self._queue.empty():
            poll = select.poll()
            poll.register(child.channel.socket, select.POLLIN)
            if poll.poll(LINGER * 1000):
                return child.read()
        return arrival

    def _answer(self, child: Child) -> Answer | None:
        """The answer to the child's request; None to look for it again at `wake_at`."""
        request = child.request
        assert request is not None
        try:
            answer = self._found(child, request)
        except (PieceNotFound, TaskNotFound):
            message = f"piece {request.task_id}-{request.number} not found"
            answer = Answer.refusing(RefusalCode.NOT_FOUND, message)
        except DragonflyError as error:
            log.warning("piece %s-%d cannot be served: %s", request.task_id, request.number, error)
            answer = Answer.refusing(RefusalCode.INTERNAL, f"failed to get piece: {error.code}")
        if answer is not None:
            child.request = None
        return answer

    def _found(self, child: Child, request: PieceRequest) -> Answer | None:
        """The piece, or what is here of it. Raises PieceNotFound, also where it did not come in time; TaskNotFound."""
        number = PieceNumber(request.number)
        key = self._store.find(request.task_id)
        if key is None:
            raise PieceNotFound(number=number, task_id=request.task_id)
        until = child.asked_at + self._wait_for_piece
        while True:
            with suppress(PieceNotFound):
                return Answer.with_piece(key, self._store.open_piece(key, number), request.tag)
            with ExitStack() as held:
                follower = held.enter_context(self._store.follow_piece(key, number))
                if follower.digest and follower.wait_beyond(-1, 0.0):
                    answer = self._growing(key, follower, request)
                    held.pop_all()
                    return answer
                left = until - time.monotonic()
                if left <= 0 or self._stopping:
                    raise PieceNotFound(number=number, task_id=request.task_id)
                if not self._waiting.acquire(blocking=False):
                    self._sleep(child, min(LOOK_AGAIN, left))
                    return None
                held.callback(self._waiting.release)
                follower.wait_beyond(0 if follower.digest else follower.length - 1, min(WAIT_SLICE, left))

    def _growing(self, key: TaskKey, follower: PieceFollower, request: PieceRequest) -> Answer:
        task = self._store.get(key)
        if task is None:
            raise TaskNotFound(task_id=request.task_id)

        def kept_digest() -> str | None:
            with suppress(PieceNotFound, TaskNotFound), self._store.open_piece(key, follower.number) as reader:
                return reader.piece.digest
            return None

        return Answer.with_growing(key, follower, task.geometry.span(follower.number).start, request.tag, kept_digest)


def _after(arrival: Arrival) -> _Then:
    return _Then.AWAIT_REQUEST if arrival is Arrival.NOTHING_YET else _Then.CLOSE
