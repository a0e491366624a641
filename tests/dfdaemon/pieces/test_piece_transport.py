"""Pieces between two peers over real loopback sockets: our server, our client, the reference's manners.

Hostile peers have their own suite.
"""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from zlib import crc32

import pytest

from dragonfly.core.model.ids import TaskKey
from dragonfly.core.model.piece import LEAF_LENGTH, PieceGeometry, PieceNumber
from dragonfly.core.model.units import Bytes, KiB, MiB, Seconds
from dragonfly.dfdaemon.pieces.channel import PlainChannel
from dragonfly.dfdaemon.pieces.client import PACED_LENGTH, PieceClient
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
    ServiceError,
)
from dragonfly.storage.disk import DiskStore
from dragonfly.storage.memory import MemoryStore
from dragonfly.storage.store import OriginFacts, PieceWriter
from dragonfly.wire.vortex import ContentHead, PieceRequest, Refusal, RefusalCode, Tag
from tests.dfdaemon.pieces.peers import (
    CONTENT,
    DEADLINE,
    GEOMETRY,
    KEY,
    ONE,
    PARENT,
    PIECE_LENGTH,
    TWO,
    ZERO,
    FakeParent,
    Manners,
    Serve,
    answer_all,
    answer_once_and_close,
    ask,
    connected,
    content,
    fetch,
    fetch_into,
    hang_up,
    head_of,
    held,
    is_closed,
    leaves_of,
    new_store,
    piece_bytes,
    read_exactly,
    read_frame,
    run_all,
    saying,
    sending,
    small_window,
    stay_silent,
    wait_until,
)

# --- our server and our client


def test_a_whole_task_crosses_and_both_ends_agree(
    parent: MemoryStore, child: MemoryStore, serve: Serve, client: PieceClient
) -> None:
    uploads = list[tuple[TaskKey, Bytes]]()
    address = serve(parent, on_upload=lambda key, length: uploads.append((key, length)))
    for number in GEOMETRY.numbers():
        fetch(client, address, child, number)
    assert content(child) == CONTENT
    assert [piece.digest for piece in child.pieces(KEY)] == [piece.digest for piece in parent.pieces(KEY)]
    assert {piece.parent_id for piece in child.pieces(KEY)} == {PARENT}
    with connected(address):  # the last upload is told after its last byte: by now, or when the server stops
        wait_until(lambda: len(uploads) == 3)
    assert uploads == [(KEY, PIECE_LENGTH), (KEY, PIECE_LENGTH), (KEY, 777)]


def test_many_children_at_once_get_their_own_pieces(parent: MemoryStore, serve: Serve, client: PieceClient) -> None:
    address = serve(parent)
    stores = [new_store(filled=False) for _ in range(8)]

    def download(store: MemoryStore) -> None:
        for number in GEOMETRY.numbers():
            fetch(client, address, store, number)

    run_all([lambda store=store: download(store) for store in stores])
    assert all(content(store) == CONTENT for store in stores)
    for store in stores:
        store.close()


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


# --- a piece that is still coming in


GROWING_DIGEST = f"crc32:{crc32(piece_bytes(0))}"


@contextmanager
def growing(store: MemoryStore, digest: str = GROWING_DIGEST) -> Iterator[PieceWriter]:
    """Piece 0 on its way from a parent that named its leaves and its digest; its first leaf is here."""
    content = piece_bytes(0)
    with store.claim(KEY, ZERO) as writer:
        writer.restart(leaves=leaves_of(content), digest=digest)
        writer.write(memoryview(content)[: LEAF_LENGTH + 1])
        yield writer


def rest_of(writer: PieceWriter) -> memoryview:
    return memoryview(piece_bytes(0))[writer.length - writer.remaining :]


def test_what_is_certain_of_a_growing_piece_is_sent_on_before_the_rest_is_here(
    child: MemoryStore, serve: Serve
) -> None:
    with growing(child) as writer, connected(serve(child, workers=2)) as stream:
        stream.sendall(PieceRequest(KEY.wire_id, 0).encode())
        head = read_frame(stream)
        assert isinstance(head, ContentHead)
        assert (head.number, head.offset, head.length, head.digest) == (0, 0, PIECE_LENGTH, GROWING_DIGEST)
        first = read_exactly(stream, LEAF_LENGTH)
        writer.write(rest_of(writer))
        rest = read_exactly(stream, PIECE_LENGTH - LEAF_LENGTH - 1)
        stream.settimeout(0.05)
        with pytest.raises(TimeoutError):  # nobody has said yet that the digest is right
            stream.recv(1)
        stream.settimeout(DEADLINE)
        writer.commit(parent_id=PARENT, cost=0.0)
        assert first + rest + read_exactly(stream, 1) == piece_bytes(0)


def test_a_piece_grows_through_a_chain_of_peers(child: MemoryStore, serve: Serve, client: PieceClient) -> None:
    content = piece_bytes(0)
    with closing(new_store(filled=False)) as grandchild, growing(child) as writer:
        address = serve(child)

        def download() -> None:
            with grandchild.claim(KEY, ZERO) as taken:
                client.fetch(
                    address, KEY.wire_id, taken, parent_id=PARENT, stopped=lambda: False, leaves=leaves_of(content)
                )

        thread = Thread(target=download)
        thread.start()
        with suppress(PieceNotFound):
            wait_until(lambda: is_growing(grandchild))
        writer.write(rest_of(writer))
        writer.commit(parent_id=PARENT, cost=0.0)
        thread.join(DEADLINE)
        assert held(grandchild) == content


def is_growing(store: MemoryStore) -> bool:
    """Whether the first leaf of piece 0 is certain here."""
    try:
        with store.follow_piece(KEY, ZERO) as follower:
            return follower.wait_beyond(0, 0.0) >= LEAF_LENGTH
    except PieceNotFound:
        return False


def test_a_growing_piece_that_is_given_up_ends_in_a_reset(child: MemoryStore, serve: Serve) -> None:
    with ExitStack() as stack, connected(serve(child)) as stream:
        stack.enter_context(growing(child))
        stream.sendall(PieceRequest(KEY.wire_id, 0).encode())
        read_frame(stream)
        read_exactly(stream, LEAF_LENGTH)
        stack.close()
        with pytest.raises(ConnectionResetError):
            stream.recv(1)


@pytest.mark.parametrize("is_kept", [False, True])
def test_a_growing_piece_that_turns_out_to_have_another_digest_ends_in_a_reset(
    child: MemoryStore, serve: Serve, is_kept: bool
) -> None:
    """Attack 26: our own parent named a wrong digest; our child must not blame us for it."""
    with growing(child, "crc32:1") as writer, connected(serve(child)) as stream:
        stream.sendall(PieceRequest(KEY.wire_id, 0).encode())
        read_frame(stream)
        read_exactly(stream, LEAF_LENGTH)
        if is_kept:
            writer.write(rest_of(writer))
            writer.commit(parent_id=PARENT, cost=0.0)
        else:
            writer.restart(leaves=leaves_of(piece_bytes(0)), digest=GROWING_DIGEST)
        with pytest.raises(ConnectionResetError):
            read_exactly(stream, PIECE_LENGTH)


def test_many_children_of_a_growing_piece_are_served_by_few_workers(child: MemoryStore, serve: Serve) -> None:
    address = serve(child, workers=2)
    with ExitStack() as stack:
        writer = stack.enter_context(growing(child))
        streams = [stack.enter_context(connected(address)) for _ in range(12)]
        for stream in streams:
            stream.sendall(PieceRequest(KEY.wire_id, 0).encode())
        with connected(address) as other:
            assert isinstance(ask(other, 1)[0], Refusal)
        writer.write(rest_of(writer))
        writer.commit(parent_id=PARENT, cost=0.0)
        for stream in streams:
            read_frame(stream)
            assert read_exactly(stream, PIECE_LENGTH) == piece_bytes(0)


# --- limits


class Allowance:
    """Grants so many bytes at a time, and every other time none."""

    def __init__(self, at_a_time: Bytes) -> None:
        self.at_a_time = at_a_time
        self.granted = list[tuple[TaskKey, Bytes, Bytes]]()
        self._is_time = threading.local()

    def __call__(self, key: TaskKey, wanted: Bytes) -> tuple[Bytes, Seconds]:
        self._is_time.now = not getattr(self._is_time, "now", False)
        if not self._is_time.now:
            return 0, 0.001
        count = min(wanted, self.at_a_time)
        self.granted.append((key, wanted, count))
        return count, 0.0


@pytest.mark.parametrize("at_a_time", [16 * KiB, 300_001, 10 * MiB])
def test_no_byte_is_sent_that_was_not_granted(
    parent: MemoryStore, child: MemoryStore, serve: Serve, client: PieceClient, at_a_time: Bytes
) -> None:
    grant = Allowance(at_a_time)
    fetch(client, serve(parent, grant=grant), child)
    assert held(child) == piece_bytes(0)
    assert sum(count for _, _, count in grant.granted) == PIECE_LENGTH
    assert all(key == KEY and wanted >= count for key, wanted, count in grant.granted)


def test_a_child_that_has_to_wait_for_its_share_holds_no_worker(parent: MemoryStore, serve: Serve) -> None:
    is_open = Event()

    def grant(key: TaskKey, wanted: Bytes) -> tuple[Bytes, Seconds]:
        return (wanted, 0.0) if wanted <= 777 or is_open.is_set() else (0, 0.01)

    address = serve(parent, workers=1, grant=grant)
    with ExitStack() as stack:
        waiting = [stack.enter_context(connected(address)) for _ in range(5)]
        for stream in waiting:
            stream.sendall(PieceRequest(KEY.wire_id, 0).encode())
        with connected(address) as other:
            assert ask(other, 2)[1] == piece_bytes(2)
        is_open.set()
        for stream in waiting:
            read_frame(stream)
            assert read_exactly(stream, PIECE_LENGTH) == piece_bytes(0)


def test_a_child_paused_by_the_limit_is_not_taken_for_a_stalled_one(parent: MemoryStore, serve: Serve) -> None:
    pauses = [0.3] * 3

    def grant(key: TaskKey, wanted: Bytes) -> tuple[Bytes, Seconds]:
        return (0, pauses.pop()) if pauses else (wanted, 0.0)

    with connected(serve(parent, grant=grant, stall_timeout=0.2)) as stream:
        assert ask(stream, 0)[1] == piece_bytes(0)


def test_every_byte_received_is_paid_for_once_and_in_small_steps(
    parent: MemoryStore, child: MemoryStore, serve: Serve, client: PieceClient
) -> None:
    paid = list[Bytes]()
    with child.claim(KEY, ZERO) as writer:
        client.fetch(serve(parent), KEY.wire_id, writer, parent_id=PARENT, stopped=lambda: False, pace=paid.append)
    assert sum(paid) == PIECE_LENGTH
    assert max(paid) <= PACED_LENGTH


def test_pauses_of_the_pace_are_not_the_parents(parent: MemoryStore, child: MemoryStore, serve: Serve) -> None:
    pause = Event()
    with closing(PieceClient(body_silence=0.1, body_timeout=0.2)) as client, child.claim(KEY, ZERO) as writer:
        client.fetch(
            serve(parent),
            KEY.wire_id,
            writer,
            parent_id=PARENT,
            stopped=lambda: False,
            pace=lambda count: pause.wait(0.05) and None,
        )
    assert held(child) == piece_bytes(0)


# --- the server in trouble of its own


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
    """Attack 24."""
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


# --- the client


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


@contextmanager
def proven(manners: Manners, accepted: list[int]) -> Iterator[tuple[PieceClient, tuple[str, int]]]:
    """A client with one connection to a parent that has kept it twice."""
    with (
        closing(PieceClient(header_timeout=DEADLINE, max_lanes=1)) as client,
        closing(new_store(filled=False)) as scratch,
        FakeParent([manners, answer_all], accepted) as address,
    ):
        for _ in range(2):
            with scratch.claim(KEY, ZERO) as writer, suppress(PieceDigestMismatch):
                fetch_into(client, address, writer, "crc32:1")  # refused by the store, so it can be asked for again
        yield client, address


def test_a_request_is_sent_while_another_answer_is_still_read(child: MemoryStore) -> None:
    ahead, accepted = Event(), list[int]()

    def answer_when_the_next_is_here(stream: socket.socket, request: PieceRequest) -> None:
        if request.number != 0 and not ahead.is_set():
            stream.recv(74, socket.MSG_PEEK | socket.MSG_WAITALL)
            ahead.set()
        answer_all(stream, request)

    with proven(answer_when_the_next_is_here, accepted) as (client, address):
        run_all([lambda number=number: fetch(client, address, child, number) for number in (ONE, TWO)])
    assert (held(child, ONE), held(child, TWO)) == (piece_bytes(1), piece_bytes(2))
    assert len(accepted) == 1


def test_those_behind_a_connection_that_breaks_ask_again_elsewhere(child: MemoryStore) -> None:
    def break_later(stream: socket.socket, request: PieceRequest) -> None:
        if request.number == 0:
            answer_all(stream, request)
            return
        stream.recv(2 * 74, socket.MSG_PEEK | socket.MSG_WAITALL)
        stream.sendall(head_of(request.number).encode() + b"half")
        stream.shutdown(socket.SHUT_RDWR)

    accepted, failed = list[int](), list[Exception]()
    with proven(break_later, accepted) as (client, address):

        def take(number: PieceNumber) -> None:
            try:
                fetch(client, address, child, number)
            except PeerError as error:
                failed.append(error)

        run_all([lambda number=number: take(number) for number in (ONE, TWO, ZERO)])
    assert [type(error) for error in failed] == [PieceLengthMismatch]  # who read the broken answer, nobody else
    assert len(child.pieces(KEY)) == 2


def test_one_that_stops_waiting_spoils_no_answer(child: MemoryStore) -> None:
    """Its answer would come next: nobody may take it for theirs."""
    release, stop, second_is_here, third_is_here = Event(), Event(), Event(), Event()

    def hold(stream: socket.socket, request: PieceRequest) -> None:
        if request.number != 0:
            stream.recv(74, socket.MSG_PEEK | socket.MSG_WAITALL)
            second_is_here.set()
            stream.recv(2 * 74, socket.MSG_PEEK | socket.MSG_WAITALL)
            third_is_here.set()
            release.wait(DEADLINE)
        answer_all(stream, request)

    accepted = list[int]()
    with proven(hold, accepted) as (client, address):

        def give_up() -> None:
            with child.claim(KEY, ZERO) as writer, pytest.raises(DownloadCancelled):
                client.fetch(address, KEY.wire_id, writer, parent_id=PARENT, stopped=stop.is_set)

        first = Thread(target=fetch, args=(client, address, child, ONE))
        second = Thread(target=give_up)
        third = Thread(target=fetch, args=(client, address, child, TWO))
        first.start()
        second.start()
        assert second_is_here.wait(DEADLINE)
        third.start()
        assert third_is_here.wait(DEADLINE)
        stop.set()
        second.join(DEADLINE)
        release.set()
        first.join(DEADLINE)
        third.join(DEADLINE)
    assert (held(child, ONE), held(child, TWO)) == (piece_bytes(1), piece_bytes(2))


def test_a_parent_that_closes_after_each_answer_is_never_asked_ahead(client: PieceClient) -> None:
    """The reference. An unread request would make its close a reset, and the end of the answer before it be lost."""
    with FakeParent([answer_once_and_close]) as address, ExitStack() as stack:
        stores = [stack.enter_context(closing(new_store(filled=False))) for _ in range(12)]

        run_all([lambda store=store: fetch_all(client, address, store) for store in stores])
        assert all(content(store) == CONTENT for store in stores)


def fetch_all(client: PieceClient, address: tuple[str, int], store: MemoryStore) -> None:
    for number in GEOMETRY.numbers():
        fetch(client, address, store, number)


def descriptors_of_sockets() -> int:
    return sum(link.is_socket() for link in Path("/proc/self/fd").iterdir())


def test_few_connections_carry_many_downloads(parent: MemoryStore, serve: Serve) -> None:
    address = serve(parent)
    before = descriptors_of_sockets()
    with closing(PieceClient(max_lanes=2)) as client, ExitStack() as stack:
        stores = [stack.enter_context(closing(new_store(filled=False))) for _ in range(12)]
        run_all([lambda store=store: fetch_all(client, address, store) for store in stores])
        assert all(content(store) == CONTENT for store in stores)
        wait_until(lambda: descriptors_of_sockets() <= before + 2 * 2)  # both ends of both


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
