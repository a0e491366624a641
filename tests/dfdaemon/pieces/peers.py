"""Two peers in tests and what stands between them: a small file, stores with and without it, parents of any manners."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from threading import Thread
from zlib import crc32

from blake3 import blake3

from dragonfly.core.model.ids import content_task_id, public_task
from dragonfly.core.model.piece import LEAF_LENGTH, PieceGeometry, PieceNumber
from dragonfly.core.model.units import Bytes, KiB, MiB
from dragonfly.dfdaemon.pieces.client import PieceClient
from dragonfly.dfdaemon.pieces.server import PieceServer
from dragonfly.storage.memory import MemoryStore
from dragonfly.storage.store import OriginFacts, PieceWriter, TaskStore
from dragonfly.wire.vortex import AnswerDecoder, ContentHead, Frame, PieceRequest

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
    store = MemoryStore(16 * MiB)
    store.create(KEY, GEOMETRY, OriginFacts(url="http://origin.test/file"))
    if filled:
        for number in GEOMETRY.numbers():
            with store.claim(KEY, number) as writer:
                writer.write(memoryview(piece_bytes(number)))
                writer.commit(parent_id="a-grandparent", cost=2.5)
    return store


def fetch(
    client: PieceClient, address: tuple[str, int], child: TaskStore, number: PieceNumber = ZERO, digest: str = ""
) -> None:
    with child.claim(KEY, number) as writer:
        fetch_into(client, address, writer, digest)


def fetch_into(client: PieceClient, address: tuple[str, int], writer: PieceWriter, digest: str = "") -> None:
    client.fetch(address, KEY.wire_id, writer, parent_id=PARENT, stopped=lambda: False, expected_digest=digest)


def held(child: TaskStore, number: PieceNumber = ZERO) -> bytes:
    with child.open_piece(KEY, number) as reader:
        return os.pread(reader.fd, reader.piece.length, reader.position)


def content(store: TaskStore) -> bytes:
    """The whole file, of a store that has all its pieces."""
    return b"".join(held(store, number) for number in GEOMETRY.numbers())


def leaves_of(content: bytes) -> bytes:
    """The hashes of a piece's leaves, one after the other."""
    return b"".join(
        blake3(content[start : start + LEAF_LENGTH]).digest() for start in range(0, len(content), LEAF_LENGTH)
    )


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


def wait_until(condition: Callable[[], bool]) -> None:
    """Spin, yielding, until the other thread got there."""
    until = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < until
        os.sched_yield()


def run_all(actions: list[Callable[[], None]]) -> None:
    threads = [Thread(target=action) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE * 2)
    assert not any(thread.is_alive() for thread in threads)


def small_window(address: tuple[str, int]) -> socket.socket:
    stream = socket.socket()
    stream.settimeout(DEADLINE)
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * KiB)
    stream.connect(address)
    return stream


Serve = Callable[..., tuple[str, int]]


@contextmanager
def servers() -> Iterator[Serve]:
    """Starts a server of a store; at the end all are stopped and must leave no thread behind."""
    before = set(threading.enumerate())
    with ExitStack() as stack:

        def start(store: TaskStore, **options: object) -> tuple[str, int]:
            server = PieceServer(store, ip="127.0.0.1", port=0, **{"workers": 4, **options})  # type: ignore[arg-type]  # options of the call site
            port = server.start()
            stack.callback(server.stop)
            return "127.0.0.1", port

        yield start
    left = [thread.name for thread in set(threading.enumerate()) - before if thread.name.startswith("piece-server")]
    assert left == []


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
