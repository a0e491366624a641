import random
import socket

import pytest

from dragonfly.core.model.units import Seconds
from dragonfly.errors import (
    SourceError,
    SourceForbidden,
    SourceNameUnknown,
    SourceNotFound,
    SourceRefused,
    SourceUnavailable,
    SourceUnreachable,
)
from dragonfly.source.http import HttpSource
from dragonfly.testing.origin import Origin
from dragonfly.testing.origin_answer import Fault
from dragonfly.testing.source_reader import Reader

BODY = bytes(range(256)) * 4096  # 1 MiB: several buffers long


def by_get(url: str) -> str:
    """The same with a query, so that no HEAD goes first."""
    return f"{url}?v=1"


def test_a_file_is_described_by_one_get_of_its_first_byte(origin: Origin, reader: Reader) -> None:
    reader.stat(by_get(origin.put("/file", BODY)))
    [request] = origin.requests()
    assert request.method == "GET"
    assert request.headers["range"] == "bytes=0-0"
    assert origin.counters().body_bytes["/file"] == 1


def test_the_headers_look_as_if_the_whole_file_had_been_asked_for(origin: Origin, reader: Reader) -> None:
    origin.fail("/file", Fault(headers={"X-Kept": "yes", "Set-Cookie": "session=secret", "Connection": "keep-alive"}))
    stat = reader.stat(origin.put("/file", BODY))
    assert stat.headers["Content-Length"] == str(len(BODY))
    assert stat.headers["X-Kept"] == "yes"
    assert not {"Content-Range", "Set-Cookie", "Connection"} & set(stat.headers)


def test_an_origin_that_ignores_ranges_is_not_read_to_describe_it(
    origin: Origin, reader: Reader, source: HttpSource
) -> None:
    origin.fail("/file", Fault(ignore_range=True))
    stat = reader.stat(by_get(origin.put("/file", BODY)))
    assert stat.content_length == len(BODY)
    assert not stat.supports_ranges
    assert source.pool.kept_count == 0


def test_an_empty_file_has_length_zero(origin: Origin, reader: Reader) -> None:
    stat = reader.stat(origin.put("/empty", b""))
    assert stat.content_length == 0
    assert stat.headers["Content-Length"] == "0"


def test_an_empty_file_of_an_origin_without_ranges_has_length_zero(origin: Origin, reader: Reader) -> None:
    origin.fail("/empty", Fault(ignore_range=True))
    assert reader.stat(origin.put("/empty", b"")).content_length == 0


def test_a_416_that_does_not_tell_the_length_is_asked_again_without_a_range(origin: Origin, reader: Reader) -> None:
    origin.fail("/file", Fault(status=416, times=1))
    stat = reader.stat(by_get(origin.put("/file", BODY)))
    assert stat.content_length == len(BODY)
    assert not stat.supports_ranges
    assert "range" not in origin.requests()[-1].headers


def test_a_chunked_part_that_names_the_total_is_enough(origin: Origin, reader: Reader) -> None:
    origin.fail("/file", Fault(no_length=True))
    assert reader.stat(origin.put("/file", BODY)).content_length == len(BODY)


@pytest.mark.parametrize(
    "content_range",
    [
        "bytes 1-1/9",
        "bytes 0-8/9",
        "bytes 0-0",
        "bytes 5-0/9",
        "0-0/9",
        "bytes 0-0/-9",
        "bytes 0-0/" + "9" * 5000,
        None,
    ],
)
def test_attack_33_a_content_range_that_makes_no_sense_is_an_error(
    origin: Origin, reader: Reader, content_range: str | None
) -> None:
    origin.fail("/file", Fault(headers={"Content-Range": content_range}))
    with pytest.raises(SourceError):
        reader.stat(by_get(origin.put("/file", BODY)))


@pytest.mark.parametrize("length", ["-1", "1e3", "0x10", "5, 6", "9" * 40, ""])
def test_attack_33_a_content_length_that_makes_no_sense_is_an_error(
    origin: Origin, reader: Reader, length: str
) -> None:
    origin.fail("/file", Fault(ignore_range=True, headers={"Content-Length": length}))
    with pytest.raises(SourceError):
        reader.stat(origin.put("/file", BODY))


def test_attack_33_a_stored_gzip_file_keeps_its_encoded_length(origin: Origin, reader: Reader) -> None:
    origin.fail("/file.gz", Fault(headers={"Content-Encoding": "gzip"}))
    stat = reader.stat(origin.put("/file.gz", BODY))
    assert stat.content_length == len(BODY)
    assert stat.headers["Content-Encoding"] == "gzip"
    assert origin.requests()[0].headers["accept-encoding"] == "identity"
    assert reader.read(origin.url("/file.gz"), 0, len(BODY)) == BODY


@pytest.mark.parametrize(
    ("status", "error", "tries"),
    [
        (404, SourceNotFound, 1),
        (410, SourceNotFound, 1),
        (401, SourceForbidden, 1),
        (403, SourceForbidden, 1),
        (400, SourceRefused, 1),
        (451, SourceRefused, 1),
        (304, SourceRefused, 1),
        (204, SourceRefused, 1),
        (408, SourceUnavailable, 3),
        (429, SourceUnavailable, 3),
        (500, SourceUnavailable, 3),
        (503, SourceUnavailable, 3),
    ],
)
def test_a_status_becomes_the_error_that_says_so(
    origin: Origin, reader: Reader, status: int, error: type[SourceError], tries: int
) -> None:
    origin.fail("/file", Fault(status=status))
    with pytest.raises(error) as caught:
        reader.stat(by_get(origin.url("/file")))
    assert type(caught.value) is error
    assert caught.value.facts == {"url": by_get(origin.url("/file")), "status": status}
    assert len(origin.requests()) == tries


def test_an_origin_that_recovers_is_not_an_error(origin: Origin, reader: Reader) -> None:
    origin.fail("/file", Fault(status=503, times=2))
    assert reader.stat(origin.put("/file", BODY)).content_length == len(BODY)
    assert reader.waits == [0.2, 1.0]


@pytest.mark.parametrize(("max_retries", "expected"), [(0, []), (1, [0.2]), (5, [0.2, 1.0, 5.0, 10.0, 10.0])])
def test_what_fails_is_asked_for_as_often_as_the_settings_say(
    origin: Origin, waits: list[Seconds], even_chance: random.Random, max_retries: int, expected: list[Seconds]
) -> None:
    source = HttpSource(sleep=waits.append, rng=even_chance, max_retries=max_retries)
    origin.fail("/file", Fault(status=503))
    with pytest.raises(SourceUnavailable):
        Reader(source).stat(origin.url("/file"))
    source.close()
    assert waits == pytest.approx(expected)


def test_nobody_listening_is_unreachable_after_every_try(reader: Reader) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(SourceUnreachable, match="refused"):
        reader.stat(f"http://127.0.0.1:{port}/file")
    assert reader.waits == [0.2, 1.0]


def test_silence_is_unreachable(origin: Origin, reader: Reader) -> None:
    origin.fail("/file", Fault(first_byte_after=5.0))
    with pytest.raises(SourceUnreachable, match=r"within 0\.05 s"):
        reader.stat(origin.url("/file"), timeout=0.05)


def test_a_slow_first_byte_within_the_timeout_is_waited_for(origin: Origin, reader: Reader) -> None:
    origin.fail("/file", Fault(first_byte_after=0.05))
    assert reader.stat(origin.put("/file", BODY)).content_length == len(BODY)


def test_a_name_that_no_resolver_knows_a_form_for_is_unknown(reader: Reader) -> None:
    for host in ("a..b", "a" * 70):
        with pytest.raises(SourceNameUnknown):
            reader.stat(f"http://{host}/file")


def test_an_unknown_name_is_named(reader: Reader) -> None:
    with pytest.raises(SourceNameUnknown, match=r"no-such-host\.invalid"):
        reader.stat("http://no-such-host.invalid/file")


def test_what_is_not_http_is_an_error_of_the_origin(reader: Reader, origin: Origin) -> None:
    origin.fail("/file", Fault(headers={"X": "v" * 70_000}))
    with pytest.raises(SourceError, match="does not speak HTTP"):
        reader.stat(origin.put("/file", BODY))
