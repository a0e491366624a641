"""Headers of origins that may say anything: every reading of them is a fact, an unknown or an error of ours."""

from contextlib import suppress
from email.message import Message

from hypothesis import given
from hypothesis import strategies as st

from dragonfly.core.model.ranges import ByteRange
from dragonfly.errors import InvalidUrl, SourceError
from dragonfly.source.http_address import has_secrets, parse_http_url, shown
from dragonfly.source.http_answer import (
    check_body,
    content_length,
    content_range,
    stat_of_empty,
    stat_of_head,
    stat_of_part,
    stat_of_whole,
    still_known,
    unsatisfied_length,
)
from dragonfly.source.http_reading import WholeReading
from dragonfly.source.http_request import prepared
from dragonfly.source.protocol import SourceRequest, SourceStat

URL = "http://host/file"
# What http.client lets through: any character of Latin-1 that does not end a line.
VALUES = st.one_of(
    st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=40),
    st.from_regex(r"bytes [0-9]{1,22}-[0-9]{1,22}/([0-9]{1,22}|\*)", fullmatch=True),
    st.from_regex(r"bytes \*/[0-9]{1,22}", fullmatch=True),
    st.from_regex(r"[0-9]{1,25}", fullmatch=True),
    st.sampled_from(["chunked", "gzip", "bytes 0-0/9", "bytes 0-0/*", '"tag"', 'W/"tag"', "9", "0"]),
)
NAMES = ("Content-Length", "Content-Range", "Transfer-Encoding", "Content-Encoding", "ETag", "Last-Modified", "X")
HEADERS = st.lists(st.tuples(st.sampled_from(NAMES), VALUES), max_size=6)
STATS = st.builds(
    SourceStat,
    content_length=st.one_of(st.none(), st.integers(0, 100)),
    etag=st.sampled_from(["", '"tag"', 'W/"tag"']),
    supports_ranges=st.booleans(),
)


def message(headers: list[tuple[str, str]]) -> Message:
    made = Message()
    for name, value in headers:
        made[name] = value
    return made


@given(HEADERS)
def test_a_length_is_a_number_of_bytes_or_unknown(headers: list[tuple[str, str]]) -> None:
    with suppress(SourceError):
        length = content_length(message(headers), URL)
        assert length is None or 0 <= length < 1 << 63
    part = content_range(message(headers))
    assert part is None or (part.start >= 0 and part.length >= 1)
    end = unsatisfied_length(message(headers))
    assert end is None or 0 <= end < 1 << 63


@given(HEADERS)
def test_any_headers_describe_a_file_or_are_an_error_of_the_origin(headers: list[tuple[str, str]]) -> None:
    """Attack 43."""
    for described in (lambda: stat_of_part(message(headers), URL), lambda: stat_of_whole(message(headers), URL)):
        with suppress(SourceError):
            stat = described()
            assert stat.content_length is None or stat.content_length >= 0
            assert ("Content-Length" in stat.headers) is (stat.content_length is not None)
            assert "Content-Range" not in stat.headers
            assert "Transfer-Encoding" not in stat.headers
    head = stat_of_head(message(headers))
    assert head is None or (head.content_length is not None and head.content_length > 0)
    empty = stat_of_empty(message(headers))
    assert empty is None or empty.content_length == 0


@given(HEADERS, STATS)
def test_a_304_confirms_or_is_an_error_of_the_origin(headers: list[tuple[str, str]], known: SourceStat) -> None:
    with suppress(SourceError):
        assert still_known(known, message(headers), URL).version == known.version


@given(HEADERS, STATS, st.sampled_from([200, 203, 206, 304, 416, 500]))
def test_a_body_is_taken_or_is_an_error_of_the_origin(
    headers: list[tuple[str, str]], stat: SourceStat, status: int
) -> None:
    """Attack 43."""
    with suppress(SourceError):
        check_body(status, message(headers), stat, ByteRange(0, 1), URL)
        assert status in (200, 206)


@given(HEADERS, st.integers(0, 20), st.sampled_from([200, 206, 304, 416, 500]))
def test_a_rest_of_unknown_length_begins_where_the_last_ended(
    headers: list[tuple[str, str]], reached: int, status: int
) -> None:
    reading = WholeReading(prepared(SourceRequest(url=URL)), SourceStat(content_length=None), lambda _: None)
    reading.deliver(memoryview(bytes(reached)))
    with suppress(SourceError):
        length = reading.judge(status, message(headers))
        assert status == 200 if reached == 0 else status in (206, 416)
        assert length is None or length >= 0
        if status == 206:
            part = content_range(message(headers))
            assert part is not None
            assert (part.start, part.length) == (reached, length)


@given(st.text())
def test_text_without_secrets_is_shown_as_it_is(text: str) -> None:
    assert has_secrets(text) or shown(text) == text
    assert shown(shown(text)) == shown(text)


@given(st.text(st.characters(exclude_characters="&#", exclude_categories=["Cs"]), min_size=1))
def test_a_secret_is_never_shown(secret: str) -> None:
    url = f"http://host/?part=2&X-Amz-Signature={secret}&last=1"
    assert has_secrets(url)
    assert shown(url) == "http://host/?part=2&X-Amz-Signature=***&last=1"


@given(st.one_of(st.text(), st.text().map("http://host/".__add__), st.text().map("https://".__add__)))
def test_any_text_is_a_url_or_not(text: str) -> None:
    """Attack 43."""
    with suppress(InvalidUrl):
        address = parse_http_url(text)
        assert address.target.isascii()
        assert address.target.startswith(address.directory)
