"""Pieces between two peers over real loopback sockets: our server, our client, the reference's manners, villains."""

import os
import resource
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Event, Thread
from zlib import crc32

import pytest

from dragonfly.core.model.ids import TaskKey, content_task_id, public_task
from dragonfly.core.model.piece import PieceGeometry, PieceNumber
from dragonfly.core.model.units import Bytes, KiB, MiB
from dragonfly.dfdaemon.pieces.channel import PlainChannel
from dragonfly.dfdaemon.pieces.client import PieceClient
from dragonfly.dfdaemon.pieces.lanes import MAX_AGE, Lanes
from dragonfly.dfdaemon.pieces.server import PieceServer
from dragonfly.errors import (
    DownloadCancelled,
    ParentTimedOut,
    ParentUnreachable,
    PeerError,
    PieceDigestMismatch,
    PieceLengthMismatch,
    PieceNotFound,
    ProtocolViolation,
    ServiceError,
)
from dragonfly.storage.disk import DiskStore
from dragonfly.storage.store import OriginFacts, PieceWriter
from dragonfly.wire.vortex import AnswerDecoder, Close, ContentHead, Frame, PieceRequest, Refusal, RefusalCode, Tag
from tests.services.memory_store import MemoryStore

DEADLINE = 20.0
PIECE_LENGTH = MiB
CONTENT = os.urandom(2 * PIECE_LENGTH + 777)
GEOMETRY = PieceGeometry(len(CONTENT), PIECE_LENGTH)
KEY = public_task(content_task_id("a file"))
ZERO, ONE, TWO = map(PieceNumber, range(3))
PARENT = "10.0.0.1-parent-1"


def piece_bytes(number: int) -> bytes:
    span = GEOMETRY.span(PieceNumber(number))
    return CONTENT[span.start : span.end]


def new_store(*, filled: bool) -> MemoryStore:
    store = MemoryStore()
    store.create(KEY, GEOMETRY)
    if filled:
        for number in GEOMETRY.numbers():
            with store.claim(KEY, number) as writer:
                writer.write(memoryview(piece_bytes(number)))
                writer.commit(parent_id="a-grandparent", cost=2.5)
    return store


@pytest.fixture
def parent() -> Iterator[MemoryStore]:
    store = new_store(filled=True)
    yield store
    store.close()


@pytest.fixture
def child() -> Iterator[MemoryStore]:
    store = new_store(filled=False)
    yield store
    store.close()


Serve = Callable[..., tuple[str, int]]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a server of a store; at the end all are stopped and must leave no thread behind."""
    before = set(threading.enumerate())
    with ExitStack() as stack:

        def start(store: MemoryStore, **options: object) -> tuple[str, int]:
            server = PieceServer(store, ip="127.0.0.1", port=0, **{"workers": 4, **options})  # type: ignore[arg-type]  # options of the call site
            port = server.start()
            stack.callback(server.stop)
            return "127.0.0.1", port

        yield start
    left = [thread.name for thread in set(threading.enumerate()) - before if thread.name.startswith("piece-server")]
    assert left == []


@pytest.fixture
def client() -> Iterator[PieceClient]:
    made = PieceClient(header_timeout=DEADLINE, body_silence=DEADLINE)
    yield made
    made.close()


def fetch(
    client: PieceClient, address: tuple[str, int], child: MemoryStore, number: PieceNumber = ZERO, digest: str = ""
) -> None:
    with child.claim(KEY, number) as writer:
        fetch_into(client, address, writer, digest)


def fetch_into(client: PieceClient, address: tuple[str, int], writer: PieceWriter, digest: str = "") -> None:
    client.fetch(address, KEY.wire_id, writer, parent_id=PARENT, stopped=lambda: False, expected_digest=digest)


def held(child: MemoryStore, number: PieceNumber = ZERO) -> bytes:
    with child.open_piece(KEY, number) as reader:
        return os.pread(reader.fd, reader.piece.length, reader.position)


def connected(address: tuple[str, int]) -> socket.socket:
    return socket.create_connection(address, timeout=DEADLINE)


def read_exactly(stream: socket.socket, count: Bytes) -> bytes:
    received = bytearray()
    while len(received) < count:
        data = stream.recv(count - len(received))
        assert data, f"the stream ended after {len(received)} of {count} bytes"
        received += data
    return bytes(received)


def read_frame(stream: socket.socket) -> Frame:
    decoder = AnswerDecoder()
    while True:
        frame = decoder.feed(read_exactly(stream, decoder.needs))
        if frame is not None:
            return frame


def ask(stream: socket.socket, number: int, task_id: str = KEY.wire_id) -> tuple[Frame, bytes]:
    stream.sendall(PieceRequest(task_id, number).encode())
    frame = read_frame(stream)
    return frame, read_exactly(stream, frame.length) if isinstance(frame, ContentHead) else b""


def is_closed(stream: socket.socket) -> bool:
    """Whether the other end closes within the deadline without another byte."""
    try:
        return stream.recv(1) == b""
    except ConnectionError:
        return True


# --- our server and our client


def test_a_whole_task_crosses_and_both_ends_agree(
    parent: MemoryStore, child: MemoryStore, serve: Serve, client: PieceClient
) -> None:
    uploads = list[tuple[TaskKey, Bytes]]()
    address = serve(parent, on_upload=lambda key, length: uploads.append((key, length)))
    for number in GEOMETRY.numbers():
        fetch(client, address, child, number)
    assert child.content(KEY) == CONTENT
    assert [piece.digest for piece in child.pieces(KEY)] == [piece.digest for piece in parent.pieces(KEY)]
    assert {piece.parent_id for piece in child.pieces(KEY)} == {PARENT}
    with connected(address):  # the last upload is told after its last byte: by now, or when the server stops
        wait_until(lambda: len(uploads) == 3)
    assert uploads == [(KEY, PIECE_LENGTH), (KEY, PIECE_LENGTH), (KEY, 777)]


def wait_until(condition: Callable[[], bool]) -> None:
    """Spin, yielding, until the other thread got there."""
    until = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < until
        os.sched_yield()


def test_many_children_at_once_get_their_own_pieces(parent: MemoryStore, serve: Serve, client: PieceClient) -> None:
    address = serve(parent)
    stores = [new_store(filled=False) for _ in range(8)]

    def download(store: MemoryStore) -> None:
        for number in GEOMETRY.numbers():
            fetch(client, address, store, number)

    run_all([lambda store=store: download(store) for store in stores])
    assert all(store.content(KEY) == CONTENT for store in stores)
    for store in stores:
        store.close()


def run_all(actions: list[Callable[[], None]]) -> None:
    threads = [Thread(target=action) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE * 2)
    assert not any(thread.is_alive() for thread in threads)


def test_pieces_of_one_parent_share_a_connection(child: MemoryStore, client: PieceClient) -> None:
    accepted = list[int]()
    with FakeParent([answer_all], accepted) as address:
        for number in GEOMETRY.numbers():
            fetch(client, address, child, number)
    assert len(accepted) == 1


def test_a_refusal_leaves_the_connection_usable(
    parent: MemoryStore, child: MemoryStore, serve: Serve, client: PieceClient
) -> None:
    address = serve(parent)
    with child.claim(KEY, ZERO) as writer:
        with pytest.raises(PieceNotFound) as caught:
            client.fetch(address, "f" * 64, writer, parent_id=PARENT, stopped=lambda: False)
        assert caught.value.facts == {"number": 0, "task_id": "f" * 64, "address": f"127.0.0.1:{address[1]}"}
        fetch_into(client, address, writer)
    assert held(child) == piece_bytes(0)


# --- the server and the reference's manners


def test_the_answer_is_what_the_references_daemon_sends(parent: MemoryStore, serve: Serve) -> None:
    with connected(serve(parent)) as stream:
        head, content = ask(stream, 2)
    assert isinstance(head, ContentHead)
    assert content == piece_bytes(2)
    assert (head.number, head.offset, head.length, head.tag) == (2, 2 * MiB, 777, Tag.PIECE_CONTENT)
    assert (head.digest, head.parent_id, head.cost) == (f"crc32:{crc32(content)}", "a-grandparent", 2)
    assert (head.traffic_type, abs(head.created_at - time.time()) < 60) == (1, True)


@pytest.mark.parametrize("tag", [tag for tag in Tag if tag.is_request])
def test_each_kind_of_request_is_answered_in_kind(parent: MemoryStore, serve: Serve, tag: Tag) -> None:
    with connected(serve(parent)) as stream:
        stream.sendall(PieceRequest(KEY.wire_id, 0, tag).encode())
        head = read_frame(stream)
    assert isinstance(head, ContentHead)
    assert head.tag == tag + 1


def test_a_child_that_half_closes_gets_the_whole_answer_and_then_the_end(parent: MemoryStore, serve: Serve) -> None:
    with connected(serve(parent)) as stream:
        stream.sendall(PieceRequest(KEY.wire_id, 0).encode())
        stream.shutdown(socket.SHUT_WR)
        head = read_frame(stream)
        assert isinstance(head, ContentHead)
        assert read_exactly(stream, head.length) == piece_bytes(0)
        assert is_closed(stream)


def test_one_connection_answers_one_request_after_the_other(parent: MemoryStore, serve: Serve) -> None:
    with connected(serve(parent)) as stream:
        for number in (0, 2, 1, 1, 9, 0):
            head, content = ask(stream, number)
            if number == 9:
                assert isinstance(head, Refusal)
            else:
                assert content == piece_bytes(number)


def test_requests_sent_ahead_are_answered_in_order(parent: MemoryStore, serve: Serve) -> None:
    with connected(serve(parent)) as stream:
        stream.sendall(b"".join(PieceRequest(KEY.wire_id, number).encode() for number in (2, 0, 1)))
        for number in (2, 0, 1):
            head = read_frame(stream)
            assert isinstance(head, ContentHead)
            assert read_exactly(stream, head.length) == piece_bytes(number)


def test_a_request_may_dribble_in(parent: MemoryStore, serve: Serve) -> None:
    with connected(serve(parent)) as stream:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in PieceRequest(KEY.wire_id, 2).encode():
            stream.sendall(bytes((byte,)))
            os.sched_yield()
        assert isinstance(read_frame(stream), ContentHead)


@pytest.mark.parametrize(("task_id", "number"), [("f" * 64, 0), (KEY.wire_id, 3), (KEY.wire_id, 2**32 - 1)])
def test_what_is_unknown_is_refused_at_once(parent: MemoryStore, serve: Serve, task_id: str, number: int) -> None:
    with connected(serve(parent)) as stream:
        refusal, _ = ask(stream, number, task_id)
    assert refusal == Refusal(RefusalCode.NOT_FOUND, f"piece {task_id}-{number} not found")


def test_a_piece_in_flight_is_waited_for(child: MemoryStore, serve: Serve) -> None:
    address = serve(child, workers=2)
    with child.claim(KEY, TWO) as writer, connected(address) as stream:
        stream.sendall(PieceRequest(KEY.wire_id, 2).encode())
        with connected(address) as other:  # meanwhile others are served
            assert isinstance(ask(other, 0)[0], Refusal)
        writer.write(memoryview(piece_bytes(2)))
        writer.commit(parent_id=None, cost=0.0)
        head = read_frame(stream)
        assert isinstance(head, ContentHead)
        assert (head.parent_id, read_exactly(stream, 777)) == ("", piece_bytes(2))


def test_a_piece_that_never_comes_is_refused_in_the_end(child: MemoryStore, serve: Serve) -> None:
    address = serve(child, wait_for_piece=0.05)
    with child.claim(KEY, TWO), connected(address) as stream:
        assert isinstance(ask(stream, 2)[0], Refusal)


def test_waiting_children_leave_half_of_the_workers_to_others_and_are_all_served_in_the_end(
    child: MemoryStore, serve: Serve
) -> None:
    address = serve(child, workers=4)
    with ExitStack() as stack:
        writer = stack.enter_context(child.claim(KEY, TWO))
        streams = [stack.enter_context(connected(address)) for _ in range(6)]
        for stream in streams:
            stream.sendall(PieceRequest(KEY.wire_id, 2).encode())
        with connected(address) as other:
            assert isinstance(ask(other, 0)[0], Refusal)
        writer.write(memoryview(piece_bytes(2)))
        writer.commit(parent_id=None, cost=0.0)
        frames = [read_frame(stream) for stream in streams]
    assert all(isinstance(frame, ContentHead) for frame in frames)


# --- the server and villains: attack 43


@pytest.mark.parametrize(
    "opening",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        bytes((0, 0)) + b"\xff\xff\xff\xff" + b"a" * 64,
        bytes((0, 1)) + b"\0\0\0\x44" + b"a" * 68,
        bytes((0, 8)) + b"\0\0\0\x44" + b"a" * 68,
        bytes((0, 0)) + b"\0\0\0\x44" + b"\xff" * 68,
        Close().encode(),
    ],
    ids=["http", "huge length", "an answer", "unknown tag", "id not ASCII", "close"],
)
def test_what_is_no_request_is_dropped_without_an_answer(parent: MemoryStore, serve: Serve, opening: bytes) -> None:
    address = serve(parent)
    with connected(address) as stream:
        stream.sendall(opening)
        assert is_closed(stream)
    with connected(address) as stream:
        assert ask(stream, 2)[1] == piece_bytes(2)


@pytest.mark.parametrize("opening", [b"", b"\0\0\0"], ids=["silent", "half a header"])
def test_a_connection_without_a_request_is_closed(parent: MemoryStore, serve: Serve, opening: bytes) -> None:
    with connected(serve(parent, header_timeout=0.05)) as stream:
        stream.sendall(opening)
        assert is_closed(stream)


def test_a_slow_loris_has_one_deadline_for_the_whole_request(parent: MemoryStore, serve: Serve) -> None:
    address = serve(parent, header_timeout=0.2, workers=1)
    request = PieceRequest(KEY.wire_id, 0).encode()
    closed = False
    with connected(address) as stream:
        stream.settimeout(0.02)
        for byte in request:  # 74 bytes, one in 20 ms: 1.5 s
            try:
                stream.sendall(bytes((byte,)))
                if stream.recv(1) == b"":
                    closed = True
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                closed = True
                break
    assert closed


def test_an_idle_connection_is_closed_after_its_time(parent: MemoryStore, serve: Serve) -> None:
    with connected(serve(parent, idle_timeout=0.05)) as stream:
        ask(stream, 2)
        assert is_closed(stream)


def test_stalled_readers_do_not_hold_the_workers(parent: MemoryStore, serve: Serve) -> None:
    address = serve(parent, workers=2)
    with ExitStack() as stack:
        for _ in range(6):
            stalled = stack.enter_context(small_window(address))
            stalled.sendall(b"".join(PieceRequest(KEY.wire_id, 0).encode() for _ in range(20)))
        with connected(address) as stream:
            assert ask(stream, 1)[1] == piece_bytes(1)


def small_window(address: tuple[str, int]) -> socket.socket:
    stream = socket.socket()
    stream.settimeout(DEADLINE)
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * KiB)
    stream.connect(address)
    return stream


def test_a_reader_that_stalls_for_good_is_dropped(parent: MemoryStore, serve: Serve) -> None:
    address = serve(parent, stall_timeout=0.3)
    with small_window(address) as stream:
        stream.sendall(b"".join(PieceRequest(KEY.wire_id, 0).encode() for _ in range(20)))
        ended = select.poll()
        ended.register(stream, select.POLLHUP)  # reset, not merely closed behind megabytes nobody reads
        assert ended.poll(DEADLINE * 1000)


def test_a_reader_that_stalls_and_goes_on_gets_every_byte(parent: MemoryStore, serve: Serve) -> None:
    address = serve(parent, workers=1)
    with small_window(address) as stream:
        stream.sendall(b"".join(PieceRequest(KEY.wire_id, 0).encode() for _ in range(12)))
        with connected(address) as other:  # answered only after the one worker has parked the first
            assert ask(other, 2)[1] == piece_bytes(2)
        for _ in range(12):
            head = read_frame(stream)
            assert isinstance(head, ContentHead)
            assert read_exactly(stream, head.length) == piece_bytes(0)


def test_a_newcomer_replaces_the_longest_idle_when_all_places_are_taken(parent: MemoryStore, serve: Serve) -> None:
    address = serve(parent, max_connections=8)
    with ExitStack() as stack:
        idle = [stack.enter_context(connected(address)) for _ in range(8)]  # idle from the moment they are accepted
        newcomer = stack.enter_context(connected(address))
        assert ask(newcomer, 2)[1] == piece_bytes(2)
        assert is_closed(idle[0])
        assert ask(idle[7], 2)[1] == piece_bytes(2)


def test_a_place_given_away_while_its_holder_speaks_harms_nobody(parent: MemoryStore, serve: Serve) -> None:
    address = serve(parent, max_connections=2)
    for _ in range(300):  # now and then both arrive in one look of the server's
        with ExitStack() as stack:
            holders = [stack.enter_context(connected(address)) for _ in range(2)]
            newcomer = socket.create_connection(address)
            for stream in holders:
                with suppress(OSError):
                    stream.sendall(b"x")
            newcomer.close()
    with connected(address) as stream:
        assert ask(stream, 2)[1] == piece_bytes(2)


def test_a_thousand_silent_connections_do_not_keep_a_child_out(parent: MemoryStore, serve: Serve) -> None:
    address = serve(parent, max_connections=200)
    with ExitStack() as stack:
        for _ in range(1000):
            stack.enter_context(connected(address))
        assert ask(stack.enter_context(connected(address)), 2)[1] == piece_bytes(2)


def test_running_out_of_descriptors_passes(parent: MemoryStore, serve: Serve) -> None:
    address = serve(parent)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as stack:
        streams = [stack.enter_context(socket.socket()) for _ in range(20)]
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(stream.fileno() for stream in streams) + 1, before[1]))
        try:
            for stream in streams:
                stream.settimeout(DEADLINE)
                stream.connect(address)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        assert ask(streams[-1], 2)[1] == piece_bytes(2)


def test_a_callback_that_fails_does_not_cost_a_worker(parent: MemoryStore, serve: Serve) -> None:
    def fail(key: TaskKey, length: Bytes) -> None:
        raise RuntimeError("a bug of ours")

    address = serve(parent, workers=1, on_upload=fail)
    for _ in range(3):
        with connected(address) as stream:
            assert ask(stream, 2)[1] == piece_bytes(2)


def test_a_file_edited_by_its_user_is_not_found_rather_than_wrong(serve: Serve, tmp_path: Path) -> None:
    store = DiskStore(tmp_path / "store", free_reserve=0)
    geometry = PieceGeometry(777, PIECE_LENGTH)
    store.create(KEY, geometry, OriginFacts(url="http://origin.test/file"))
    with store.claim(KEY, ZERO) as writer:
        writer.write(memoryview(piece_bytes(2)))
        writer.commit(parent_id=None, cost=0.0)
    store.finish(KEY)
    output = tmp_path / "output"
    output.hardlink_to(store.content_path(KEY))
    with output.open("r+b") as file:
        file.write(b"edited")
    with connected(serve(store)) as stream:
        assert isinstance(ask(stream, 0)[0], Refusal)
    store.close()


def test_a_task_deleted_while_it_is_sent_is_sent_to_its_end(parent: MemoryStore, serve: Serve) -> None:
    with small_window(serve(parent)) as stream:
        stream.sendall(PieceRequest(KEY.wire_id, 0).encode())
        head = read_frame(stream)
        parent.delete(KEY)
        assert isinstance(head, ContentHead)
        assert read_exactly(stream, head.length) == piece_bytes(0)


def test_stopping_ends_idle_stalled_and_waiting_children(parent: MemoryStore, child: MemoryStore) -> None:
    threads = set(threading.enumerate())
    with ExitStack() as stack:
        for store in (parent, child):
            server = PieceServer(store, ip="127.0.0.1", port=0, workers=4)
            address = ("127.0.0.1", server.start())
            stack.enter_context(child.claim(KEY, PieceNumber(int(store is child))))
            streams = [stack.enter_context(small_window(address)) for _ in range(6)]
            for stream in streams[2:]:
                stream.sendall(b"".join(PieceRequest(KEY.wire_id, 1).encode() for _ in range(20)))
            with connected(address) as other:
                ask(other, 99)
            began = time.monotonic()
            server.stop()
            assert time.monotonic() - began < 5
            server.stop()
            assert is_closed(streams[0])
            with pytest.raises(ConnectionError):
                connected(address)
    assert set(threading.enumerate()) <= threads


def test_a_taken_port_is_told(parent: MemoryStore, serve: Serve) -> None:
    _, port = serve(parent)
    with pytest.raises(ServiceError, match=f"127.0.0.1:{port}"):
        PieceServer(parent, ip="127.0.0.1", port=port).start()


# --- the client and villains: attack 26

Manners = Callable[[socket.socket, PieceRequest], None]


class FakeParent:
    """A listener whose n-th connection behaves as the n-th of `manners` says; the last one goes on for ever."""

    def __init__(self, manners: list[Manners], accepted: list[int] | None = None) -> None:
        self._manners = manners
        self._accepted = accepted if accepted is not None else []
        self._streams: list[socket.socket] = []

    def __enter__(self) -> tuple[str, int]:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = Thread(target=self._accept)
        self._thread.start()
        return "127.0.0.1", self._listener.getsockname()[1]

    def __exit__(self, *exc_info: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for stream in self._streams:
            stream.close()
        self._thread.join(DEADLINE)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                stream, _ = self._listener.accept()
            except OSError:
                return
            self._streams.append(stream)
            self._accepted.append(len(self._streams))
            manners = self._manners[min(len(self._streams), len(self._manners)) - 1]
            Thread(target=self._converse, args=(stream, manners), daemon=True).start()

    @staticmethod
    def _converse(stream: socket.socket, manners: Manners) -> None:
        try:
            while request := stream.recv(74, socket.MSG_WAITALL):
                manners(stream, PieceRequest(request[6:70].decode(), int.from_bytes(request[70:], "big")))
        except OSError:
            pass


def head_of(number: int, **changes: object) -> ContentHead:
    span, content = GEOMETRY.span(PieceNumber(number)), piece_bytes(number)
    facts = {"number": number, "offset": span.start, "length": span.length, "digest": f"crc32:{crc32(content)}"}
    return ContentHead(**{**facts, **changes})  # type: ignore[arg-type]  # facts of the call site


def answer_all(stream: socket.socket, request: PieceRequest) -> None:
    stream.sendall(head_of(request.number).encode() + piece_bytes(request.number))


def answer_once_and_close(stream: socket.socket, request: PieceRequest) -> None:
    answer_all(stream, request)
    stream.shutdown(socket.SHUT_RDWR)


def saying(head: ContentHead, content: bytes) -> Manners:
    def answer(stream: socket.socket, request: PieceRequest) -> None:
        stream.sendall(head.encode() + content)
        stream.shutdown(socket.SHUT_WR)

    return answer


def sending(data: bytes) -> Manners:
    def answer(stream: socket.socket, request: PieceRequest) -> None:
        stream.sendall(data)
        stream.shutdown(socket.SHUT_WR)

    return answer


def hang_up(stream: socket.socket, request: PieceRequest) -> None:
    stream.shutdown(socket.SHUT_RDWR)


def stay_silent(stream: socket.socket, request: PieceRequest) -> None:
    return


def flipped(content: bytes) -> bytes:
    return content[:1000] + bytes((content[1000] ^ 1,)) + content[1001:]


LIES: dict[str, tuple[Manners, type[PeerError]]] = {
    "a flipped bit": (saying(head_of(0), flipped(piece_bytes(0))), PieceDigestMismatch),
    "a digest of an algorithm of its own": (saying(head_of(0, digest="md5:1"), piece_bytes(0)), ProtocolViolation),
    "another piece": (saying(head_of(1), piece_bytes(1)), ProtocolViolation),
    "another offset": (saying(head_of(0, offset=1), piece_bytes(0)), ProtocolViolation),
    "a shorter piece": (saying(head_of(0, length=5), b"short"), PieceLengthMismatch),
    "a longer piece": (saying(head_of(0, length=2**64 - 1), piece_bytes(0)), PieceLengthMismatch),
    "half of the piece": (saying(head_of(0), piece_bytes(0)[:5000]), PieceLengthMismatch),
    "nothing of the piece": (saying(head_of(0), b""), PieceLengthMismatch),
    "half of a head": (sending(head_of(0).encode()[:30]), ParentUnreachable),
    "nothing": (hang_up, ParentUnreachable),
    "close": (sending(Close().encode()), ParentUnreachable),
    "a request": (sending(PieceRequest(KEY.wire_id, 0).encode()), ProtocolViolation),
    "another protocol": (sending(b"HTTP/1.1 400 Bad Request\r\n\r\n"), ProtocolViolation),
    "endless metadata": (sending(b"\0\1\0\0\0\0\xff\xff\xff\xff" + b"x" * 4096), ProtocolViolation),
    "an internal error": (sending(Refusal(RefusalCode.INTERNAL, "dis\x1bk").encode()), PeerError),
}


@pytest.mark.parametrize(("manners", "error"), LIES.values(), ids=LIES)
def test_a_lie_is_told_with_its_address_and_the_piece_can_be_had_elsewhere(
    child: MemoryStore, client: PieceClient, manners: Manners, error: type[PeerError]
) -> None:
    with FakeParent([manners]) as liar, FakeParent([answer_all]) as honest, child.claim(KEY, ZERO) as writer:
        with pytest.raises(error) as caught:
            fetch_into(client, liar, writer)
        assert type(caught.value) is error
        assert caught.value.facts["address"] == f"127.0.0.1:{liar[1]}"
        assert "\x1b" not in str(caught.value)
        assert child.pieces(KEY) == []
        fetch_into(client, honest, writer)
    assert held(child) == piece_bytes(0)


def test_content_counted_in_the_headers_length_is_read_just_as_well(child: MemoryStore, client: PieceClient) -> None:
    data = bytearray(head_of(2).encode())
    data[2:6] = (int.from_bytes(data[2:6], "big") + 777).to_bytes(4, "big")
    with FakeParent([sending(bytes(data) + piece_bytes(2))]) as address:
        fetch(client, address, child, TWO)
    assert held(child, TWO) == piece_bytes(2)


def test_a_parent_without_a_digest_is_believed_unless_we_know_better(child: MemoryStore, client: PieceClient) -> None:
    with FakeParent([saying(head_of(2, digest=""), piece_bytes(2))]) as address, child.claim(KEY, TWO) as writer:
        with pytest.raises(PieceDigestMismatch):
            fetch_into(client, address, writer, "crc32:1")
        fetch_into(client, address, writer)
    assert held(child, TWO) == piece_bytes(2)


def test_the_digest_we_know_counts_more_than_the_parents(child: MemoryStore, client: PieceClient) -> None:
    """Attack 26: the right CRC of the wrong content."""
    wrong = flipped(piece_bytes(0))
    liar = FakeParent([saying(head_of(0, digest=f"crc32:{crc32(wrong)}"), wrong)])
    with liar as address, pytest.raises(PieceDigestMismatch):
        fetch(client, address, child, digest=f"crc32:{crc32(piece_bytes(0))}")


def test_bytes_beyond_the_piece_spoil_the_connection_but_not_the_piece(child: MemoryStore, client: PieceClient) -> None:
    def answer_too_much(stream: socket.socket, request: PieceRequest) -> None:
        stream.sendall(head_of(request.number).encode() + piece_bytes(request.number) + b"extra" * 1000)

    accepted = list[int]()
    with FakeParent([answer_too_much], accepted) as address:
        for number in GEOMETRY.numbers():
            fetch(client, address, child, number)
    assert [held(child, number) for number in GEOMETRY.numbers()] == [piece_bytes(number) for number in range(3)]
    assert len(accepted) >= 1


def test_a_parent_that_closes_after_each_answer_gets_a_connection_for_each_piece(
    child: MemoryStore, client: PieceClient
) -> None:
    accepted = list[int]()
    with FakeParent([answer_once_and_close], accepted) as address:
        for number in GEOMETRY.numbers():
            fetch(client, address, child, number)
    assert len(accepted) == 3


def test_a_kept_connection_that_dies_when_used_is_replaced_once(child: MemoryStore, client: PieceClient) -> None:
    def answer_the_first_only(stream: socket.socket, request: PieceRequest) -> None:
        if request.number == 0:
            answer_all(stream, request)
        else:
            hang_up(stream, request)

    accepted = list[int]()
    with FakeParent([answer_the_first_only, answer_all], accepted) as address:
        fetch(client, address, child, ZERO)
        fetch(client, address, child, ONE)
    assert held(child, ONE) == piece_bytes(1)
    assert len(accepted) == 2


def test_a_parent_that_is_not_there_is_unreachable(child: MemoryStore, client: PieceClient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ParentUnreachable) as caught:
        fetch(client, ("127.0.0.1", port), child)
    assert caught.value.facts["address"] == f"127.0.0.1:{port}"


@pytest.mark.parametrize("address", [("127.0.0.1", 70000), ("127.0.0.1", -1), ("\udcff", 1), ("a..b", 1)])
def test_an_impossible_address_is_unreachable(
    child: MemoryStore, client: PieceClient, address: tuple[str, int]
) -> None:
    with pytest.raises(ParentUnreachable):
        fetch(client, address, child)


def test_a_parent_that_accepts_nobody_times_out(child: MemoryStore) -> None:
    client = PieceClient(connect_timeout=0.1)
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        for _ in range(3):  # until its queue is full
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(address)
        with pytest.raises(ParentTimedOut) as caught:
            fetch(client, address, child)
    assert caught.value.facts["seconds"] == 0.1


def test_a_silent_parent_times_out_at_the_head(child: MemoryStore) -> None:
    with FakeParent([stay_silent]) as address, pytest.raises(ParentTimedOut):
        fetch(PieceClient(header_timeout=0.05), address, child)


def test_a_parent_that_falls_silent_within_the_piece_times_out(child: MemoryStore) -> None:
    def stall(stream: socket.socket, request: PieceRequest) -> None:
        stream.sendall(head_of(0).encode() + piece_bytes(0)[:1000])

    with FakeParent([stall]) as address, pytest.raises(ParentTimedOut):
        fetch(PieceClient(body_silence=0.05), address, child)


@pytest.mark.parametrize("prefix", [b"", head_of(0).encode()], ids=["head", "content"])
def test_a_parent_that_dribbles_has_an_end(child: MemoryStore, prefix: bytes) -> None:
    def dribble(stream: socket.socket, request: PieceRequest) -> None:
        stream.sendall(prefix)
        pause = Event()
        for byte in head_of(0).encode():
            stream.sendall(bytes((byte,)))
            pause.wait(0.02)

    client = PieceClient(header_timeout=0.3, body_silence=5.0, body_timeout=0.3)
    with FakeParent([dribble]) as address, pytest.raises(PeerError):
        fetch(client, address, child)


@pytest.mark.parametrize("manners", [stay_silent, sending(head_of(0).encode() + b"x")], ids=["head", "content"])
def test_a_download_that_is_stopped_waits_no_longer(child: MemoryStore, client: PieceClient, manners: Manners) -> None:
    def stall(stream: socket.socket, request: PieceRequest) -> None:
        if manners is not stay_silent:
            stream.sendall(head_of(0).encode() + b"x")

    with FakeParent([stall]) as address, child.claim(KEY, ZERO) as writer, pytest.raises(DownloadCancelled):
        client.fetch(address, KEY.wire_id, writer, parent_id=PARENT, stopped=lambda: True)


def test_a_closed_client_keeps_no_connection(parent: MemoryStore, child: MemoryStore, serve: Serve) -> None:
    client = PieceClient()
    address = serve(parent)
    descriptors = len(os.listdir("/proc/self/fd"))
    fetch(client, address, child, ZERO)
    client.close()
    fetch(client, address, child, ONE)
    wait_until(lambda: len(os.listdir("/proc/self/fd")) <= descriptors)


def test_idle_connections_are_few_fresh_and_quiet() -> None:
    now, pairs = [0.0], list[tuple[socket.socket, socket.socket]]()

    def connect(address: tuple[str, int]) -> PlainChannel:
        pairs.append(socket.socketpair())
        return PlainChannel(pairs[-1][0], DEADLINE)

    lanes, address = Lanes(connect, max_per_address=2, clock=lambda: now[0]), ("10.0.0.1", 1)
    for _ in range(2):
        for turn in [lanes.ask(address, b"request") for _ in range(3)]:
            assert turn.wait(0.0)
            turn.done()
    assert [ours.fileno() == -1 for ours, _ in pairs].count(True) == 1  # one more than are kept, once two are proven
    kept = [pair for pair in pairs if pair[0].fileno() != -1]
    for _, theirs in kept:
        theirs.send(b"unasked")
    with lanes.ask(address, b"request") as turn:
        assert turn.channel.socket is pairs[3][0]
        turn.done()
    now[0] = MAX_AGE
    with lanes.ask(address, b"request") as turn:
        assert turn.channel.socket is pairs[4][0]  # the fourth is too old
    assert [ours.fileno() for ours, _ in pairs] == [-1] * 5
    for _, theirs in pairs:
        theirs.close()
