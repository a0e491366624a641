"""dfget where the daemon sends the bytes, where only a range is wanted, and where nobody knows the length at first."""

import zlib

import pytest

from dragonfly.core.model.ranges import ByteRange
from dragonfly.testing.fake_daemon import Play
from dragonfly.wire.pb import common_pb2
from tests.cli.desk import Desk, Ended, wait_for

CONTENT = bytes(range(256)) * 4
TRANSFER = "--transfer-from-dfdaemon"
SHA256 = "sha256:785b0751fc2c53dc14a4ce3d800e69ef9ce1009eb327ccf458afe09c242c26c9"
SHA512 = (
    "sha512:37f652be867f28ed033269cbba201af2112c2b3fd334a89fd2f757938ddee815787cc61d6e24a8a33340d0f7e86ffc058816b88530"
    "766ba6e231620a130b566c"
)


@pytest.fixture(autouse=True)
def content(desk: Desk) -> None:
    desk.daemon.play = Play(content=CONTENT, piece_length=100)


def failed(ended: Ended, status: int, sentence: str, desk: Desk, left: list[str]) -> bool:
    return ended.status == status and sentence in ended.err and desk.left_over() == left


# --- the daemon sends the bytes


def test_content_that_is_sent_becomes_the_output(desk: Desk) -> None:
    ended = desk.run(TRANSFER)
    assert (ended.status, desk.output.read_bytes()) == (0, CONTENT)
    assert desk.asked.need_piece_content
    assert not desk.asked.HasField("output_path"), "the daemon is given no path"
    assert desk.left_over() == ["disk.img"]
    assert ended.err.startswith(f"{desk.output}: 1.0 KiB in ")


def test_pieces_may_come_in_any_order_and_twice(desk: Desk) -> None:
    first: list[common_pb2.Piece] = []

    def late(piece: common_pb2.Piece) -> list[common_pb2.Piece]:
        if piece.number == 0:
            first.append(piece)
            return []
        return [piece, piece, *first] if piece.number == 10 else [piece]

    desk.daemon.play = Play(content=CONTENT, piece_length=100, edits=late)
    assert desk.run(TRANSFER).status == 0
    assert desk.output.read_bytes() == CONTENT


def test_the_room_is_taken_before_the_first_piece_comes(desk: Desk) -> None:
    seen: list[int] = []

    def look(piece: common_pb2.Piece) -> list[common_pb2.Piece]:
        wait_for(lambda: (draft := next(desk.directory.glob(".*.dfget"), None)) and draft.stat().st_size)
        seen.append(next(desk.directory.glob(".*.dfget")).stat().st_size)
        return [piece]

    desk.daemon.play = Play(content=CONTENT, piece_length=1024, edits=look)
    assert desk.run(TRANSFER).status == 0
    assert seen == [1024]


def test_an_empty_file_is_sent_too(desk: Desk) -> None:
    desk.daemon.play = Play(content=b"")
    assert desk.run(TRANSFER).status == 0
    assert desk.output.read_bytes() == b""


def test_a_piece_with_other_bytes_than_its_crc_says_is_refused(desk: Desk) -> None:
    """Attack 26."""

    def spoil(piece: common_pb2.Piece) -> list[common_pb2.Piece]:
        if piece.number == 3:
            piece.content = b"x" * len(piece.content)
        return [piece]

    desk.daemon.play = Play(content=CONTENT, piece_length=100, edits=spoil)
    desk.output.write_bytes(b"old")
    assert failed(desk.run(TRANSFER, "--overwrite"), 6, "piece 3 has the digest crc32:", desk, ["disk.img"])
    assert desk.output.read_bytes() == b"old"


def test_a_piece_that_never_came_is_missed(desk: Desk) -> None:
    for number in (0, 5, 10):
        desk.daemon.play = Play(
            content=CONTENT, piece_length=100, edits=lambda piece, n=number: [] if piece.number == n else [piece]
        )
        got = number * 100
        assert failed(desk.run(TRANSFER), 6, f"has {got} bytes, expected 1024", desk, []), number


def test_a_piece_without_its_content_is_refused(desk: Desk) -> None:
    def bare(piece: common_pb2.Piece) -> list[common_pb2.Piece]:
        piece.ClearField("content")
        return [piece]

    desk.daemon.play = Play(content=CONTENT, piece_length=100, edits=bare)
    assert failed(desk.run(TRANSFER), 6, "piece 0 has 0 bytes, expected 100", desk, [])


@pytest.mark.parametrize("offset", [1000, 1 << 62])
def test_a_piece_outside_the_file_is_not_written(desk: Desk, offset: int) -> None:
    def move(piece: common_pb2.Piece) -> list[common_pb2.Piece]:
        piece.offset = offset
        return [piece]

    desk.daemon.play = Play(content=CONTENT, piece_length=100, edits=move)
    assert failed(desk.run(TRANSFER), 6, f"has {offset + 100} bytes, expected 1024", desk, [])


@pytest.mark.parametrize("length", [1 << 62, (1 << 64) - 1])
def test_a_length_no_disk_has_is_told_before_the_first_piece(desk: Desk, length: int) -> None:
    """Attack 43."""
    desk.daemon.play = Play(content=CONTENT, content_length=length)
    assert failed(desk.run(TRANSFER), 7, "the output cannot be written", desk, [])


@pytest.mark.parametrize("digest", [SHA256, SHA512, f"crc32:{zlib.crc32(CONTENT)}"], ids=["sha256", "sha512", "crc32"])
def test_a_digest_is_verified_by_dfget_itself(desk: Desk, digest: str) -> None:
    assert desk.run(TRANSFER, "--digest", digest).status == 0
    desk.daemon.play = Play(content=CONTENT[::-1], piece_length=100)
    ended = desk.run(TRANSFER, "--digest", digest, "--overwrite")
    assert (ended.status, desk.output.read_bytes()) == (6, CONTENT)
    assert f"expected {digest}" in ended.err


def test_the_timeout_holds_when_a_daemon_stops_sending(desk: Desk) -> None:
    desk.daemon.play = Play(content=CONTENT, tells_pieces=False, hangs=True)
    assert failed(desk.run(TRANSFER, "--timeout", "500ms"), 8, "not done within 0.5 s", desk, [])


# --- a range

RANGES = {
    "0-99": (0, 100),
    "100-": (100, 1024),
    "-50": (974, 1024),
    "bytes=150-349": (150, 350),
    "1000-5000": (1000, 1024),
    "0-": (0, 1024),
    "0-1023": (0, 1024),
    "-1024": (0, 1024),
    "-99999999": (0, 1024),
    "0-9223372036854775807": (0, 1024),
    "0-18446744073709551616": (0, 1024),
    "-18446744073709551616": (0, 1024),
    f"00000000000000000000010-{'9' * 5000}": (10, 1024),
}


@pytest.mark.parametrize("transfer", [[], [TRANSFER]], ids=["direct", "transfer"])
@pytest.mark.parametrize(("text", "place"), RANGES.items(), ids=[text[:40] for text in RANGES])
def test_a_range_becomes_the_output(desk: Desk, text: str, place: tuple[int, int], transfer: list[str]) -> None:
    """Attack 33: also where the range is all there is, or its end beyond any file."""
    start, end = place
    ended = desk.run("--range", text, "--json", *transfer)
    assert (ended.status, desk.output.read_bytes()) == (0, CONTENT[start:end])
    assert ended.result["content_length"] == end - start


def test_a_range_with_both_ends_is_a_field_and_any_other_a_header(desk: Desk) -> None:
    desk.run("--range", "100-199", "--prefetch")
    assert (desk.asked.range.start, desk.asked.range.length, desk.asked.prefetch) == (100, 100, True)
    assert dict(desk.asked.request_header) == {}
    desk.run("--range", "-50", "--overwrite")
    assert not desk.asked.HasField("range")
    assert dict(desk.asked.request_header) == {"Range": "bytes=-50"}


def test_a_range_header_is_a_range(desk: Desk) -> None:
    assert desk.run("-H", "Range: bytes=10-19").status == 0
    assert desk.output.read_bytes() == CONTENT[10:20]
    assert (desk.asked.range.start, desk.asked.range.length) == (10, 10)


def test_a_range_that_nobody_asked_for_is_no_output(desk: Desk) -> None:
    desk.daemon.play = Play(content=CONTENT, told_range=ByteRange(0, 100))
    assert failed(desk.run(), 1, "a range that nobody asked for", desk, [])
    desk.daemon.play = Play(content=CONTENT, told_range=ByteRange(0, 1024))
    assert desk.run().status == 0


def test_a_daemon_that_takes_no_notice_of_a_range_gives_no_output(desk: Desk) -> None:
    desk.daemon.play = Play(content=CONTENT, takes_notice_of_range=False)
    assert failed(desk.run("--range", "0-99"), 1, "the daemon took no notice of --range", desk, [])


@pytest.mark.parametrize("text", ["0-99", "100-", "-50", "200-299"])
def test_a_daemon_that_sends_another_range_gives_no_output(desk: Desk, text: str) -> None:
    desk.daemon.play = Play(content=CONTENT, told_range=ByteRange(150, 100))
    assert failed(desk.run("--range", text), 1, "another range than --range: 100 bytes from 150 on", desk, [])


def test_the_whole_pieces_inside_a_range_are_checked(desk: Desk) -> None:
    def spoil(piece: common_pb2.Piece) -> list[common_pb2.Piece]:
        if piece.number == 2:
            piece.content = b"x" * len(piece.content)
        return [piece]

    desk.daemon.play = Play(content=CONTENT, piece_length=100, edits=spoil)
    assert failed(desk.run("--range", "150-449", TRANSFER), 6, "piece 2 has the digest", desk, [])


def test_a_draft_with_more_than_the_range_is_wrong(desk: Desk) -> None:
    desk.daemon.play = Play(content=CONTENT, fills=lambda path, _: path.write_bytes(CONTENT))
    assert failed(desk.run("--range", "0-99"), 6, "the output has 1024 bytes, expected 100", desk, [])


# --- a length that is not known yet


@pytest.mark.parametrize("more", [[], [TRANSFER], [TRANSFER, "--digest", SHA256]], ids=["direct", "transfer", "digest"])
def test_a_length_may_become_known_at_the_end(desk: Desk, more: list[str]) -> None:
    desk.daemon.play = Play(content=CONTENT, piece_length=100, is_open=True)
    ended = desk.run("--json", *more)
    assert (ended.status, desk.output.read_bytes()) == (0, CONTENT)
    assert ended.result["content_length"] == 1024


def test_an_open_download_with_a_missing_piece_fails(desk: Desk) -> None:
    play = Play(content=CONTENT, piece_length=100, is_open=True, edits=lambda piece: [piece] if piece.number else [])
    desk.daemon.play = play
    assert failed(desk.run(TRANSFER), 6, "has 0 bytes, expected 1024", desk, [])


def test_an_open_range_starts_at_its_start(desk: Desk) -> None:
    desk.daemon.play = Play(content=CONTENT, piece_length=100, is_open=True)
    assert desk.run("--range", "250-", TRANSFER).status == 0
    assert desk.output.read_bytes() == CONTENT[250:]


# --- what does not go together

CONFLICTS = {
    "prefetch alone": (["--prefetch"], "--prefetch is for --range"),
    "digest of a range": (["--range", "0-1", "--digest", SHA256], "--digest is of the whole file"),
    "two ranges": (["--range", "0-1", "-H", "range: bytes=0-1"], "cannot be given together"),
    "several ranges in a header": (["-H", "Range: bytes=0-1,3-4"], "--header: Range: the range 'bytes=0-1,3-4' cannot"),
    "link of a range": (["--range", "0-1", "--force-hard-link"], "--force-hard-link cannot be had with --range"),
    "link of sent bytes": ([TRANSFER, "--force-hard-link"], f"--force-hard-link cannot be had with {TRANSFER}"),
    "no range": (["--range", "x"], "--range: the range 'x' cannot be satisfied: want START-END"),
    "an empty range": (["--range", "-0"], "it holds no byte"),
    "a range backwards": (["--range", "9-1"], "it ends before it starts"),
    "a start beyond any file": (["--range", "18446744073709551616-"], "no file is so long"),
    "a range beyond any file": (["--range", f"9223372036854775807-{2**64}"], "no file is so long"),
    "several ranges": (["--range", "0-1,3-4"], "want START-END"),
    "glob without directory": (["-I", "*.txt"], "--include-files is for directories: add --recursive"),
    "md5": ([TRANSFER, "--digest", f"md5:{'a' * 32}"], "md5"),
    "no certificate": (["--certificate", "/dev/null"], "--certificate: /dev/null holds no certificate in PEM form"),
    "missing certificate": (["--certificate", "/missing"], "/missing cannot be read: No such file or directory"),
    "no files": (["--max-files", "0"], "--max-files: '0' is not a number from 1 to"),
}


@pytest.mark.parametrize(("arguments", "sentence"), CONFLICTS.values(), ids=CONFLICTS.keys())
def test_what_makes_no_sense_is_told_before_anything_is_asked(desk: Desk, arguments: list[str], sentence: str) -> None:
    assert failed(desk.run(*arguments), 2, sentence, desk, [])
    assert desk.daemon.downloads == []
