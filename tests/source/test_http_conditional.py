from dataclasses import replace

import pytest

from dragonfly.errors import SourceChanged, SourceError, SourceRefused
from dragonfly.source.http_request import prepared
from dragonfly.source.protocol import SourceRequest, SourceStat
from dragonfly.testing.origin import Origin
from dragonfly.testing.origin_answer import Fault
from dragonfly.testing.source_reader import Reader

BODY = bytes(range(256)) * 64
DATE = "Thu, 01 Jan 2026 00:00:00 GMT"


@pytest.fixture
def url(origin: Origin) -> str:
    """One with a query, so that no HEAD goes first."""
    return origin.put("/file", BODY) + "?v=1"


def test_an_unchanged_file_costs_one_short_request(origin: Origin, reader: Reader, url: str) -> None:
    known = reader.stat(url)
    now = reader.stat(url, known=known)
    assert now == replace(known, is_unchanged=True)
    assert origin.counters().kinds["/file"] == {"ranged": 1, "conditional": 1}
    assert origin.counters().connections == 1
    assert origin.counters().body_bytes["/file"] == 1


def test_what_was_confirmed_once_can_be_asked_about_again(reader: Reader, url: str) -> None:
    known = reader.stat(url, known=reader.stat(url))
    assert reader.stat(url, known=known).is_unchanged


def test_a_changed_file_is_described_anew(origin: Origin, reader: Reader, url: str) -> None:
    known = reader.stat(url)
    origin.put("/file", b"something else")
    now = reader.stat(url, known=known)
    assert not now.is_unchanged
    assert now.content_length == 14
    assert now.version.difference(known.version)
    assert len(origin.requests()) == 2


def test_the_validators_go_out_as_the_origin_wrote_them(origin: Origin, reader: Reader, url: str) -> None:
    origin.fail("/file", Fault(headers={"ETag": 'W/"a, b"', "Last-Modified": DATE}))
    reader.stat(url, known=reader.stat(url), headers={"If-None-Match": '"the caller\'s"', "If-Match": "*"})
    request = origin.requests()[-1]
    assert request.headers["if-none-match"] == 'W/"a, b"'
    assert request.headers["if-modified-since"] == DATE
    assert "if-match" not in request.headers


def test_a_date_alone_is_condition_enough(origin: Origin, reader: Reader, url: str) -> None:
    origin.fail("/file", Fault(headers={"ETag": None}))
    known = reader.stat(url)
    assert reader.stat(url, known=known).is_unchanged
    assert "if-none-match" not in origin.requests()[-1].headers


@pytest.mark.parametrize("etag", ["", "*", '"a", "b"', "a,b", '"open', '"a"b"', '"a\nX: y"', '"\u2713"'])
def test_a_tag_that_would_hold_for_other_versions_is_not_sent(etag: str) -> None:
    known = SourceStat(content_length=1, etag=etag)
    assert prepared(SourceRequest(url="http://host/")).unless(known).conditions == {}


def test_without_validators_the_file_is_simply_described(origin: Origin, reader: Reader, url: str) -> None:
    origin.fail("/file", Fault(headers={"ETag": None, "Last-Modified": None}))
    assert not reader.stat(url, known=reader.stat(url)).is_unchanged
    assert origin.counters().kinds["/file"] == {"ranged": 2}


def test_conditions_survive_a_redirect(origin: Origin, reader: Reader, url: str) -> None:
    origin.fail("/moved", Fault(redirect=url))
    known = reader.stat(origin.url("/moved"))
    assert reader.stat(origin.url("/moved"), known=known).is_unchanged


def test_an_origin_that_ignores_conditions_describes_the_same_version(origin: Origin, reader: Reader, url: str) -> None:
    known = reader.stat(url)
    origin.fail("/file", Fault(ignore_conditions=True))
    now = reader.stat(url, known=known)
    assert now == known


def test_a_304_that_nobody_asked_for_is_refused(origin: Origin, reader: Reader, url: str) -> None:
    known = reader.stat(url)
    origin.fail("/file", Fault(status=304))
    with pytest.raises(SourceRefused):
        reader.stat(url)
    with pytest.raises(SourceRefused):
        reader.stat(url, known=replace(known, etag="", last_modified=""))
    with pytest.raises(SourceRefused):
        reader.read(url, 0, 10, stat=known)


@pytest.mark.parametrize("headers", [{"ETag": '"another"'}, {"ETag": None, "Last-Modified": DATE}], ids=str)
def test_a_304_about_another_version_is_an_error(
    origin: Origin, reader: Reader, url: str, headers: dict[str, str | None]
) -> None:
    known = reader.stat(url)
    origin.fail("/file", Fault(status=304, headers=headers))
    with pytest.raises(SourceError, match="nothing changed, but"):
        reader.stat(url, known=known)


def test_a_304_without_validators_is_believed(origin: Origin, reader: Reader, url: str) -> None:
    known = reader.stat(url)
    origin.fail("/file", Fault(status=304))
    assert reader.stat(url, known=known).is_unchanged


def test_a_file_of_unknown_length_can_be_unchanged_too(origin: Origin, reader: Reader, url: str) -> None:
    origin.fail("/file", Fault(ignore_range=True, no_length=True))
    known = reader.stat(url)
    assert known.content_length is None
    assert reader.stat(url, known=known) == replace(known, is_unchanged=True)
    origin.put("/file", BODY[::-1])
    with pytest.raises(SourceChanged):
        reader.read_whole(url, stat=known)
