"""Index pages of web servers: which files and directories lie directly below a URL. Pure; bytes in, entries out.

Understood are the pages that nginx, Apache, lighttpd, Caddy and Python's http.server make of a directory, others that
call themselves an index in the same words, and nginx's JSON. Any other page is a website, not a list of files.

A page is written by the origin, or by whoever may put files there. So an entry is never what a link says but one path
segment taken from it and put behind the URL that was asked for: a link that leads up, elsewhere, or to more than one
level down is no entry, however it is spelled. A name with a backslash or a control character is an entry, spelled so
that it leads nowhere else: whoever cannot use it has to say so, for a file that is silently missing is worse.

If the origin redirected, links are read against where it led to, and the entries still stand below what was asked;
following them is redirected likewise.
"""

import json
import re
from collections.abc import Iterable, Iterator
from email.message import Message
from html import unescape
from html.parser import HTMLParser
from typing import NamedTuple
from urllib.parse import quote, unquote_to_bytes

from dragonfly.core.model.units import Bytes, KiB, MiB
from dragonfly.errors import InvalidUrl, SourceError, UnsupportedFeature
from dragonfly.source.http_address import ABSOLUTE, SENT_AS_IS, HttpAddress, parse_http_url, shown
from dragonfly.source.protocol import SourceEntry

PAGE_LIMIT: Bytes = 64 * MiB
JSON_LIMIT: Bytes = 16 * MiB  # parsed as a whole, into up to twenty times as much memory
ENTRY_LIMIT = 100_000
_LINK_LIMIT = 2 * ENTRY_LIMIT + 100  # an icon may be a link too, and there are some links of the page's own

# Tags are cut out first and parsed one by one: what is malformed then costs no more than its own few bytes, while the
# parser on the whole page takes time quadratic in it. And no number in one is too long for Python (4300 digits).
_LINK = re.compile(rb"<a\s[^<>]{1,4096}>", re.IGNORECASE)
_BLOCK = re.compile(rb"<(?:main|div|table|ul|ol)\s[^<>]{1,1024}>", re.IGNORECASE)
_HEADING = re.compile(rb"<(?:title|h1)(?:\s[^<>]{0,1024})?>([^<]{0,4096})", re.IGNORECASE)
_MARKS_WITHIN = 256 * KiB  # Caddy's own style sheet and icons come first, with 40 KiB
_CALLS_ITSELF_INDEX = re.compile(r"\s*(?:index of|directory listing|listing of|directory:)", re.IGNORECASE)
_IS_LISTING = re.compile(r"(?<![\w-])listing(?![\w-])", re.IGNORECASE)


class _Found(NamedTuple):
    """One entry as a page names it."""

    segment: str
    """Of the path, percent-encoded."""
    is_directory: bool
    content_length: Bytes | None = None


class _Attributes(HTMLParser):
    """The attributes of one tag."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found = {name: value or "" for name, value in reversed(attrs)}  # the first of a name counts


def listed(page: bytes | bytearray, headers: Message, final: HttpAddress, asked_url: str) -> list[SourceEntry]:
    """The entries of the page that `final` answered, below the URL that was asked for, in the page's order.

    The asked URL's query is not theirs. Raises UnsupportedFeature for what is no index page, SourceError for too long a
    one.
    """
    kind = headers.get_content_type()
    if headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
        raise _no_listing()
    if kind in ("text/html", "application/xhtml+xml") and _is_index(page):
        found = _of_html(page, final, asked_url)
    elif kind == "application/json":
        found = _of_json(page, asked_url)
    else:
        raise _no_listing()
    return _below(asked_url, found)


def _no_listing() -> UnsupportedFeature:
    return UnsupportedFeature(feature="listing a directory of this origin")


def _too_long(url: str) -> SourceError:
    return SourceError(
        url=shown(url), reason=f"its index page is longer than {ENTRY_LIMIT} entries or {JSON_LIMIT} bytes of JSON"
    )


def _below(asked_url: str, found: Iterable[_Found]) -> list[SourceEntry]:
    """Entries, the first of each name, below a URL whose path ends in a slash."""
    base = re.split(r"[?#]", asked_url, maxsplit=1)[0]
    base = base if base.endswith(("/", "\\")) else f"{base}/"  # http://host
    entries: dict[bytes, SourceEntry] = {}
    for segment, is_directory, length in found:
        name = unquote_to_bytes(segment)
        if name in entries or name in (b"", b".", b"..") or b"/" in name:
            continue
        if len(entries) == ENTRY_LIMIT:
            raise _too_long(asked_url)
        url = base + segment.replace("\\", "%5C") + "/" * is_directory  # a backslash would be read as a slash
        entries[name] = SourceEntry(url=url, is_directory=is_directory, content_length=length)
    return list(entries.values())


def _is_index(page: bytes | bytearray) -> bool:
    """Whether a page calls itself an index, or marks its table as a listing as Caddy does."""
    start = page[:_MARKS_WITHIN]
    if any(_CALLS_ITSELF_INDEX.match(unescape(_text(heading[1]))) for heading in _HEADING.finditer(start)):
        return True
    return any(
        _IS_LISTING.search(f"{found.get('class', '')} {found.get('id', '')}")
        for found in _attributes(_BLOCK.finditer(start))
    )


def _text(piece: bytes | bytearray) -> str:
    """Pages are mostly ASCII; bytes that are not UTF-8 come through as they are."""
    return piece.decode("utf-8", "surrogateescape")


def _attributes(tags: Iterable[re.Match[bytes]]) -> Iterator[dict[str, str]]:
    parser = _Attributes()
    for tag in tags:
        parser.reset()
        parser.found = {}
        parser.feed(_text(tag[0]))
        yield parser.found


def _of_html(page: bytes | bytearray, final: HttpAddress, asked_url: str) -> Iterator[_Found]:
    for number, found in enumerate(_attributes(_LINK.finditer(page))):
        if number == _LINK_LIMIT:
            raise _too_long(asked_url)
        if entry := _linked(found.get("href", ""), final):
            yield entry


def _linked(href: str, final: HttpAddress) -> _Found | None:
    """What a link names directly below `final`; None if it leads elsewhere, or sorts the page."""
    try:
        href = quote(href.strip(" \t\r\n\f"), safe=SENT_AS_IS, errors="surrogateescape")
    except UnicodeEncodeError:
        return None
    path = None if "?" in href or "#" in href else _path(href, final)
    if path is None:
        return None
    here, there = final.directory.split("/"), path.split("/")
    depth = len(here) - 1  # a directory's last piece is empty
    if [*map(unquote_to_bytes, there[:depth])] != [*map(unquote_to_bytes, here[:depth])]:
        return None
    match there[depth:]:
        case [segment]:
            return _Found(segment, is_directory=False)
        case [segment, ""]:
            return _Found(segment, is_directory=True)
    return None


def _path(href: str, final: HttpAddress) -> str | None:
    """The path a link means, seen from `final`; None if it is another origin's. Only `.` at its start is resolved."""
    if href.startswith("//"):
        href = f"{final.scheme}:{href}"
    if ABSOLUTE.match(href):
        try:
            address = parse_http_url(href)
        except InvalidUrl:
            return None
        return address.target if address.origin == final.origin else None
    if href.startswith("/"):
        return href
    while href.startswith("./"):
        href = href[2:]
    return final.directory + href


def _of_json(page: bytes | bytearray, asked_url: str) -> Iterator[_Found]:
    """nginx's `autoindex_format json`: objects with name, type and, for files, size; names are not encoded."""
    if len(page) > JSON_LIMIT:
        raise _too_long(asked_url)
    try:
        rows = json.loads(_text(page))
    except (ValueError, RecursionError) as error:
        raise _no_listing() from error
    if not isinstance(rows, list) or not all(_is_row(row) for row in rows):
        raise _no_listing()
    for row in rows:
        if row["type"] in ("file", "directory"):
            try:
                segment = quote(row["name"], safe="", errors="surrogateescape")
            except UnicodeEncodeError:  # half a character, by an escape of JSON
                continue
            yield _Found(segment, row["type"] == "directory", _length(row.get("size")))


def _is_row(row: object) -> bool:
    return isinstance(row, dict) and isinstance(row.get("name"), str) and isinstance(row.get("type"), str)


def _length(size: object) -> Bytes | None:
    return size if type(size) is int and 0 <= size < 1 << 63 else None
