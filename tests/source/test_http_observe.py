"""Whoever counts requests is told of each one, and cannot break it."""

import random
import threading
from collections.abc import Iterator

import pytest

from dragonfly.core.model.units import Seconds
from dragonfly.errors import SourceError
from dragonfly.source.http import HttpSource
from dragonfly.source.protocol import SourceRequest
from dragonfly.source.schemes import Sources
from dragonfly.testing.origin import Origin
from dragonfly.testing.origin_answer import Fault
from dragonfly.testing.source_reader import Reader
from dragonfly.testing.tls import Authority


class Watched:
    """A source and what its observer was told; its clock shows a quarter of a second more at each look."""

    def __init__(self, rng: random.Random) -> None:
        self.told: list[tuple[str, str, Seconds, bool]] = []
        self.now = 0.0
        self.source = HttpSource(
            observe=lambda *seen: self.told.append(seen), sleep=lambda _: None, rng=rng, clock=self.tick
        )
        self.reader = Reader(self.source)

    def tick(self) -> Seconds:
        self.now += 0.25
        return self.now

    @property
    def seen(self) -> list[tuple[str, bool]]:
        """Methods, and whether they failed."""
        return [(method, failed) for _, method, _, failed in self.told]


@pytest.fixture
def watched(even_chance: random.Random) -> Iterator[Watched]:
    watched = Watched(even_chance)
    yield watched
    watched.source.close()


def test_every_request_is_told_with_its_time(origin: Origin, watched: Watched) -> None:
    url = origin.put("/file", b"content")
    watched.reader.read(url, 0, 7)
    watched.reader.stat(url)
    assert watched.told == [("http", "HEAD", 0.25, False), *[("http", "GET", 0.25, False)] * 2]


def test_the_scheme_is_told(authority: Authority, watched: Watched) -> None:
    with Origin(tls=authority.server_context("127.0.0.1")) as origin:
        watched.reader.stat(origin.put("/file", b"content"), insecure_skip_verify=True)
    assert [scheme for scheme, *_ in watched.told] == ["https"]


def test_redirects_and_retries_count_anew(origin: Origin, watched: Watched) -> None:
    origin.put("/real", b"content")
    origin.fail("/file", Fault(redirect="/real"))
    origin.fail("/real", Fault(status=503, times=1))
    watched.reader.stat(origin.url("/file?v=1"))
    assert watched.seen == [("GET", False), ("GET", True), ("GET", False), ("GET", False)]


@pytest.mark.parametrize(("status", "failed"), [(404, True), (500, True), (405, True), (304, False)])
def test_an_answer_may_be_a_failure(origin: Origin, watched: Watched, status: int, failed: bool) -> None:
    origin.fail("/file", Fault(status=status))
    with pytest.raises(SourceError):
        watched.reader.stat(origin.url("/file?v=1"))
    assert {seen for _, seen in watched.seen} == {failed}


def test_an_empty_file_is_no_failure(origin: Origin, watched: Watched) -> None:
    watched.reader.stat(origin.put("/empty", b"") + "?v=1")
    assert watched.seen == [("GET", False)]


def test_no_answer_is_a_failure(watched: Watched) -> None:
    with Origin() as gone:
        url = gone.url("/file?v=1")
    for unreachable in (url, "http://no-such-host.invalid/?v=1"):
        watched.told.clear()
        with pytest.raises(SourceError):
            watched.reader.stat(unreachable)
        assert {seen for _, seen in watched.seen} == {True}


def test_what_was_never_asked_is_not_told(origin: Origin, watched: Watched) -> None:
    watched.source.close()
    with pytest.raises(SourceError, match="stopped"):
        watched.reader.stat(origin.url("/file"))
    assert watched.told == []


def test_an_observer_that_fails_breaks_nothing(origin: Origin) -> None:
    def broken(*seen: object) -> None:
        raise RuntimeError(f"cannot count {seen}")

    sources = Sources.standard(observe=broken)
    url = origin.put("/file", b"content")
    assert Reader(sources.of(url)).read_whole(url) == b"content"
    sources.close()


def test_the_observer_of_all_sources_is_told(origin: Origin) -> None:
    threads: list[str] = []
    sources = Sources.standard(observe=lambda *_: threads.append(threading.current_thread().name))
    url = origin.put("/file", b"content")
    sources.of(url).stat(SourceRequest(url=url), timeout=10)
    sources.close()
    assert threads == [threading.current_thread().name]
