import threading

import pytest

from dragonfly.core.model.ranges import ByteRange
from dragonfly.core.model.units import MiB
from dragonfly.errors import (
    SourceChanged,
    SourceNotFound,
    SourceRangeUnsupported,
    SourceTruncated,
    SourceUnavailable,
    SourceUnreachable,
)
from dragonfly.source.protocol import SourceRequest
from dragonfly.testing.origin import Origin
from dragonfly.testing.origin_answer import Fault
from dragonfly.testing.source_reader import Reader

BODY = bytes(range(256)) * 4096  # 1 MiB: several buffers long


@pytest.fixture
def url(origin: Origin) -> str:
    """One with a query, so that no HEAD goes first."""
    return origin.put("/file", BODY) + "?v=1"


def ranges(origin: Origin) -> list[str]:
    return [request.headers.get("range", "") for request in origin.requests()[1:]]


def test_a_span_is_one_request(origin: Origin, reader: Reader, url: str) -> None:
    assert reader.read(url, 10, 500_000) == BODY[10:500_010]
    assert ranges(origin) == ["bytes=10-500009"]
    assert origin.counters().connections == 1


def test_an_origin_that_closes_now_and_then_is_resumed_without_waiting(
    origin: Origin, reader: Reader, url: str
) -> None:
    stat = reader.stat(url)
    origin.fail("/file", Fault(close_after=200_000))
    assert reader.read(url, 0, len(BODY), stat=stat) == BODY
    assert ranges(origin) == [f"bytes={start}-{len(BODY) - 1}" for start in range(0, len(BODY), 200_000)]
    assert reader.waits == []
    assert origin.counters().body_bytes["/file"] == len(BODY) + 1


def test_silence_within_the_body_is_resumed(origin: Origin, reader: Reader, url: str) -> None:
    stat = reader.stat(url)
    origin.fail("/file", Fault(silent_after=300_000, times=1))
    timeout = 2.0  # of the silence, and of the answer to the next request, for which a busy machine needs time
    assert reader.read(url, 0, len(BODY), stat=stat, timeout=timeout) == BODY
    assert ranges(origin)[1:] == [f"bytes=300000-{len(BODY) - 1}"]


def test_progress_gives_new_tries(origin: Origin, reader: Reader, url: str) -> None:
    def sink(view: memoryview) -> None:
        received.extend(view)
        origin.fail("/file", Fault(status=503, times=2))

    received = bytearray()
    stat = reader.stat(url)
    origin.fail("/file", Fault(close_after=600_000, times=1))
    reader.source.read(SourceRequest(url=url), stat, ByteRange(0, 700_000), sink, timeout=10)
    assert received == BODY[:700_000]
    assert reader.waits == [0.2, 1.0]


def test_an_origin_that_breaks_before_any_byte_is_tried_three_times(origin: Origin, reader: Reader, url: str) -> None:
    stat = reader.stat(url)
    origin.fail("/file", Fault(close_after=0))
    with pytest.raises(SourceUnreachable):
        reader.read(url, 0, 100, stat=stat)
    assert reader.waits == [0.2, 1.0]


def test_a_failing_origin_is_tried_again_and_then_believed(origin: Origin, reader: Reader, url: str) -> None:
    stat = reader.stat(url)
    origin.fail("/file", Fault(status=502))
    with pytest.raises(SourceUnavailable):
        reader.read(url, 0, 100, stat=stat)
    assert reader.waits == [0.2, 1.0]


def test_a_file_removed_meanwhile_is_not_found(origin: Origin, reader: Reader, url: str) -> None:
    stat = reader.stat(url)
    origin.fail("/file", Fault(status=404))
    with pytest.raises(SourceNotFound):
        reader.read(url, 0, 100, stat=stat)


@pytest.mark.parametrize(
    "headers",
    [
        {"ETag": '"other"'},
        {"ETag": None, "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"},
        {"Content-Range": f"bytes 100-199/{len(BODY) + 1}"},
        {"Content-Range": f"bytes 101-200/{len(BODY)}"},
        {"Content-Range": f"bytes 100-198/{len(BODY)}"},
        {"Content-Range": "bytes 100-199/*"},
        {"Content-Range": None},
        {"Content-Encoding": "gzip"},
        {"Content-Length": "101"},
    ],
    ids=str,
)
def test_attack_30_an_answer_about_another_version_reaches_no_sink(
    origin: Origin, reader: Reader, url: str, headers: dict[str, str | None]
) -> None:
    stat = reader.stat(url)
    origin.fail("/file", Fault(headers=headers))
    with pytest.raises(SourceChanged):
        reader.read(url, 100, 100, stat=stat)
    assert reader.received == b""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"ETag": '"one"'}, {"ETag": '"one"', "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}),
        ({"ETag": 'W/"one"'}, {"ETag": 'W/"two"'}),
        ({"ETag": 'W/"one"', "Last-Modified": None}, {"ETag": '"one"', "Last-Modified": None}),
        ({}, {"ETag": None}),
        ({"ETag": None, "Last-Modified": None}, {}),
    ],
    ids=["same strong tag, other date", "mirrors' weak tags, same date", "weak twin", "no tag now", "no tag then"],
)
def test_answers_that_may_be_the_same_version_are_taken(
    origin: Origin, reader: Reader, url: str, before: dict[str, str | None], after: dict[str, str | None]
) -> None:
    origin.fail("/file", Fault(headers=before))
    stat = reader.stat(url)
    origin.fail("/file", Fault(headers=after))
    assert reader.read(url, 5, 100, stat=stat) == BODY[5:105]


def test_weak_tags_alone_tell_versions_apart(origin: Origin, reader: Reader, url: str) -> None:
    origin.fail("/file", Fault(headers={"ETag": 'W/"one"', "Last-Modified": None}))
    stat = reader.stat(url)
    origin.fail("/file", Fault(headers={"ETag": 'W/"two"', "Last-Modified": None}))
    with pytest.raises(SourceChanged):
        reader.read(url, 5, 100, stat=stat)


def test_attack_30_a_change_between_two_parts_of_one_read_is_noticed(origin: Origin, reader: Reader, url: str) -> None:
    stat = reader.stat(url)
    origin.fail("/file", Fault(close_after=300_000, changes_after=300_000, becomes=BODY[::-1]))
    with pytest.raises(SourceChanged):
        reader.read(url, 0, len(BODY), stat=stat)
    assert reader.received == BODY[:300_000]


def test_a_file_that_shrank_has_changed(origin: Origin, reader: Reader, url: str) -> None:
    stat = reader.stat(url)
    origin.put("/file", b"short")
    with pytest.raises(SourceChanged):
        reader.read(url, 100, 100, stat=stat)


def test_without_ranges_a_file_is_read_from_its_start(origin: Origin, reader: Reader, url: str) -> None:
    origin.fail("/file", Fault(ignore_range=True))
    assert reader.read(url, 0, len(BODY)) == BODY
    assert reader.read(url, 0, 1000) == BODY[:1000]
    assert ranges(origin)[0] == ""


def test_without_ranges_the_middle_cannot_be_had(origin: Origin, reader: Reader, url: str) -> None:
    origin.fail("/file", Fault(ignore_range=True))
    stat = reader.stat(url)
    asked = len(origin.requests())
    with pytest.raises(SourceRangeUnsupported):
        reader.read(url, 1, 100, stat=stat)
    assert len(origin.requests()) == asked


def test_an_origin_that_forgets_ranges_serves_the_start_only(origin: Origin, reader: Reader, url: str) -> None:
    stat = reader.stat(url)
    origin.fail("/file", Fault(ignore_range=True))
    assert reader.read(url, 0, 1000, stat=stat) == BODY[:1000]
    with pytest.raises(SourceRangeUnsupported):
        reader.read(url, 1000, 1000, stat=stat)


def test_without_ranges_a_file_that_broke_off_cannot_be_resumed(origin: Origin, reader: Reader, url: str) -> None:
    origin.fail("/file", Fault(ignore_range=True))
    stat = reader.stat(url)
    origin.fail("/file", Fault(ignore_range=True, close_after=300_000))
    with pytest.raises(SourceTruncated) as caught:
        reader.read(url, 0, len(BODY), stat=stat)
    assert reader.received == BODY[:300_000]
    assert caught.value.facts == {"url": url, "received": 300_000, "expected": len(BODY)}
    assert len(origin.requests()) == 2


def test_a_chunked_part_is_read(origin: Origin, reader: Reader, url: str) -> None:
    stat = reader.stat(url)
    origin.fail("/file", Fault(no_length=True))
    assert reader.read(url, 7, 600_000, stat=stat) == BODY[7:600_007]
    origin.fail("/file", Fault(no_length=True, close_after=100_000, times=1))
    assert reader.read(url, 7, 600_000, stat=stat) == BODY[7:600_007]


def test_many_threads_read_one_file_over_as_many_connections(origin: Origin, reader: Reader, url: str) -> None:
    stat = reader.stat(url)
    parts: dict[int, bytes] = {}

    def read(number: int) -> None:
        received = bytearray()
        for start in range(number * 131_072, (number + 1) * 131_072, 32_768):
            reader.source.read(SourceRequest(url=url), stat, ByteRange(start, 32_768), received.extend, timeout=10)
        parts[number] = bytes(received)

    threads = [threading.Thread(target=read, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert b"".join(parts[number] for number in range(8)) == BODY
    assert origin.counters().connections <= 8


def test_a_slow_origin_is_delivered_before_the_buffer_is_full(reader: Reader) -> None:
    lengths: list[int] = []
    with Origin(limit=256 * 1024) as slow:
        url = slow.put("/file", BODY)
        stat = reader.stat(url)
        reader.source.read(
            SourceRequest(url=url), stat, ByteRange(0, 200_000), lambda v: lengths.append(len(v)), timeout=10
        )
    assert len(lengths) > 1
    assert sum(lengths) == 200_000


@pytest.mark.slow
def test_a_large_file_arrives_whole(origin: Origin, reader: Reader, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("large") / "file"
    file.write_bytes(BODY * 64)
    url = origin.put("/large", file)
    assert reader.read(url, 0, 64 * MiB) == BODY * 64
