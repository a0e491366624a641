import math

import pytest

from dragonfly.core.model.units import GiB, KiB, MiB, format_size, parse_duration, parse_size
from dragonfly.errors import InvalidQuantity


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("1024", 1024),
        ("1b", 1),
        ("4MiB", 4 * MiB),
        ("4 mib", 4 * MiB),
        ("4Mi", 4 * MiB),
        ("4MB", 4_000_000),
        ("4m", 4_000_000),
        ("1.5GiB", 3 * GiB // 2),
        ("0.5 KiB", 512),
        ("2TiB", 2048 * GiB),
        ("1PB", 10**15),
        (" 10GB ", 10**10),
    ],
)
def test_size_is_read_with_its_unit(text, expected):
    assert parse_size(text) == expected


@pytest.mark.parametrize(
    "text", ["", "MiB", "-1", "4 MiB 2", "4XB", "1e3", "0x10", "1,5GiB", "٣MiB", "9" * 5000, "inf"]
)
def test_text_that_is_no_size_is_refused(text):
    with pytest.raises(InvalidQuantity):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("500ms", 0.5),
        ("2h", 7200),
        ("1h 5m", 3900),
        ("1h5m3s", 3903),
        ("1.5m", 90),
        ("168h", 604800),
        ("7d", 604800),
        ("1w", 604800),
        ("1M", 2630016),
        ("1y", 31557600),
        ("10µs", 1e-5),
        ("10us", 1e-5),
        ("3 minutes", 180),
        ("0s", 0),
    ],
)
def test_duration_is_read_with_its_unit(text, seconds):
    assert math.isclose(parse_duration(text), seconds)


@pytest.mark.parametrize("text", ["", "30", "s", "-1s", "1h foo", "1h,5m", "3x", "10S", "٣s", "9" * 400 + "s"])
def test_text_that_is_no_duration_is_refused(text):
    with pytest.raises(InvalidQuantity):
        parse_duration(text)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (KiB, "1.0 KiB"), (3 * GiB // 2, "1.5 GiB"), (2048 * GiB, "2.0 TiB")],
)
def test_size_is_written_for_people(count, text):
    assert format_size(count) == text
