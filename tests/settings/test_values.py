"""Single values: addresses and units."""

import pytest

from dragonfly.settings.reference import written_duration, written_size
from dragonfly.settings.values import split_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (":8080", ("0.0.0.0", 8080)),
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("host.example:65535", ("host.example", 65535)),
        ("[::1]:80", ("::1", 80)),
    ],
)
def test_addresses_are_split(text: str, address: tuple[str, int]) -> None:
    assert split_address(text) == address


@pytest.mark.parametrize("text", ["", "8080", "a", "a:", "a:b", "a:65536", "::1:80", "[]:80", "a b:1", ":-1", "a:1:2"])
def test_other_texts_are_no_addresses(text: str) -> None:
    with pytest.raises(ValueError, match="not an address"):
        split_address(text)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (0.5, "500ms"), (3900, "1h 5m"), (86_400 * 30, "30d"), (90.25, "1m 30s 250ms")]
)
def test_durations_are_written_as_a_file_says_them(seconds: float, text: str) -> None:
    assert written_duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0"), (4 << 20, "4MiB"), (50 * 10**9, "50GB"), (1 << 30, "1GiB"), (1025, "1025")]
)
def test_sizes_are_written_as_a_file_says_them(count: int, text: str) -> None:
    assert written_size(count) == text
