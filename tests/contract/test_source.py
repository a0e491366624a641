"""What every Source promises, asked of each of them against a real origin."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dragonfly.core.model.ranges import ByteRange
from dragonfly.errors import InvalidRange, SourceChanged, SourceNotFound, SourceTruncated, UnsupportedFeature
from dragonfly.source.http import HttpSource
from dragonfly.source.protocol import Source, SourceRequest
from dragonfly.testing.origin import Origin
from dragonfly.testing.origin_answer import Fault
from dragonfly.testing.tls import Authority

BODY = bytes(range(256)) * 3000
TIMEOUT = 10.0


class Place:
    """One kind of origin with one file on it."""

    def __init__(self, origin: Origin, source: Source) -> None:
        self.origin = origin
        self.source = source
        self.request = SourceRequest(url=origin.put("/file", BODY))

    def read(self, span: ByteRange | None) -> bytes:
        received = bytearray()
        stat = self.source.stat(self.request, timeout=TIMEOUT)
        self.source.read(self.request, stat, span, received.extend, timeout=TIMEOUT)
        return bytes(received)


@pytest.fixture(params=["http", "https"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    authority = Authority() if request.param == "https" else None
    tls = authority.server_context("127.0.0.1") if authority else None
    ca_file = authority.write_ca(tmp_path / "ca.pem") if authority else None
    with Origin(tls=tls, index="nginx") as origin:
        source = HttpSource(ca_file=ca_file, sleep=lambda _: None)
        yield Place(origin, source)
        source.close()


def test_a_file_is_described_by_its_length_and_validators(place: Place) -> None:
    stat = place.source.stat(place.request, timeout=TIMEOUT)
    assert stat.content_length == len(BODY)
    assert stat.etag
    assert stat.last_modified
    assert stat.supports_ranges


@pytest.mark.parametrize(
    "span",
    [
        ByteRange(0, 1),
        ByteRange(0, len(BODY)),
        ByteRange(len(BODY) - 1, 1),
        ByteRange(300_000, 300_000),
    ],
    ids=str,
)
def test_exactly_the_span_is_read(place: Place, span: ByteRange) -> None:
    assert place.read(span) == BODY[span.start : span.end]


def test_a_missing_file_is_not_found(place: Place) -> None:
    with pytest.raises(SourceNotFound) as caught:
        place.source.stat(SourceRequest(url=place.origin.url("/missing")), timeout=TIMEOUT)
    assert caught.value.facts["url"] == place.origin.url("/missing")


def test_a_span_beyond_the_file_is_refused_without_asking(place: Place) -> None:
    stat = place.source.stat(place.request, timeout=TIMEOUT)
    asked = len(place.origin.requests())
    with pytest.raises(InvalidRange):
        place.source.read(place.request, stat, ByteRange(len(BODY) - 1, 2), lambda _: None, timeout=TIMEOUT)
    assert len(place.origin.requests()) == asked


def test_a_file_that_became_another_is_not_read(place: Place) -> None:
    """Attack 30."""
    stat = place.source.stat(place.request, timeout=TIMEOUT)
    place.origin.put("/file", BODY[::-1])
    received = bytearray()
    with pytest.raises(SourceChanged):
        place.source.read(place.request, stat, ByteRange(0, len(BODY)), received.extend, timeout=TIMEOUT)
    assert not received


def test_a_file_that_broke_off_is_read_on_where_it_broke(place: Place) -> None:
    place.source.stat(place.request, timeout=TIMEOUT)
    place.origin.fail("/file", Fault(close_after=100_000))
    assert place.read(ByteRange(1000, 500_000)) == BODY[1000:501_000]


def test_what_the_sink_raises_ends_the_read(place: Place) -> None:
    def full(_: memoryview) -> None:
        raise OSError("the disk is full")

    stat = place.source.stat(place.request, timeout=TIMEOUT)
    asked = len(place.origin.requests())
    with pytest.raises(OSError, match="the disk is full"):
        place.source.read(place.request, stat, ByteRange(0, len(BODY)), full, timeout=TIMEOUT)
    assert len(place.origin.requests()) == asked + 1
    assert place.read(ByteRange(0, 10)) == BODY[:10]


def test_without_a_span_the_whole_file_is_read(place: Place) -> None:
    assert place.read(None) == BODY


def test_a_file_of_unknown_length_is_read_to_its_end(place: Place) -> None:
    place.origin.fail("/file", Fault(ignore_range=True, no_length=True))
    assert place.source.stat(place.request, timeout=TIMEOUT).content_length is None
    assert place.read(None) == BODY


def test_an_early_end_is_no_shorter_file(place: Place) -> None:
    """Attack 33."""
    place.origin.fail("/file", Fault(ignore_range=True, no_length=True))
    stat = place.source.stat(place.request, timeout=TIMEOUT)
    place.origin.fail("/file", Fault(ignore_range=True, no_length=True, close_after=100_000))
    with pytest.raises(SourceTruncated):
        place.source.read(place.request, stat, None, lambda _: None, timeout=TIMEOUT)


def test_a_file_that_is_known_is_confirmed(place: Place) -> None:
    known = place.source.stat(place.request, timeout=TIMEOUT)
    assert place.source.stat(place.request, timeout=TIMEOUT, known=known) == replace(known, is_unchanged=True)
    place.origin.put("/file", BODY[::-1])
    now = place.source.stat(place.request, timeout=TIMEOUT, known=known)
    assert not now.is_unchanged
    assert known.version.difference(now.version)


def test_a_directory_names_what_is_directly_below(place: Place) -> None:
    place.origin.put("/dir/a file", b"1")
    place.origin.put("/dir/sub/inner", b"2")
    directory = SourceRequest(url=place.origin.url("/dir/"))
    entries = place.source.entries(directory, timeout=TIMEOUT)
    assert [(entry.url, entry.is_directory) for entry in entries] == [
        (place.origin.url("/dir/a%20file"), False),
        (place.origin.url("/dir/sub/"), True),
    ]


def test_what_is_no_directory_lists_nothing(place: Place) -> None:
    with pytest.raises(UnsupportedFeature):
        place.source.entries(place.request, timeout=TIMEOUT)


def test_the_memory_a_sink_sees_is_reused(place: Place) -> None:
    views: list[memoryview] = []
    stat = place.source.stat(place.request, timeout=TIMEOUT)
    keep: Callable[[memoryview], None] = views.append
    place.source.read(place.request, stat, ByteRange(0, len(BODY)), keep, timeout=TIMEOUT)
    assert len(views) > 1
    assert len({id(view.obj) for view in views}) == 1
