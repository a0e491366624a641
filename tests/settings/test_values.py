"""Single values: addresses and units."""

import pytest

from dragonfly.settings.reference import written_duration, written_size
from dragonfly.settings.values import remote_address, split_address


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
    ("text", "address"),
    [
        ("manager:65003", "manager:65003"),
        ("http://manager:65003", "manager:65003"),
        ("http://manager:65003/", "manager:65003"),
        (
            "manager-service.dragonfly_system.svc.cluster.local.:1",
            "manager-service.dragonfly_system.svc.cluster.local.:1",
        ),
        ("127.0.0.1:65535", "127.0.0.1:65535"),
        ("[::1]:8002", "[::1]:8002"),
        ("http://[fe80::1%eth0]:8002", "[fe80::1%eth0]:8002"),
        ("4manager:1", "4manager:1"),
    ],
)
def test_address_of_a_server_is_its_host_and_port(text: str, address: str) -> None:
    assert remote_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "", "not an addr", "127.0.0.1", "manager", "127.0.0.1:99999", "127.0.0.1:0", "127.0.0.1:x", ":8002", "http://",
        "http://:8002", "http:///manager:1", "ftp://manager:1", "grpc://manager:1", "http://http://manager:1",
        "manager:1/path", "/manager:1", "user@manager:1", "256.0.0.1:1", "1.2.3:1", "::1:80", "[127.0.0.1]:80",
        "[manager]:80", "-manager:1", "manager-.local:1", "a..b:1", ".:1", "mänager:1", f"{'a' * 64}:1",
    ],
)  # fmt: skip
def test_other_texts_are_no_address_of_a_server(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whoever says it
        remote_address(text)


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
