"""Laws of the piece protocol: what is written is read; no bytes of a stranger crash a reader or make it hoard."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragonfly.errors import InvalidIdentifier, ProtocolViolation
from dragonfly.wire.vortex import (
    MAX_VALUE,
    AnswerDecoder,
    Close,
    ContentHead,
    Frame,
    PieceRequest,
    Refusal,
    RefusalCode,
    RequestDecoder,
    Tag,
)

U8, U32, U64 = st.integers(0, 0xFF), st.integers(0, 0xFFFF_FFFF), st.integers(0, 2**64 - 1)
REQUESTS = st.builds(
    PieceRequest,
    st.text("0123456789abcdef", min_size=64, max_size=64),
    U32,
    st.sampled_from([tag for tag in Tag if tag.is_request]),
    U8,
)
HEADS = st.builds(
    ContentHead,
    number=U32,
    offset=U64,
    length=U64,
    digest=st.text(max_size=60),
    parent_id=st.text(max_size=200),
    traffic_type=U8,
    cost=U64,
    created_at=st.integers(-(2**63), 2**63 - 1),
    tag=st.sampled_from([tag for tag in Tag if tag.is_content]),
    id=U8,
)
REFUSALS = st.builds(Refusal, st.sampled_from(RefusalCode), st.text(max_size=500), U8)
CLOSES = st.builds(Close, U8)


def read(decoder: RequestDecoder | AnswerDecoder, data: bytes, step: int) -> Frame | None:
    """Feed `data` in parts of at most `step` bytes until a message is complete or the bytes end."""
    while data and decoder.needs:
        taken = min(decoder.needs, step)
        frame = decoder.feed(data[:taken])
        data = data[taken:]
        if frame is not None:
            assert data == b""
            return frame
    return None


@given(REQUESTS | CLOSES, st.integers(1, 100))
def test_a_server_reads_what_a_child_writes_however_it_is_cut(frame: PieceRequest | Close, step: int) -> None:
    assert read(RequestDecoder(), frame.encode(), step) == frame


@given(HEADS | REFUSALS | CLOSES, st.integers(1, 100))
def test_a_child_reads_what_a_server_writes_however_it_is_cut(frame: ContentHead | Refusal | Close, step: int) -> None:
    assert read(AnswerDecoder(), frame.encode(), step) == frame


@given(st.sampled_from([RequestDecoder, AnswerDecoder]), st.binary(max_size=300), st.integers(1, 100))
def test_garbage_is_refused_or_waited_on_but_never_hoarded(
    decoder_class: type[RequestDecoder] | type[AnswerDecoder], data: bytes, step: int
) -> None:
    """Attack 43: at no moment does a decoder ask for more than MAX_VALUE bytes."""
    decoder = decoder_class()
    while data and decoder.needs:
        assert decoder.needs <= MAX_VALUE
        taken = min(decoder.needs, step)
        try:
            if decoder.feed(data[:taken]) is not None:
                return
        except ProtocolViolation:
            return
        data = data[taken:]


def test_a_violation_names_the_address_it_came_from() -> None:
    with pytest.raises(ProtocolViolation) as caught:
        AnswerDecoder("10.0.0.1:4005").feed(b"garbage"[:6])
    assert caught.value.facts["address"] == "10.0.0.1:4005"


@given(HEADS | REFUSALS, st.data())
def test_a_damaged_answer_is_refused_or_means_something_else(frame: ContentHead | Refusal, data: st.DataObject) -> None:
    encoded = bytearray(frame.encode())
    position = data.draw(st.integers(0, len(encoded) - 1))
    encoded[position] ^= data.draw(st.integers(1, 255))
    decoder = AnswerDecoder()
    rest = bytes(encoded)
    try:
        while rest and decoder.needs:
            taken, rest = rest[: decoder.needs], rest[decoder.needs :]
            if (got := decoder.feed(taken)) is not None:
                assert got != frame or isinstance(frame, Refusal) or position in range(2, 6)
                return
    except ProtocolViolation:
        return


@pytest.mark.parametrize("length", [0, 44, MAX_VALUE + 1, 2**31, 2**32 - 1])
def test_metadata_of_an_impossible_length_is_refused_before_it_is_read(length: int) -> None:
    """Attack 43."""
    decoder = AnswerDecoder()
    decoder.feed(bytes((0, Tag.PIECE_CONTENT)) + b"\0\0\0\0")
    with pytest.raises(ProtocolViolation):
        decoder.feed(length.to_bytes(4, "big"))


@pytest.mark.parametrize("length", [0, MAX_VALUE + 1, 2**32 - 1])
def test_an_error_of_an_impossible_length_is_refused_before_it_is_read(length: int) -> None:
    """Attack 43."""
    with pytest.raises(ProtocolViolation):
        AnswerDecoder().feed(bytes((0, Tag.ERROR)) + length.to_bytes(4, "big"))


@pytest.mark.parametrize("digest_length", [2, 1000, 2**32 - 1])
def test_a_text_that_runs_out_of_the_metadata_is_refused(digest_length: int) -> None:
    encoded = bytearray(ContentHead(number=0, offset=0, length=1, digest="crc32:1").encode())
    encoded[30:34] = digest_length.to_bytes(4, "big")
    decoder = AnswerDecoder()
    decoder.feed(bytes(encoded[:6]))
    decoder.feed(bytes(encoded[6:10]))
    with pytest.raises(ProtocolViolation):
        decoder.feed(bytes(encoded[10:]))


@pytest.mark.parametrize(("tag", "length"), [(0, 67), (0, 69), (0, 2**32 - 1), (1, 68), (8, 68), (254, 1), (255, 68)])
def test_a_request_of_another_shape_is_refused_at_its_header(tag: int, length: int) -> None:
    with pytest.raises(ProtocolViolation):
        RequestDecoder().feed(bytes((0, tag)) + length.to_bytes(4, "big"))


@pytest.mark.parametrize("task_id", ["", "a" * 63, "a" * 65, "ä" * 32, "ä" * 64])
def test_a_task_id_that_does_not_fit_is_never_sent(task_id: str) -> None:
    with pytest.raises(InvalidIdentifier):
        PieceRequest(task_id, 0).encode()


def test_a_decoder_is_ready_again_after_a_reset() -> None:
    decoder = RequestDecoder()
    for number in range(3):
        request = PieceRequest("b" * 64, number)
        assert not decoder.began
        assert read(decoder, request.encode(), 74) == request
        assert decoder.needs == 0
        decoder.reset()


def test_an_unknown_error_code_is_an_unknown_error() -> None:
    decoder = AnswerDecoder()
    decoder.feed(bytes.fromhex("00ff00000003"))
    assert decoder.feed(b"\x63no") == Refusal(RefusalCode.UNKNOWN, "no")
