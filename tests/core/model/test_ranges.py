import pytest

from dragonfly.core.model.ranges import ByteRange, parse_range_header
from dragonfly.errors import InvalidRange


@pytest.mark.parametrize(
    ("text", "start", "length"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-99", 0, 100),
        ("bytes=10-19", 10, 10),
        ("bytes=10-", 10, 90),
        ("bytes=99-", 99, 1),
        ("bytes=-1", 99, 1),
        ("bytes=-100", 0, 100),
        ("bytes=-500", 0, 100),
        ("bytes=90-1000", 90, 10),
        ("bytes=0-18446744073709551615", 0, 100),
        ("bytes=0-99999999999999999999", 0, 100),
        ("Bytes = 10 - 19", 10, 10),
    ],
)
def test_range_is_clamped_to_a_content_of_100_bytes(text, start, length):
    """Attack 33."""
    assert parse_range_header(text, 100) == ByteRange(start, length)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=-0",
        "bytes=100-",
        "bytes=100-200",
        "bytes=20-10",
        "bytes=0-1,5-6",
        "bytes=0-1,",
        "bytes=1 2-15",
        "by tes=1-2",
        "bytes=a-b",
        "bytes=+1-2",
        "bytes=--1",
        "bytes=0x1-2",
        "bytes=٣-٤",
        "bytes=" + "9" * 21 + "-",
        "bytes=-" + "9" * 5000,
        "items=0-1",
    ],
)
def test_range_that_cannot_be_had_is_refused(text):
    """Attack 33: several ranges, `bytes=-0`, numbers beyond 64 bits."""
    with pytest.raises(InvalidRange):
        parse_range_header(text, 100)


@pytest.mark.parametrize("text", ["bytes=0-", "bytes=0-0", "bytes=-1"])
def test_empty_content_has_no_range(text):
    """Attack 33."""
    with pytest.raises(InvalidRange):
        parse_range_header(text, 0)


@pytest.mark.parametrize(("start", "length"), [(-1, 1), (0, 0), (5, -1)])
def test_range_holds_at_least_one_byte(start, length):
    with pytest.raises(InvalidRange):
        ByteRange(start, length)


def test_ranges_overlap_where_they_share_a_byte():
    middle = ByteRange(10, 10)
    assert middle.overlaps(ByteRange(19, 1))
    assert middle.overlaps(ByteRange(0, 11))
    assert middle.overlaps(ByteRange(12, 2))
    assert not middle.overlaps(ByteRange(20, 5))
    assert not middle.overlaps(ByteRange(0, 10))
