"""The piece protocol to the byte, as the reference's own tests and daemon write it."""

import zlib

import pytest

from dragonfly.wire.vortex import (
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

HEX_ID = "1234567890abcdef" * 4

REQUESTS = {
    "a request": (
        PieceRequest("a" * 64, 42, id=0x2A),
        "2a0000000044" + "61" * 64 + "0000002a",
    ),
    "a persistent cache request": (
        PieceRequest(HEX_ID, 0, Tag.DOWNLOAD_PERSISTENT_CACHE_PIECE, id=7),
        "070400000044" + "31323334353637383930616263646566" * 4 + "00000000",
    ),
    "close": (Close(id=0x12), "12fe00000000"),
}

ANSWERS = {
    "content as the daemon writes it": (
        ContentHead(
            number=7,
            offset=29360128,
            length=11,
            digest="crc32:222957957",
            parent_id="127.0.0.1-foo",
            cost=30,
            created_at=1700000000,
            id=0x10,
        ),
        "10010000004d00000049000000070000000001c00000000000000000000b0000000f63726333323a3232323935373935370000000d"
        "3132372e302e302e312d666f6f01000000000000001e000000006553f100",
    ),
    "content with the integration test's values": (
        ContentHead(
            number=1,
            offset=1,
            length=13,
            digest="crc32:864bbb04",
            parent_id="127.0.0.1-foo",
            cost=30,
            created_at=0,
            id=1,
        ),
        "01010000004c00000048000000010000000000000001000000000000000d0000000e63726333323a38363462626230340000000d"
        "3132372e302e302e312d666f6f01000000000000001e0000000000000000",
    ),
    "a persistent piece without digest and parent": (
        ContentHead(number=0, offset=0, length=5, created_at=1700000000, tag=Tag.PERSISTENT_PIECE_CONTENT, id=0x33),
        "3303000000310000002d00000000000000000000000000000000000000050000000000000000010000000000000000000000006553f100",
    ),
    "an error": (
        Refusal(RefusalCode.NOT_FOUND, "piece not found", id=0x11),
        "11ff00000010027069656365206e6f7420666f756e64",
    ),
    "close": (Close(id=0x12), "12fe00000000"),
}


def frames(decoder: RequestDecoder | AnswerDecoder, data: bytes) -> tuple[Frame | None, bytes]:
    """The first frame in `data`, and what was not needed for it."""
    while decoder.needs and data:
        taken, data = data[: decoder.needs], data[decoder.needs :]
        if (frame := decoder.feed(taken)) is not None:
            return frame, data
    return None, data


@pytest.mark.parametrize(("frame", "expected"), REQUESTS.values(), ids=REQUESTS)
def test_what_a_child_sends_is_the_references_bytes_both_ways(frame: PieceRequest | Close, expected: str) -> None:
    assert frame.encode().hex() == expected
    assert frames(RequestDecoder(), bytes.fromhex(expected)) == (frame, b"")


@pytest.mark.parametrize(("frame", "expected"), ANSWERS.values(), ids=ANSWERS)
def test_what_a_parent_sends_is_the_references_bytes_both_ways(
    frame: ContentHead | Refusal | Close, expected: str
) -> None:
    assert frame.encode().hex() == expected
    assert frames(AnswerDecoder(), bytes.fromhex(expected)) == (frame, b"")


def test_the_bytes_of_the_piece_are_left_to_the_caller() -> None:
    head, encoded = ANSWERS["content as the daemon writes it"]
    content = b"hello world"
    assert head.digest == f"crc32:{zlib.crc32(content)}"
    assert frames(AnswerDecoder(), bytes.fromhex(encoded) + content) == (head, content)


@pytest.mark.parametrize("length", [0, 4 + 73, 4 + 73 + 11, 0xFFFF_FFFF])
def test_the_length_in_a_contents_header_changes_nothing(length: int) -> None:
    head, encoded = ANSWERS["content as the daemon writes it"]
    data = bytearray.fromhex(encoded)
    data[2:6] = length.to_bytes(4, "big")
    assert frames(AnswerDecoder(), bytes(data) + b"hello world") == (head, b"hello world")


def test_a_request_has_74_bytes() -> None:
    assert len(PieceRequest("a" * 64, 0xFFFF_FFFF).encode()) == 74
