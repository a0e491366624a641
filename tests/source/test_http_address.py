"""What is asked of an origin is what the task's id names, and nothing else is changed on the way."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragonfly.core.model.ids import canonical_url
from dragonfly.errors import InvalidUrl
from dragonfly.source.http_address import HttpAddress, joined, parse_http_url
from dragonfly.source.schemes import Sources
from dragonfly.testing.origin import Origin
from dragonfly.testing.source_reader import Reader

PIECES = [
    *("/", "\\", ".", "..", "%2e", "%2E", "a", "%61", "ä", "%C3%A4", " ", "%20", "+", "\t", "\n", '"', "%22", "'", "^"),
    *("|", "{", "`", "<", "%", "%zz", ":", "@", ";", "&", "=", "~", "!", "\x7f", "\x00", "\U0001f600"),
]
SPELLINGS = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)
AUTHORITIES = [
    *("host", "HOST", "h\tost", "host:80", "host:0080", "host:", "host:443", "host:8080", "host.", "a..b", "faß.de"),
    *("127.0.0.1", "0x7f.1", "2130706433", "１２７.0.0.1", "[::1]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]"),
    *("user@host", "user:@host", ":@host", "@host", "u:p@host", "u%3A:p%40@host", "u s:p@host", "a@b@host"),
]
URLS = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(["", " ", "\n\x00"]),
        st.sampled_from(["http://", "https://", "HTTP://", "h\nttp://"]),
        st.sampled_from(AUTHORITIES),
        st.sampled_from(["", "/"]),
        SPELLINGS,
        st.sampled_from(["", "?a=b+c&d=", "?a=%2F\n", "#", "#part?x", "?a=1#/"]),
        st.sampled_from(["", " ", "\r\n"]),
    ),
)


@given(URLS)
def test_urls_of_one_id_lead_to_one_request(url: str) -> None:
    """The canonical text is hashed into the id: every URL asks for what that text asks for, or for nothing."""
    with suppress(InvalidUrl):
        assert parse_http_url(url) == parse_http_url(canonical_url(url))


@given(st.text(), st.sampled_from(["http://", "https://host/", "http://host"]))
def test_any_text_leads_where_its_id_does_or_nowhere(text: str, before: str) -> None:
    path = text.partition("?")[0]
    with suppress(InvalidUrl):
        assert parse_http_url(before + path) == parse_http_url(canonical_url(before + path))


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://host/x/../file", "/file"),
        ("http://host/x/%2e%2E/./file", "/file"),
        ("http://host/x/.%2e/", "/"),
        ("http://host/../../file", "/file"),
        ("http://host/a/..", "/"),
        ("http://host/a\\..\\b", "/b"),
        ("http://host/a//b/...", "/a//b/..."),
        ("http://host/a\tb\nc", "/abc"),
        ("  http://host/file \n", "/file"),
        ('http://host/a"b', "/a%22b"),
        ("http://host/a%2fb%7E~'()|;+", "/a%2fb%7E~'()|;+"),
        ("http://host/file?a=/../b\\c&'\"", "/file?a=/../b\\c&'\""),
        ("http://host/?", "/?"),
        ("http://host?#x?", "/?"),
    ],
)
def test_a_path_is_asked_for_as_browsers_do(url: str, target: str) -> None:
    assert parse_http_url(url).target == target


@pytest.mark.parametrize("target", ["/x/../file", "/x/%2e%2e/file", "/x\\..\\file", "/fi\tle "])
def test_a_file_is_found_however_its_path_is_spelled(origin: Origin, reader: Reader, target: str) -> None:
    origin.put("/file", b"content")
    assert reader.read(origin.url(target), 0, 7) == b"content"
    assert {request.target for request in origin.requests()} == {"/file"}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("http://0x7f.1/", "http://127.0.0.1/"),
        ("http://faß.de/", "http://xn--fa-hia.de/"),
        ("http://[0::1]/", "http://[::1]/"),
        ("http://:@host/", "http://host/"),
        ("http://user:@host/", "http://user@host/"),
    ],
)
def test_a_host_and_its_user_are_read_as_for_the_id(one: str, other: str) -> None:
    assert parse_http_url(one) == parse_http_url(other)


@pytest.mark.parametrize(("one", "other"), [("?a=%20", "?a=+"), ("?", ""), ("?a", "?a=")])
def test_a_query_is_sent_as_spelled_though_its_id_is_not(one: str, other: str) -> None:
    assert canonical_url(f"http://host/file{one}") == canonical_url(f"http://host/file{other}")
    assert parse_http_url(f"http://host/file{one}").target == f"/file{one}"
    assert parse_http_url(f"http://host/file{other}").target == f"/file{other}"


def test_spaces_around_a_url_do_not_hide_its_scheme() -> None:
    sources = Sources.standard()
    assert sources.of(" \thttp://host/\n") is sources.of("ht\ntp://host/")
    sources.close()


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("b", "/deep/b"),
        ("../b?x=..", "/b?x=.."),
        ("%2e%2e/b", "/b"),
        ("..\\b", "/b"),
        ("\\b", "/b"),
        ("?x", "/deep/file?x"),
        ("#x", "/deep/file?q"),
        (".", "/deep/"),
        ("b?x=\\", "/deep/b?x=\\"),
    ],
)
def test_a_relative_location_is_read_from_what_was_asked(location: str, expected: str) -> None:
    base: HttpAddress = parse_http_url("http://user@host:81/x/%2e./deep/file?q")
    address = parse_http_url(joined(base, location))
    assert (address.host_header, address.target) == ("host:81", expected)


def test_a_location_may_name_another_host() -> None:
    base = parse_http_url("https://host/file")
    assert parse_http_url(joined(base, "\\\\other/b")).origin == ("https", "other", 443)
