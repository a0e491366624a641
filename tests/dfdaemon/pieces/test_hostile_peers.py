"""Hostile peers over real sockets, against the piece server and the piece client.

Attack 26: a peer that sends other bytes than the piece has. 27: one that names a digest worth nothing. 43: one that
sends no protocol at all, too much, too slowly, or nothing; what they cost us is bounded.
"""

import resource
import select
import socket
import tracemalloc
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from threading import Event
from zlib import crc32

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dragonfly.core.model.units import KiB, MiB
from dragonfly.dfdaemon.pieces.channel import reset_on_close
from dragonfly.dfdaemon.pieces.client import PieceClient
from dragonfly.errors import (
    ParentTimedOut,
    ParentUnreachable,
    PeerError,
    PieceDigestMismatch,
    PieceLengthMismatch,
    ProtocolViolation,
)
from dragonfly.storage.leaves import root_of
from dragonfly.storage.memory import MemoryStore
from dragonfly.wire.vortex import (
    MAX_VALUE,
    AnswerDecoder,
    Close,
    ContentHead,
    PieceRequest,
    Refusal,
    RefusalCode,
    RequestDecoder,
)
from tests.dfdaemon.pieces.peers import (
    DEADLINE,
    GEOMETRY,
    KEY,
    ONE,
    PARENT,
    TWO,
    ZERO,
    FakeParent,
    Manners,
    Serve,
    answer_all,
    ask,
    connected,
    fetch,
    fetch_into,
    flipped,
    hang_up,
    head_of,
    held,
    is_closed,
    leaves_of,
    new_store,
    piece_bytes,
    read_exactly,
    read_frame,
    saying,
    sending,
    small_window,
    stay_silent,
)

# --- a hostile child: attack 43


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


@dataclass(frozen=True)
class Live:
    """A server that stands for a whole test."""

    address: tuple[str, int]


@pytest.fixture
def live(parent: MemoryStore, serve: Serve) -> Live:
    return Live(serve(parent, header_timeout=DEADLINE))


def test_one_address_cannot_take_all_places(parent: MemoryStore, serve: Serve) -> None:
    address = serve(parent, max_connections_per_address=5)
    with ExitStack() as stack:
        neighbour = stack.enter_context(socket.create_connection(address, DEADLINE, ("127.0.0.2", 0)))
        greedy = [stack.enter_context(connected(address)) for _ in range(50)]
        assert ask(greedy[-1], 2)[1] == piece_bytes(2)
        assert sum(is_closed(stream) for stream in greedy[:45]) == 45
        assert ask(neighbour, 2)[1] == piece_bytes(2)


def test_an_address_whose_children_are_all_busy_gets_no_further_place(child: MemoryStore, serve: Serve) -> None:
    address = serve(child, max_connections_per_address=3)
    with ExitStack() as stack:
        stack.enter_context(child.claim(KEY, ZERO))
        for _ in range(3):
            busy = stack.enter_context(connected(address))
            busy.sendall(PieceRequest(KEY.wire_id, 0).encode())
            assert isinstance(ask(stack.enter_context(connected_from("127.0.0.2", address)), 2)[0], Refusal)
        assert is_closed(stack.enter_context(connected(address)))


def connected_from(ip: str, address: tuple[str, int]) -> socket.socket:
    return socket.create_connection(address, DEADLINE, (ip, 0))


def test_a_thousand_idle_children_cost_little_memory(parent: MemoryStore, serve: Serve) -> None:
    count = 1000
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit[1], limit[1]))
    address = serve(parent, max_connections_per_address=2 * count)
    with ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limit)
        stack.callback(tracemalloc.stop)
        tracemalloc.start()
        for number in range(count):
            stream = stack.enter_context(connected(address))
            stream.sendall(b"\0" * (number % 6))  # some have begun to speak
        assert ask(stack.enter_context(connected(address)), 2)[1] == piece_bytes(2)
        taken, _ = tracemalloc.get_traced_memory()
    assert taken / count < 6 * KiB  # for both ends


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(
        st.binary(max_size=400),
        st.tuples(st.integers(0, 255), st.integers(0, 255), st.sampled_from([0, 67, 68, 69, 2**31, 2**32 - 1])).map(
            lambda facts: bytes(facts[:2]) + facts[2].to_bytes(4, "big") + KEY.wire_id.encode() + b"\0\0\0\2"
        ),
    ),
    st.booleans(),
)
def test_whatever_a_child_sends_the_next_one_is_served(live: Live, data: bytes, hangs_up: bool) -> None:
    with connected(live.address) as stream:
        with suppress(ConnectionError):
            stream.sendall(data)
        if hangs_up:
            reset_on_close(stream)
        else:
            with suppress(OSError):  # dropped at the first wrong byte
                stream.shutdown(socket.SHUT_WR)
                while stream.recv(MiB):
                    pass
    with connected(live.address) as stream:
        assert ask(stream, 2)[1] == piece_bytes(2)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([RequestDecoder, AnswerDecoder]))
def test_a_decoder_asks_for_little_whatever_it_is_told(data: bytes, kind: type[RequestDecoder | AnswerDecoder]) -> None:
    decoder = kind("10.0.0.1:1")
    with suppress(ProtocolViolation):
        while data and decoder.needs:
            assert decoder.needs <= MAX_VALUE
            decoder.feed(data[: decoder.needs])
            data = data[decoder.needs or len(data) :]


# --- a hostile parent: attacks 26 and 27


def about(content: bytes) -> str:
    return f"crc32:{crc32(content)}"


LIES: dict[str, tuple[Manners, type[PeerError]]] = {
    "a flipped bit": (saying(head_of(0), flipped(piece_bytes(0))), PieceDigestMismatch),
    "a digest of an algorithm of its own": (saying(head_of(0, digest="md5:1"), piece_bytes(0)), ProtocolViolation),
    "the bytes of another piece": (saying(head_of(0), piece_bytes(1)), PieceDigestMismatch),
    "a digest in another guise": (saying(head_of(0, digest="crc32:0x12"), piece_bytes(0)), ProtocolViolation),
    "a refusal of four gigabytes": (sending(b"\0\xff\xff\xff\xff\xff" + b"x" * 4096), ProtocolViolation),
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


@pytest.mark.parametrize("digest", ["md5:" + "0" * 32, "sha1:" + "0" * 40, "crc32c:1", "none:", "x" * 250])
def test_a_digest_worth_nothing_is_refused_before_a_byte_is_taken(
    child: MemoryStore, client: PieceClient, digest: str
) -> None:
    """Attack 27."""
    with FakeParent([sending(head_of(0, digest=digest).encode())]) as address, child.claim(KEY, ZERO) as writer:
        with pytest.raises(ProtocolViolation, match="digest"):
            fetch_into(client, address, writer)
        assert writer.remaining == writer.length


def test_the_wrong_leaf_is_noticed_before_the_piece_is_whole(child: MemoryStore, client: PieceClient) -> None:
    """Attack 26: the right CRC of the wrong content, and the parent never even ends it."""
    wrong = flipped(piece_bytes(0))

    def answer(stream: socket.socket, request: PieceRequest) -> None:
        stream.sendall(head_of(0, digest=about(wrong)).encode() + wrong[: 512 * KiB])

    with FakeParent([answer]) as address, child.claim(KEY, ZERO) as writer, pytest.raises(PieceDigestMismatch) as told:
        client.fetch(
            address,
            KEY.wire_id,
            writer,
            parent_id=PARENT,
            stopped=lambda: False,
            leaves=leaves_of(piece_bytes(0)),
        )
    assert told.value.facts["address"] == f"127.0.0.1:{address[1]}"


def test_the_wrong_content_with_its_right_crc_has_not_the_root(child: MemoryStore, client: PieceClient) -> None:
    """Attack 26, with nothing known of the piece but its root."""
    wrong, root = flipped(piece_bytes(0)), root_of(leaves_of(piece_bytes(0)))
    liar = FakeParent([saying(head_of(0, digest=about(wrong)), wrong)])
    with liar as address, FakeParent([answer_all]) as honest, child.claim(KEY, ZERO) as writer:
        for given_by, expected in ((address, PieceDigestMismatch), (honest, None)):
            with pytest.raises(expected) if expected else ExitStack():
                client.fetch(given_by, KEY.wire_id, writer, parent_id=PARENT, stopped=lambda: False, root=root)
    assert held(child) == piece_bytes(0)


def test_a_parent_that_never_stops_sending_is_left_with_its_bytes(child: MemoryStore, client: PieceClient) -> None:
    def pour(stream: socket.socket, request: PieceRequest) -> None:
        answer_all(stream, request)
        while True:
            stream.sendall(bytes(MiB))

    with FakeParent([pour]) as address:
        fetch(client, address, child, ZERO)
        with suppress(ProtocolViolation):  # it may look quiet for a moment, and be asked again
            fetch(client, address, child, ONE)
    assert held(child, ZERO) == piece_bytes(0)


def test_a_parent_may_close_at_any_byte(child: MemoryStore, client: PieceClient) -> None:
    whole = head_of(2).encode() + piece_bytes(2)
    for length in range(len(whole)):
        closing_early = FakeParent([sending(whole[:length])])
        with closing_early as address, pytest.raises((ParentUnreachable, PieceLengthMismatch)):
            fetch(client, address, child, TWO)
    assert child.pieces(KEY) == []


@pytest.mark.parametrize("length", [1, 5, 6, 9, 10, 60, 70, 570])  # within the header, the metadata, the content
def test_a_parent_may_stall_at_any_byte(child: MemoryStore, length: int) -> None:
    def stall(stream: socket.socket, request: PieceRequest) -> None:
        stream.sendall((head_of(2).encode() + piece_bytes(2))[:length])

    hasty = PieceClient(header_timeout=0.05, body_silence=0.05)
    with closing(hasty), FakeParent([stall]) as address, pytest.raises(ParentTimedOut):
        fetch(hasty, address, child, TWO)


@settings(max_examples=60, deadline=None)
@given(st.binary(min_size=1, max_size=300), st.integers(0, 120))
def test_whatever_a_parent_sends_ends_in_an_error_that_names_it_or_in_the_piece(data: bytes, position: int) -> None:
    whole = head_of(2).encode() + piece_bytes(2)
    damaged = whole[:position] + data + whole[position + len(data) :]
    with (
        closing(new_store(filled=False)) as child,
        closing(PieceClient()) as client,
        FakeParent([sending(damaged)]) as address,
    ):
        named = list[object]()
        try:
            fetch(client, address, child, TWO, about(piece_bytes(2)))
        except PeerError as error:
            named.append(error.facts["address"])
        assert named == [f"127.0.0.1:{address[1]}"] or held(child, TWO) == piece_bytes(2)
