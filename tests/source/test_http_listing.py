"""Index pages, as text; how they are asked for is in test_http_entries."""

import json
from email.message import Message
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragonfly.errors import SourceError, UnsupportedFeature
from dragonfly.source import http_listing
from dragonfly.source.http_address import parse_http_url
from dragonfly.source.http_listing import listed
from dragonfly.source.protocol import SourceEntry
from dragonfly.testing.origin_index import STYLES, Entry, index_page

ASKED = "http://host/a%20b/dir/"
NAMES = ["plain", "two words", "ä", "100%", "a&b<c>\"d'", "q?u#e", "semi;colon", "c:d", "+plus", "%2e%2e", "~x", "..x"]


def html(*links: str) -> bytes:
    anchors = "".join(f'<a href="{link}">x</a>\n' for link in links)
    return f"<html><head><title>Index of /dir/</title></head><body>{anchors}</body></html>".encode()


def found(
    page: bytes, *, asked: str = ASKED, final: str = ASKED, kind: str = "text/html", **headers: str
) -> list[SourceEntry]:
    message = Message()
    message["Content-Type"] = kind
    for name, value in headers.items():
        message[name.replace("_", "-")] = value
    return listed(page, message, parse_http_url(final), asked)


def urls(page: bytes, *, asked: str = ASKED, final: str = ASKED) -> list[str]:
    return [entry.url for entry in found(page, asked=asked, final=final)]


@pytest.mark.parametrize("style", STYLES)
def test_the_pages_of_known_servers_are_understood(style: str) -> None:
    page = index_page(style, "/a b/dir/", [Entry("sub"), Entry("two words/".strip("/")), Entry("file.bin", 12)])
    entries = found(page.body, kind=page.content_type)
    assert [(entry.url, entry.is_directory) for entry in entries] == [
        ("http://host/a%20b/dir/sub/", True),
        ("http://host/a%20b/dir/two%20words/", True),
        ("http://host/a%20b/dir/file.bin", False),
    ]
    assert entries[-1].content_length == (12 if style == "nginx-json" else None)


@pytest.mark.parametrize("style", STYLES)
def test_every_name_that_may_be_one_comes_through(style: str) -> None:
    page = index_page(style, "/a b/dir/", [Entry(name, 1) for name in NAMES])
    entries = found(page.body, kind=page.content_type)
    paths = [parse_http_url(entry.url).target for entry in entries]
    assert len(paths) == len(NAMES)
    assert not [path for path in paths if "?" in path or "#" in path]


@pytest.mark.parametrize("style", STYLES)
def test_an_empty_directory_has_no_entries(style: str) -> None:
    page = index_page(style, "/a b/dir/", [])
    assert found(page.body, kind=page.content_type) == []


@pytest.mark.parametrize(
    "link",
    [
        "../",
        "..",
        "/",
        "/a%20b/",
        "./",
        ".",
        "",
        "?C=N;O=D",
        "file?query",
        "#top",
        "sub/deeper",
        "sub/deeper/",
        "../other/file",
        "/other/file",
        "/a%20b/dirty",
        "http://elsewhere/a%20b/dir/file",
        "https://host/a%20b/dir/file",
        "http://host:81/a%20b/dir/file",
        "//elsewhere/a%20b/dir/file",
        "http://host",
        "http://[::1/file",
        "mailto:someone@host",
        "javascript:alert(1)",
        "file:///etc/passwd",
        "//",
    ],
)
def test_links_that_lead_elsewhere_are_no_entries(link: str) -> None:
    assert urls(html(link)) == []


@pytest.mark.parametrize(
    "link",
    [
        "..%2fetc",
        "%2e%2e",
        "%2E%2e/",
        ".%2e",
        "%2e",
        "a%2fb",
        "%2fetc",
        "dir/../../file",
        "/a%20b/dir/../file",
        "/a%20b/dir/%2e%2e/file",
        "/a%20b%2fdir/file",
        "./../file",
        "&#46;&#46;/file",
    ],
)
def test_attack_22_a_link_that_climbs_out_is_no_entry(link: str) -> None:
    assert urls(html(link)) == []
    assert urls(html(link, "honest")) == [f"{ASKED}honest"]


@pytest.mark.parametrize(
    ("link", "entry"),
    [
        ("a%5cb", "a%5cb"),
        ("a\\b", "a%5Cb"),
        ("a\\", "a%5C"),
        ("..\\..\\etc", "..%5C..%5Cetc"),
        ("\\\\elsewhere\\file", "%5C%5Celsewhere%5Cfile"),
        ("a%00b", "a%00b"),
        ("a%0ab", "a%0ab"),
        ("a&#10;b", "a%0Ab"),
        ("a\x1bb", "a%1Bb"),
        ("a%7fb", "a%7fb"),
        ("..%5c/", "..%5c/"),
    ],
)
def test_a_name_that_is_unfit_for_a_file_is_an_entry_that_leads_nowhere_else(link: str, entry: str) -> None:
    """Attack 22: it is for whoever would write the file to refuse it, and not to be left out in silence."""
    assert urls(html(link, "honest")) == [ASKED + entry, f"{ASKED}honest"]


def test_a_link_too_long_to_be_one_is_none() -> None:
    assert urls(html("&#" + "9" * 4290 + ";", "&#" + "9" * 4090, "a" * 5000, "honest")) == [f"{ASKED}honest"]


@pytest.mark.parametrize(
    ("link", "entry"),
    [
        ("file", "file"),
        ("./file", "file"),
        (" file ", "file"),
        ("/a%20b/dir/file", "file"),
        ("/a b/dir/file", "file"),
        ("/%61%20b/dir/sub/", "sub/"),
        ("http://host/a%20b/dir/file", "file"),
        ("HTTP://HOST:80/a%20b/dir/file", "file"),
        ("//host/a%20b/dir/file", "file"),
        ("a&amp;b", "a&b"),
        ("a b", "a%20b"),
        ("ä", "%C3%A4"),
        ("./c:d", "c:d"),
        ("%252e%252e", "%252e%252e"),
        ("...", "..."),
    ],
)
def test_a_link_to_something_directly_below_is_an_entry(link: str, entry: str) -> None:
    assert urls(html(link)) == [ASKED + entry]


def test_bytes_of_other_character_sets_stay_as_they_are() -> None:
    assert urls(b"<title>Index of /</title><a href='caf\xe9'>") == [f"{ASKED}caf%E9"]


def test_one_name_is_one_entry() -> None:
    assert urls(html("file", "./file", "%66ile", "file/", "other")) == [f"{ASKED}file", f"{ASKED}other"]


def test_after_a_redirect_links_are_read_where_it_led_and_stay_below_what_was_asked() -> None:
    page = html("file", "/real/1.2/second", "http://mirror/real/1.2/third", "/a%20b/dir/fourth")
    assert urls(page, final="http://mirror/real/1.2/") == [f"{ASKED}{name}" for name in ("file", "second", "third")]
    assert urls(html("file"), final="http://mirror/real/index.html?x=/y/") == [f"{ASKED}file"]


def test_entries_have_neither_query_nor_fragment_of_the_url_and_keep_its_user() -> None:
    assert urls(html("file"), asked="http://host/dir/?C=M;O=A") == ["http://host/dir/file"]
    assert urls(html("file"), asked="http://user:pw@host/dir/#top") == ["http://user:pw@host/dir/file"]
    assert urls(html("file"), asked="http://host", final="http://host") == ["http://host/file"]


@pytest.mark.parametrize(
    "page",
    [
        b"",
        b"<html><head><title>Welcome</title></head><body><a href='about'>About</a></body></html>",
        b"<title>The Index of all</title><a href='file'>",
        b"<p>Index of /</p><a href='file'>",
        b"<div class='listings'><a href='file'></div>",
    ],
)
def test_a_website_is_not_a_list_of_files(page: bytes) -> None:
    with pytest.raises(UnsupportedFeature, match="listing a directory of this origin"):
        found(page)


@pytest.mark.parametrize(
    ("kind", "headers"),
    [
        ("text/plain", {}),
        ("application/octet-stream", {}),
        ("text/html", {"Content_Encoding": "gzip"}),
    ],
)
def test_only_pages_are_read(kind: str, headers: dict[str, str]) -> None:
    with pytest.raises(UnsupportedFeature):
        found(html("file"), kind=kind, **headers)


@pytest.mark.parametrize(
    "page",
    [
        b"{}",
        b"[1]",
        b'[{"name": "file"}]',
        b'[{"name": 1, "type": "file"}]',
        b'{"name": "file", "type": "file"}',
        b"[" * 100_000,
        b"[" + b"9" * 10_000 + b"]",
        b"not json",
        b"\xff\xfe",
    ],
    ids=range(9),
)
def test_json_of_another_kind_is_no_list_of_files(page: bytes) -> None:
    """Attack 43."""
    with pytest.raises(UnsupportedFeature):
        found(page, kind="application/json")


def test_attack_22_names_in_json_are_names_and_no_paths() -> None:
    names = ["..", ".", "", "../etc", "/etc", "a/b", "a\\\\b", "a\\u0000b", "\\ud800", "honest", "%2e%2e", "a?b"]
    rows = ",".join(f'{{"name": "{name}", "type": "file", "size": 3}}' for name in names)
    entries = found(f"[{rows}]".encode(), kind="application/json")
    assert [entry.url.removeprefix(ASKED) for entry in entries] == ["a%5Cb", "a%00b", "honest", "%252e%252e", "a%3Fb"]


@pytest.mark.parametrize("size", ["-1", "1.5", "true", '"9"', "null", "1e400", "9" * 30])
def test_a_size_that_makes_no_sense_is_unknown(size: str) -> None:
    [entry] = found(f'[{{"name": "a", "type": "file", "size": {size}}}]'.encode(), kind="application/json")
    assert entry.content_length is None


def test_what_is_neither_file_nor_directory_is_left_out() -> None:
    page = b'[{"name": "socket", "type": "other"}, {"name": "sub", "type": "directory"}]'
    assert found(page, kind="application/json") == [SourceEntry(url=f"{ASKED}sub/", is_directory=True)]


def test_a_page_that_names_too_many_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attack 43."""
    monkeypatch.setattr(http_listing, "ENTRY_LIMIT", 3)
    assert len(urls(html("a", "b", "c", "c"))) == 3
    with pytest.raises(SourceError, match="longer than 3 entries"):
        found(html("a", "b", "c", "d"))
    monkeypatch.setattr(http_listing, "JSON_LIMIT", 30)
    with pytest.raises(SourceError):
        found(b'[{"name": "a", "type": "file"}]', kind="application/json")
    monkeypatch.setattr(http_listing, "_LINK_LIMIT", 3)
    with pytest.raises(SourceError):
        found(html("a", "a", "a", "a"))


@pytest.mark.parametrize(
    "piece", ["<a ", "<a href='", "<a href=x <", "<!--", "<![CDATA[", "<div class='x", "<title", "&#"]
)
def test_a_malformed_page_costs_no_more_than_its_length(piece: str) -> None:
    """Attack 43."""
    page = f"<title>Index of /</title>{piece * (1_000_000 // len(piece))}".encode()
    assert found(page) == []


PIECES = st.sampled_from(
    [
        "a",
        "..",
        ".",
        "/",
        "%2f",
        "%2e",
        "%5c",
        "\\",
        "?",
        "#",
        "http:",
        "//",
        "host",
        "a%20b",
        "dir",
        "&#46;",
        "\0",
        "\n",
        "é",
    ]
)
LINKS = st.one_of(st.text(), st.lists(PIECES).map("".join))


@given(st.lists(LINKS, max_size=5), st.sampled_from([ASKED, "http://other/x/", "http://host/a%20b/dir/?q=/../"]))
def test_an_entry_is_always_directly_below_what_was_asked(links: list[str], final: str) -> None:
    """Attack 22."""
    for entry in found(html(*links).decode().encode("utf-8", "surrogatepass"), final=final):
        check_directly_below(entry)


@given(st.lists(st.one_of(st.text(), PIECES), max_size=5), st.sampled_from(["file", "directory"]))
def test_a_name_in_json_is_always_directly_below_what_was_asked(names: list[str], kind: str) -> None:
    """Attack 22."""
    rows = [{"name": name, "type": kind} for name in names]
    for entry in found(json.dumps(rows).encode(), kind="application/json"):
        check_directly_below(entry)


def check_directly_below(entry: SourceEntry) -> None:
    assert entry.url.startswith(ASKED)
    name = entry.url.removeprefix(ASKED)
    assert entry.url.isascii()
    assert entry.is_directory is name.endswith("/")
    name = name.removesuffix("/")
    assert unquote(name) not in ("", ".", "..")
    assert not {"/", "\\", "\0", "?", "#"} & set(name)
    assert "/" not in unquote(name)
    parse_http_url(entry.url)


@settings(max_examples=300)
@given(st.binary(), st.sampled_from(["text/html", "application/json", "text/html; charset=no-such"]))
def test_no_page_whatsoever_is_more_than_refused(page: bytes, kind: str) -> None:
    """Attack 43."""
    for start in (b"", b"<title>Index of /</title><a href="):
        try:
            entries = found(start + page, kind=kind)
        except UnsupportedFeature:
            continue
        for entry in entries:
            check_directly_below(entry)
