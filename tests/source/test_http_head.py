"""Origins that ignore ranges are asked by HEAD, so that a question does not bring the file; others are not slowed."""

import random
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from dragonfly.core.model.units import MiB, Seconds
from dragonfly.errors import (
    SourceChanged,
    SourceNotFound,
    SourceRangeUnsupported,
    SourceRefused,
    SourceUnavailable,
    SourceUnreachable,
)
from dragonfly.source.http import HttpSource
from dragonfly.source.http_habits import (
    RANGED_AT_MOST,
    RANGELESS_AT_MOST,
    REMEMBERED_AT_MOST,
    REMEMBERED_FOR,
    Habit,
    Habits,
)
from dragonfly.testing.origin import Origin
from dragonfly.testing.origin_answer import Fault
from dragonfly.testing.source_reader import Reader

SMALL = bytes(range(256)) * 400
LONG = bytes(RANGELESS_AT_MOST + 1)
SILENT_ABOUT_RANGES = {"Accept-Ranges": None}
ORIGIN = ("http", "host", 80)


@pytest.fixture
def readers(even_chance: random.Random) -> Iterator[list[Reader]]:
    """Four hosts."""
    sources = [HttpSource(sleep=lambda _: None, rng=even_chance) for _ in range(4)]
    yield [Reader(source) for source in sources]
    for source in sources:
        source.close()


def methods(origin: Origin) -> list[str]:
    return [request.method + (" range" if "range" in request.headers else "") for request in origin.requests()]


@pytest.mark.parametrize("body", [b"x" * 1000, SMALL, bytes(MiB)], ids=len)
@pytest.mark.parametrize("announced", ["bytes", None])
def test_a_small_file_of_an_origin_without_ranges_is_sent_once(
    origin: Origin, readers: list[Reader], body: bytes, announced: str | None
) -> None:
    url = origin.put("/file", body)
    origin.fail("/file", Fault(ignore_range=True, headers={"Accept-Ranges": announced}))
    stats = [reader.stat(url) for reader in readers]
    assert {stat.content_length for stat in stats} == {len(body)}
    assert readers[0].read_whole(url, stat=stats[0]) == body
    assert origin.counters().body_bytes == {"/file": len(body)}
    assert origin.counters().kinds["/file"]["head"] == 4


def test_pythons_own_server_sends_a_file_once(tmp_path: Path, readers: list[Reader]) -> None:
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=tmp_path)  # type: ignore[arg-type]

        def log_request(self, code: object = "-", size: object = "-") -> None:
            asked.append(self.command)

    (tmp_path / "file").write_bytes(SMALL)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/file"
        stats = [reader.stat(url) for reader in readers]
        assert not stats[0].supports_ranges
        assert readers[0].read_whole(url, stat=stats[0]) == SMALL
        server.shutdown()
    assert asked == ["HEAD"] * 4 + ["GET"]


def test_a_good_origin_is_asked_once_as_before(origin: Origin, reader: Reader) -> None:
    url, other = origin.put("/file", SMALL), origin.put("/other", SMALL)
    stat = reader.stat(url)
    assert stat.supports_ranges
    assert stat.etag
    assert stat.headers["Content-Length"] == str(len(SMALL))
    assert reader.read(url, 5, 10, stat=stat) == SMALL[5:15]
    assert reader.stat(other).supports_ranges
    assert methods(origin) == ["HEAD", "GET range", "GET range"]


def test_a_head_describes_a_file_as_a_get_does(origin: Origin, readers: list[Reader]) -> None:
    url = origin.put("/file", SMALL)
    assert readers[0].stat(url) == readers[1].stat(f"{url}?v=1")


def test_a_long_file_of_an_unknown_origin_is_asked_for_its_first_byte_too(origin: Origin, reader: Reader) -> None:
    url = origin.put("/long", bytes(RANGED_AT_MOST + 1))
    assert reader.stat(url).supports_ranges
    assert reader.stat(url).supports_ranges
    assert methods(origin) == ["HEAD", "GET range", "GET range"]
    assert origin.counters().connections == 1


def test_ranges_that_work_unannounced_are_used_for_long_files(origin: Origin, reader: Reader) -> None:
    origin.fail("/long", Fault(headers=SILENT_ABOUT_RANGES))
    assert reader.stat(origin.put("/long", LONG)).supports_ranges


def test_ranges_that_do_not_work_though_announced_are_not_relied_on(origin: Origin, reader: Reader) -> None:
    origin.fail("/long", Fault(ignore_range=True))
    url = origin.put("/long", LONG)
    assert not reader.stat(url).supports_ranges
    assert not reader.stat(url).supports_ranges
    assert methods(origin) == ["HEAD", "GET range", "HEAD"]


def test_a_file_of_some_pieces_is_taken_for_whole_where_ranges_are_not_announced(
    origin: Origin, reader: Reader
) -> None:
    origin.fail("/file", Fault(ignore_range=True, headers=SILENT_ABOUT_RANGES))
    stat = reader.stat(origin.put("/file", bytes(RANGELESS_AT_MOST)))
    assert (stat.content_length, stat.supports_ranges) == (RANGELESS_AT_MOST, False)
    assert methods(origin) == ["HEAD"]


@pytest.mark.parametrize("body", [SMALL, b"x", b""], ids=len)
def test_a_200_to_a_request_for_every_byte_says_nothing_of_ranges(origin: Origin, reader: Reader, body: bytes) -> None:
    """Apache answers so."""
    origin.fail("/whole", Fault(ignore_range=True))
    assert reader.read_whole(origin.put("/whole", body) + ("" if len(body) > 1 else "?v=1")) == body
    assert reader.stat(origin.put("/file", SMALL)).supports_ranges


def test_a_read_that_cannot_have_the_middle_shows_the_habit(origin: Origin, reader: Reader) -> None:
    origin.fail("/file", Fault(ignore_range=True))
    url = origin.put("/file", SMALL)
    with pytest.raises(SourceRangeUnsupported):
        reader.read(url, 5, 10)
    assert not reader.stat(url).supports_ranges
    assert methods(origin) == ["HEAD", "GET range", "HEAD"]


def test_a_url_with_a_query_may_be_signed_for_get_only(origin: Origin, reader: Reader) -> None:
    origin.fail("/file", Fault(ignore_range=True))
    url = origin.put("/file", SMALL)
    for query in ("?X-Amz-Signature=ff", "?"):
        assert reader.stat(url + query).content_length == len(SMALL)
    assert methods(origin) == ["GET range"] * 2


@pytest.mark.parametrize(
    "head",
    [
        *(Fault(status=status) for status in (204, 400, 401, 403, 404, 405, 500, 501)),
        Fault(redirect="/elsewhere"),
        Fault(headers={"Content-Length": None}),
        Fault(headers={"Content-Length": "0"}),
        Fault(headers={"Content-Length": "-1"}),
        Fault(headers={"Content-Encoding": "gzip"}),
        Fault(no_length=True),
    ],
    ids=lambda head: str(head.status or head.redirect or dict(head.headers) or "chunked"),
)
def test_a_head_that_is_of_no_use_is_followed_by_a_get(origin: Origin, reader: Reader, head: Fault) -> None:
    url = origin.put("/file", SMALL)
    origin.fail("/file", Fault(ignore_range=True, head=head))
    stat = reader.stat(url)
    assert (stat.content_length, stat.supports_ranges) == (len(SMALL), False)
    assert "/elsewhere" not in origin.counters().requests
    reader.stat(url)
    assert methods(origin) == ["HEAD", "GET range", "GET range"]
    assert reader.waits == []


def test_an_origin_that_does_not_answer_a_head_is_not_asked_by_one_again(origin: Origin, reader: Reader) -> None:
    url = origin.put("/file", SMALL)
    origin.fail("/file", Fault(head=Fault(close_after=0)))
    assert reader.stat(url).content_length == len(SMALL)
    assert reader.stat(url).content_length == len(SMALL)
    assert methods(origin) == ["HEAD", "GET range", "GET range"]
    assert reader.waits == [0.2]


def test_a_missing_file_says_nothing_of_the_next(origin: Origin, reader: Reader) -> None:
    with pytest.raises(SourceNotFound):
        reader.stat(origin.url("/missing"))
    reader.stat(origin.put("/file", SMALL))
    assert methods(origin) == ["HEAD", "GET range", "HEAD"]


@pytest.mark.parametrize("status", [429, 503])
def test_an_origin_that_wants_to_be_left_alone_is_not_asked_twice_at_once(
    origin: Origin, even_chance: random.Random, status: int
) -> None:
    source = HttpSource(max_retries=0, rng=even_chance)
    origin.fail("/file", Fault(status=status))
    with pytest.raises(SourceUnavailable):
        Reader(source).stat(origin.url("/file"))
    source.close()
    assert methods(origin) == ["HEAD"]


def test_a_head_that_lied_is_found_out_and_not_believed_again(origin: Origin, reader: Reader) -> None:
    url = origin.put("/file", SMALL)
    origin.fail("/file", Fault(head=Fault(headers={"Content-Length": "5"})))
    with pytest.raises(SourceChanged):
        reader.read_whole(url)
    assert reader.received == b""
    assert reader.read_whole(url) == SMALL


def test_what_is_known_is_confirmed_by_one_request(origin: Origin, reader: Reader) -> None:
    url = origin.put("/file", SMALL)
    origin.fail("/file", Fault(ignore_range=True))
    assert reader.stat(url, known=reader.stat(url)).is_unchanged
    assert origin.counters().kinds["/file"] == {"head": 1, "conditional": 1}
    assert origin.counters().total_body_bytes == 0


def test_a_304_to_a_head_that_nobody_asked_for_is_refused(origin: Origin, reader: Reader) -> None:
    origin.fail("/file", Fault(status=304))
    with pytest.raises(SourceRefused):
        reader.stat(origin.url("/file"))


def test_a_dead_origin_costs_no_more_tries_than_before(reader: Reader) -> None:
    with Origin() as gone:
        url = gone.url("/file")
    with pytest.raises(SourceUnreachable):
        reader.stat(url)
    assert reader.waits == [0.2, 1.0]


def test_an_origin_is_unknown_until_it_shows_something() -> None:
    habits = Habits(clock=lambda: 0.0)
    assert habits.of(ORIGIN) is Habit.UNKNOWN
    habits.learn(ORIGIN, Habit.RANGED)
    assert habits.of(ORIGIN) is Habit.RANGED
    assert habits.of(("https", "host", 443)) is Habit.UNKNOWN


@pytest.mark.parametrize(
    ("before", "head_failed", "after"),
    [
        (Habit.UNKNOWN, False, Habit.WHOLE),
        (Habit.UNKNOWN, True, Habit.HEADLESS),
        (Habit.RANGED, False, Habit.WHOLE),
        (Habit.WHOLE, True, Habit.HEADLESS),
        (Habit.HEADLESS, False, Habit.HEADLESS),
    ],
)
def test_an_origin_without_ranges_is_asked_by_head_if_that_helps(
    before: Habit, head_failed: bool, after: Habit
) -> None:
    habits = Habits(clock=lambda: 0.0)
    habits.learn(ORIGIN, before)
    habits.learn_no_ranges(ORIGIN, head_failed=head_failed)
    assert habits.of(ORIGIN) is after
    assert after.wants_head is (after is Habit.WHOLE)


def test_a_habit_is_forgotten_after_some_minutes() -> None:
    now: list[Seconds] = [0.0]
    habits = Habits(clock=lambda: now[0])
    habits.learn(ORIGIN, Habit.WHOLE)
    now[0] = REMEMBERED_FOR
    assert habits.of(ORIGIN) is Habit.WHOLE
    now[0] += 1
    assert habits.of(ORIGIN) is Habit.UNKNOWN


def test_only_so_many_habits_are_remembered() -> None:
    habits = Habits(clock=lambda: 0.0)
    habits.learn(ORIGIN, Habit.WHOLE)
    habits.learn(("http", "other", 80), Habit.WHOLE)
    habits.learn(ORIGIN, Habit.RANGED)
    for port in range(REMEMBERED_AT_MOST - 1):
        habits.learn(("http", "many", port), Habit.RANGED)
    assert habits.of(("http", "other", 80)) is Habit.UNKNOWN
    assert habits.of(ORIGIN) is Habit.RANGED
