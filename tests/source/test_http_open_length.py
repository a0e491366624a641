"""Files whose length the origin does not tell."""

from collections.abc import Iterator

import pytest

from dragonfly.core.model.ranges import ByteRange
from dragonfly.errors import (
    SourceChanged,
    SourceError,
    SourceLengthUnknown,
    SourceRangeUnsupported,
    SourceTruncated,
    SourceUnavailable,
    SourceUnreachable,
)
from dragonfly.source.http import HttpSource
from dragonfly.source.protocol import SourceRequest, SourceStat
from dragonfly.testing.origin import Origin
from dragonfly.testing.origin_answer import Fault
from dragonfly.testing.source_reader import Reader
from dragonfly.testing.tls import Authority

BODY = bytes(range(256)) * 4096  # 1 MiB: several buffers long
CHUNKED = Fault(ignore_range=True, no_length=True)
UNTIL_CLOSE = Fault(ignore_range=True, until_close=True)
NO_TOTAL = Fault(unknown_total=True, no_length=True)


@pytest.fixture
def url(origin: Origin) -> str:
    """One with a query, so that no HEAD goes first."""
    return origin.put("/file", BODY) + "?v=1"


@pytest.fixture
def secure(authority: Authority) -> Iterator[tuple[Origin, Reader]]:
    """An origin behind TLS, and what reads from it."""
    with Origin(tls=authority.server_context("127.0.0.1")) as origin:
        origin.put("/file", BODY)
        source = HttpSource(sleep=lambda _: None)
        yield origin, Reader(source)
        source.close()


def insecurely(source: HttpSource, url: str) -> bytes:
    request, received = SourceRequest(url=url, insecure_skip_verify=True), bytearray()
    stat = source.stat(request, timeout=10)
    source.read(request, stat, None, received.extend, timeout=10)
    return bytes(received)


@pytest.mark.parametrize(
    ("fault", "supports_ranges", "requests"),
    [(CHUNKED, False, 1), (UNTIL_CLOSE, False, 1), (NO_TOTAL, True, 2)],
    ids=["chunked", "until the connection closes", "parts of an unknown whole"],
)
def test_attack_33_a_length_that_is_not_told_is_not_made_up(
    origin: Origin, reader: Reader, url: str, fault: Fault, supports_ranges: bool, requests: int
) -> None:
    origin.fail("/file", fault)
    stat = reader.stat(url)
    assert stat.content_length is None
    assert "Content-Length" not in stat.headers
    assert stat.etag
    assert stat.supports_ranges is supports_ranges
    assert len(origin.requests()) == requests
    assert reader.read_whole(url, stat=stat) == BODY


def test_a_length_that_parts_do_not_tell_is_asked_of_the_whole(origin: Origin, reader: Reader, url: str) -> None:
    origin.fail("/file", Fault(unknown_total=True))
    stat = reader.stat(url)
    assert stat.content_length == len(BODY)
    assert stat.headers["Content-Length"] == str(len(BODY))
    assert stat.supports_ranges


def test_the_whole_and_its_part_must_be_of_one_version(origin: Origin, reader: Reader, url: str) -> None:
    origin.fail("/file", Fault(unknown_total=True, changes_after=1, becomes=BODY[::-1]))
    with pytest.raises(SourceChanged):
        reader.stat(url)


def test_a_whole_that_cannot_be_had_leaves_the_length_unknown(origin: Origin, reader: Reader, url: str) -> None:
    origin.fail("/file", Fault(unknown_total=True, times=1, then=Fault(status=403)))
    stat = reader.stat(url)
    assert stat.content_length is None
    assert stat.supports_ranges


def test_a_known_length_is_read_whole_without_being_named(origin: Origin, reader: Reader, url: str) -> None:
    assert reader.read_whole(url) == BODY
    stat = reader.stat(url)
    origin.fail("/file", Fault(close_after=300_000, times=2))
    assert reader.read_whole(url, stat=stat) == BODY
    assert [request.headers.get("range") for request in origin.requests()[-2:]] == [
        f"bytes=300000-{len(BODY) - 1}",
        f"bytes=600000-{len(BODY) - 1}",
    ]


@pytest.mark.parametrize("fault", [Fault(), CHUNKED, UNTIL_CLOSE], ids=["known", "chunked", "until close"])
def test_an_empty_file_is_read_whole(origin: Origin, reader: Reader, fault: Fault) -> None:
    url = origin.put("/empty", b"")
    origin.fail("/empty", fault)
    assert reader.read_whole(url) == b""


@pytest.mark.parametrize("span", [ByteRange(0, 10), ByteRange(5, 10)], ids=str)
def test_no_span_of_an_unknown_length_can_be_had(origin: Origin, reader: Reader, url: str, span: ByteRange) -> None:
    origin.fail("/file", CHUNKED)
    stat = reader.stat(url)
    asked = len(origin.requests())
    with pytest.raises(SourceLengthUnknown, match="no part of it can be asked for"):
        reader.read(url, span.start, span.length, stat=stat)
    assert len(origin.requests()) == asked


@pytest.mark.parametrize("close_after", [300_000, len(BODY)], ids=["midway", "before the last chunk"])
def test_chunks_without_their_end_are_no_shorter_file(
    origin: Origin, reader: Reader, url: str, close_after: int
) -> None:
    """Attack 33."""
    origin.fail("/file", CHUNKED)
    stat = reader.stat(url)
    origin.fail("/file", Fault(ignore_range=True, no_length=True, close_after=close_after))
    with pytest.raises(SourceTruncated, match="unknown number") as caught:
        reader.read_whole(url, stat=stat)
    assert reader.received == BODY[:close_after]
    assert caught.value.facts["received"] == close_after


def test_a_connection_after_the_last_chunk_is_used_again(origin: Origin, reader: Reader, url: str) -> None:
    stat = reader.stat(url)
    origin.fail("/file", CHUNKED)
    open_stat = SourceStat(content_length=None, etag=stat.etag, supports_ranges=False)
    assert reader.read_whole(url, stat=open_stat) == BODY
    assert reader.read_whole(url, stat=open_stat) == BODY
    assert origin.counters().connections == 1


def test_a_reset_is_not_the_end_of_a_file(origin: Origin, reader: Reader, url: str) -> None:
    origin.fail("/file", UNTIL_CLOSE)
    stat = reader.stat(url)
    origin.fail("/file", Fault(ignore_range=True, until_close=True, close_after=300_000, reset=True))
    with pytest.raises((SourceTruncated, SourceUnreachable)):
        reader.read_whole(url, stat=stat)


def test_silence_is_not_the_end_of_a_file(origin: Origin, reader: Reader, url: str) -> None:
    origin.fail("/file", UNTIL_CLOSE)
    stat = reader.stat(url)
    origin.fail("/file", Fault(ignore_range=True, until_close=True, silent_after=300_000))
    with pytest.raises(SourceUnreachable, match="silent"):
        reader.read_whole(url, stat=stat, timeout=0.2)


def test_with_tls_only_a_goodbye_is_the_end_of_a_file(secure: tuple[Origin, Reader]) -> None:
    origin, reader = secure
    assert isinstance(reader.source, HttpSource)
    origin.fail("/file", UNTIL_CLOSE)
    assert insecurely(reader.source, origin.url("/file")) == BODY
    origin.fail("/file", Fault(ignore_range=True, until_close=True, close_after=300_000))
    with pytest.raises(SourceTruncated):
        insecurely(reader.source, origin.url("/file"))


def test_what_broke_off_is_resumed_where_the_origin_knows_ranges(origin: Origin, reader: Reader, url: str) -> None:
    origin.fail("/file", NO_TOTAL)
    stat = reader.stat(url)
    origin.fail("/file", Fault(unknown_total=True, no_length=True, close_after=300_000))
    assert reader.read_whole(url, stat=stat) == BODY
    asked = [request.headers.get("range") for request in origin.requests()[2:]]
    assert asked == [None, *(f"bytes={reached}-" for reached in (300_000, 600_000, 900_000)), f"bytes={len(BODY)}-"]
    assert reader.waits == []


def test_a_file_that_lacks_only_its_end_is_complete_once_the_origin_says_so(
    origin: Origin, reader: Reader, url: str
) -> None:
    origin.fail("/file", NO_TOTAL)
    stat = reader.stat(url)
    origin.fail("/file", Fault(unknown_total=True, no_length=True, close_after=len(BODY), times=1))
    assert reader.read_whole(url, stat=stat) == BODY
    assert origin.requests()[-1].headers["range"] == f"bytes={len(BODY)}-"


@pytest.mark.parametrize("content_range", [None, f"bytes */{300_001}", "bytes */2"])
def test_a_416_that_does_not_name_the_end_ends_nothing(
    origin: Origin, reader: Reader, url: str, content_range: str | None
) -> None:
    origin.fail("/file", NO_TOTAL)
    stat = reader.stat(url)
    then = Fault(status=416, headers={"Content-Range": content_range})
    origin.fail("/file", Fault(no_length=True, close_after=300_000, times=1, then=then))
    with pytest.raises((SourceTruncated, SourceChanged)):
        reader.read_whole(url, stat=stat)
    assert reader.received == BODY[:300_000]


def test_without_a_validator_nothing_is_resumed(origin: Origin, reader: Reader, url: str) -> None:
    nameless: dict[str, str | None] = {"ETag": None, "Last-Modified": None}
    origin.fail("/file", Fault(unknown_total=True, no_length=True, headers=nameless))
    stat = reader.stat(url)
    origin.fail("/file", Fault(no_length=True, headers=nameless, close_after=300_000))
    with pytest.raises(SourceTruncated):
        reader.read_whole(url, stat=stat)


def test_attack_30_a_rest_of_another_version_reaches_no_sink(origin: Origin, reader: Reader, url: str) -> None:
    origin.fail("/file", NO_TOTAL)
    stat = reader.stat(url)
    then = Fault(no_length=True, changes_after=0, becomes=BODY[::-1] + b"longer")
    origin.fail("/file", Fault(no_length=True, close_after=300_000, times=1, then=then))
    with pytest.raises(SourceChanged):
        reader.read_whole(url, stat=stat)
    assert reader.received == BODY[:300_000]


@pytest.mark.parametrize(
    ("then", "error"),
    [
        (Fault(ignore_range=True), SourceRangeUnsupported),
        (Fault(headers={"Content-Range": f"bytes 299999-{len(BODY) - 1}/{len(BODY)}"}), SourceChanged),
        (Fault(headers={"Content-Range": None}), SourceChanged),
        (Fault(headers={"Content-Length": "1"}), SourceChanged),
        (Fault(headers={"Content-Encoding": "gzip"}), SourceChanged),
        (Fault(status=503), SourceUnavailable),
    ],
    ids=["the whole again", "another part", "a part of nothing", "another length", "encoded", "out of order"],
)
def test_an_answer_that_is_not_the_rest_reaches_no_sink(
    origin: Origin, reader: Reader, url: str, then: Fault, error: type[SourceError]
) -> None:
    origin.fail("/file", NO_TOTAL)
    stat = reader.stat(url)
    origin.fail("/file", Fault(no_length=True, close_after=300_000, times=1, then=then))
    with pytest.raises(error):
        reader.read_whole(url, stat=stat)
    assert reader.received == BODY[:300_000]


def test_an_answer_may_know_the_length_after_all(origin: Origin, reader: Reader, url: str) -> None:
    origin.fail("/file", CHUNKED)
    stat = reader.stat(url)
    origin.fail("/file", None)
    assert reader.read_whole(url, stat=stat) == BODY
    origin.fail("/file", Fault(close_after=300_000))
    with pytest.raises(SourceTruncated) as caught:
        reader.read_whole(url, stat=stat)
    assert caught.value.facts["expected"] == len(BODY)


@pytest.mark.parametrize("coding", ["gzip, chunked", "identity", "gzip"])
def test_a_framing_nobody_offered_is_not_taken_for_content(
    origin: Origin, reader: Reader, url: str, coding: str
) -> None:
    origin.fail("/file", Fault(ignore_range=True, no_length=True, headers={"Transfer-Encoding": coding}))
    with pytest.raises(SourceError, match="transfer coding"):
        reader.stat(url)


def test_attack_33_gzip_sent_unasked_is_the_content_as_it_is(origin: Origin, reader: Reader, url: str) -> None:
    origin.fail("/file", Fault(gzip=True))
    stat = reader.stat(url)
    assert stat.content_length is not None
    assert stat.content_length < len(BODY) // 10
    received = reader.read_whole(url, stat=stat)
    assert received[:2] == b"\x1f\x8b"
    assert len(received) == stat.content_length
    assert reader.read(url, 10, 20, stat=stat) == received[10:30]
    origin.fail("/file", None)
    with pytest.raises(SourceChanged):
        reader.read_whole(url, stat=stat)
