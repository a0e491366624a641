from collections.abc import Iterator

import pytest

from dragonfly import __version__
from dragonfly.errors import InvalidInput, InvalidUrl, SourceForbidden
from dragonfly.source.http import HttpSource
from dragonfly.source.http_address import has_secrets, parse_http_url, shown
from dragonfly.source.protocol import SourceRequest
from dragonfly.testing.origin import Origin
from dragonfly.testing.origin_answer import Fault
from dragonfly.testing.source_reader import Reader

BODY = b"content"


@pytest.fixture
def other() -> Iterator[Origin]:
    """Another origin: the same address, another port."""
    with Origin() as other:
        yield other


@pytest.mark.parametrize(
    "target",
    [
        "/a%2Fb?X-Amz-Signature=ab%2Bcd%3D&list=1,2;3",
        "/a//b/...",
        "/?",
        "/a?",
        "/a?b?c=%zz%",
        "/%e4%bd%a0+~!$&'()*:@[]|;=%zz?+~!$&'()*:@[]|{}\"<>^`\\",
    ],
)
def test_a_url_goes_out_as_it_is_spelled(origin: Origin, reader: Reader, target: str) -> None:
    with pytest.raises(Exception, match="404"):
        reader.stat(origin.url(target))
    assert origin.requests()[0].target == target


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://host", "/"),
        ("http://host?x=1", "/?x=1"),
        ("http://host/a#b?c", "/a"),
        ("HTTP://host/ä b", "/%C3%A4%20b"),
    ],
)
def test_what_http_cannot_carry_is_encoded(url: str, target: str) -> None:
    assert parse_http_url(url).target == target


@pytest.mark.parametrize(
    ("url", "host_header"),
    [
        ("http://Host.Example/", "host.example"),
        ("http://host:80/", "host"),
        ("https://host:443/", "host"),
        ("https://host:80/", "host:80"),
        ("http://[::1]:8080/", "[::1]:8080"),
        ("http://user:pw@host:8080/", "host:8080"),
        ("http://bücher.example/", "xn--bcher-kva.example"),
    ],
)
def test_the_host_is_named_without_what_is_no_part_of_it(url: str, host_header: str) -> None:
    assert parse_http_url(url).host_header == host_header


@pytest.mark.parametrize(
    "url",
    [
        "http:///path",
        "http://",
        "http://host:0/",
        "http://host:65536/",
        "http://host:port/",
        "http://ho st/",
        "http://good\\@evil/",
        "http://host\r\nX: y/",
        "http://host/\x01path",
        "http:/host/",
        "http:host/",
        "http:\\\\host/",
        "http://user@/",
        "http://host/\x00path",
        "http://%6c%6f/",
        "http://[::1/",
        "http://[fe80::1%25eth0]/",
        "http://host/\ud800",
        "ftp://host/",
        "host/path",
    ],
)
def test_attack_12_urls_that_could_be_read_in_two_ways_are_refused(url: str) -> None:
    with pytest.raises(InvalidUrl):
        parse_http_url(url)


def test_user_information_becomes_basic_authentication(origin: Origin, reader: Reader) -> None:
    origin.put("/file", BODY)
    origin.fail("/file", Fault(authorization="Basic dXNlcjpwQHNz"))  # user:p@ss
    url = origin.url("/file").replace("//", "//user:p%40ss@")
    assert reader.stat(url).content_length == len(BODY)
    with pytest.raises(SourceForbidden) as caught:
        reader.stat(url, headers={"authorization": "Bearer wins"})
    assert "p%40ss" not in str(caught.value)
    assert origin.url("/file") in str(caught.value)


def test_secrets_in_urls_are_not_shown() -> None:
    url = "https://user:pw@host/a?X-Amz-Credential=AK%2F1&X-Amz-Signature=ff&part=2&sig=x&access_token=t#f"
    expected = "https://host/a?X-Amz-Credential=***&X-Amz-Signature=***&part=2&sig=***&access_token=***#f"
    assert shown(url) == expected
    assert "pw" not in repr(parse_http_url(url))


@pytest.mark.parametrize("url", ["http:/\n/user:pw@host/", "http://host/?X-Amz-Sig\tnature=pw", " http://u:pw@host"])
def test_secrets_do_not_hide_behind_what_the_parser_overlooks(url: str) -> None:
    assert has_secrets(url)
    assert "pw" not in shown(url)


def test_we_say_who_we_are_unless_the_caller_does(origin: Origin, reader: Reader) -> None:
    url = origin.put("/file", BODY)
    reader.stat(url)
    reader.stat(url, headers={"user-agent": "someone"})
    assert [request.headers["user-agent"] for request in origin.requests()] == [f"dragonfly/{__version__}", "someone"]


def test_headers_of_the_settings_are_added_where_the_request_has_none(origin: Origin, other: Origin) -> None:
    added = {"X-Team": "ours", "User-Agent": "the team's", "Authorization": "Bearer team", "Range": "bytes=5-"}
    source = HttpSource(request_header=added)
    origin.put("/file", BODY)
    Reader(source).stat(origin.url("/file?v=1"))
    Reader(source).stat(origin.url("/file"), headers={"x-team": "mine", "authorization": "Bearer mine"})
    other.fail("/moved", Fault(redirect=origin.url("/file")))
    Reader(source).stat(other.url("/moved?v=1"))
    source.close()
    first, second, third = (request.headers for request in origin.requests())
    assert (first["x-team"], first["authorization"], first["user-agent"]) == ("ours", "Bearer team", "the team's")
    assert (second["x-team"], second["authorization"]) == ("mine", "Bearer mine")
    assert {headers["range"] for headers in (first, second, third)} == {"bytes=0-0"}
    assert "authorization" not in third  # another origin's


def test_headers_of_one_connection_and_conditions_are_not_forwarded(origin: Origin, reader: Reader) -> None:
    url = origin.put("/file", BODY) + "?v=1"
    dropped = ("Host", "Range", "Accept-Encoding", "TE", "Upgrade", "Proxy-Authorization", "If-None-Match", "X-Named")
    reader.stat(url, headers={**dict.fromkeys(dropped, "evil"), "Connection": "close, X-Named", "X-Kept": "ü"})
    [request] = origin.requests()
    assert "evil" not in request.headers.values()
    assert request.headers["x-kept"] == "ü"
    assert request.headers["range"] == "bytes=0-0"
    assert request.headers["host"] == f"127.0.0.1:{origin.port}"
    assert "connection" not in request.headers


@pytest.mark.parametrize(
    "headers",
    [
        {"X\r\nY": "z"},
        {"X": "secret\r\nY: z"},
        {"X": "secret\n"},
        {"X": "secret\0"},
        {"X Y": "z"},
        {"": "z"},
        {"X": "secret✓"},
    ],
    ids=repr,
)
def test_headers_that_would_break_the_request_are_refused_without_showing_them(
    origin: Origin, reader: Reader, headers: dict[str, str]
) -> None:
    with pytest.raises(InvalidInput) as caught:
        reader.stat(origin.put("/file", BODY), headers=headers)
    assert "secret" not in str(caught.value)
    assert origin.requests() == []


def test_a_request_shows_no_headers() -> None:
    assert "secret" not in repr(SourceRequest(url="http://host/", headers={"Authorization": "secret"}))


def test_proxies_of_the_environment_are_not_used(
    origin: Origin, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert reader.stat(origin.put("/file", BODY)).content_length == len(BODY)
