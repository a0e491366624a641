"""What an HTTP origin's answer means: the length and identity of a file, or the error to raise.

A file's identity is its length, its ETag and its Last-Modified date. Strong ETags settle it; where there are none the
date speaks, because mirrors behind one name often make up weak ETags each for itself.

The content is the bytes as the origin sends them. It is asked for no encoding; if it sends gzip all the same, the
encoded bytes are the content, their count is its length, and nothing is decoded anywhere: they are what validators,
ranges and length are about, and no small file grows large here.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from email.message import Message
from http import HTTPStatus
from typing import NamedTuple

from dragonfly.core.model.ranges import ByteRange
from dragonfly.core.model.units import Bytes, Seconds
from dragonfly.core.model.version import FileVersion
from dragonfly.errors import (
    SourceChanged,
    SourceError,
    SourceForbidden,
    SourceNotFound,
    SourceRangeUnsupported,
    SourceRefused,
    SourceUnavailable,
)
from dragonfly.source.protocol import SourceStat

_NUMBER = re.compile(r"[0-9]{1,18}")  # any file's length fits, and no integer is worth an attack
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)", re.IGNORECASE)
_UNSATISFIED = re.compile(r"bytes \*/([0-9]{1,18})", re.IGNORECASE)
_OF_THE_TRANSFER = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
    | {
        "content-length",
        "content-range",
        "set-cookie",
        "set-cookie2",
    }  # a cookie is for one caller, the stored file is for all
)


class ContentRange(NamedTuple):
    """A `Content-Range` header; `total` is None where the origin writes `*`."""

    start: Bytes
    length: Bytes
    total: Bytes | None


def refusal(status: int, headers: Message, url: str) -> SourceError:
    """The error an answer's status stands for, of those that carry no file.

    Where the origin says when to come back, the fact `retry_after` of a SourceUnavailable has the seconds.
    """
    match status:
        case 404 | 410:
            return SourceNotFound(url=url, status=status)
        case 401 | 403:
            return SourceForbidden(url=url, status=status)
        case 429 | 503 if (seconds := _retry_after(headers)) is not None:
            return SourceUnavailable(url=url, status=status, retry_after=seconds)
        case _ if status in (408, 429) or status >= 500:
            return SourceUnavailable(url=url, status=status)
    return SourceRefused(url=url, status=status)


def _retry_after(headers: Message) -> Seconds | None:
    """Seconds only: a date would be read by a clock that may differ from the origin's."""
    text = headers.get("Retry-After", "").strip()
    return float(text) if _NUMBER.fullmatch(text) else None


def stat_of_part(headers: Message, url: str) -> SourceStat:
    """The file behind a 206 that was asked for its first byte; its length is None where the origin writes `*`."""
    part = content_range(headers)
    if part is None or (part.start, part.length) != (0, 1):
        raise SourceError(url=url, reason=f"asked for the first byte it answers {headers['Content-Range']!r}")
    return _stat(headers, part.total, supports_ranges=True)


def stat_of_whole(headers: Message, url: str) -> SourceStat:
    """The file behind a 200 that was asked for one byte: the origin does not know ranges, and perhaps no length."""
    return _stat(headers, content_length(headers, url), supports_ranges=False)


def stat_of_head(headers: Message) -> SourceStat | None:
    """The file behind a HEAD's 200, with ranges if it announces them; None where it is of no use."""
    try:
        length = content_length(headers, "")
    except SourceError:
        return None
    if not length or headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
        return None  # no length; or what common servers say where they made no content, or will encode it otherwise
    announced = {unit.strip().lower() for unit in headers.get("Accept-Ranges", "").split(",")}
    return _stat(headers, length, supports_ranges="bytes" in announced)


def stat_of_both(part: SourceStat, headers: Message, url: str) -> SourceStat:
    """The file behind a 206 that did not tell the length and a 200 that may. Raises SourceChanged between versions."""
    check_identity(headers, part, url)
    return replace(stat_of_whole(headers, url), supports_ranges=True)


def still_known(known: SourceStat, headers: Message, url: str) -> SourceStat:
    """What is known, confirmed by a 304. Raises SourceError if that names another version than was asked about."""
    named = FileVersion(known.content_length, headers.get("ETag", "").strip(), headers.get("Last-Modified", "").strip())
    if difference := known.version.difference(named):
        raise SourceError(url=url, reason=f"it says that nothing changed, but {difference}")
    return replace(known, is_unchanged=True)


def stat_of_empty(headers: Message) -> SourceStat | None:
    """The empty file behind a 416, of which no byte could be had; None if the 416 says something else."""
    return _stat(headers, 0, supports_ranges=True) if unsatisfied_length(headers) == 0 else None


def unsatisfied_length(headers: Message) -> Bytes | None:
    """The file's length as a 416 tells it; None if it does not."""
    match = _UNSATISFIED.fullmatch(headers.get("Content-Range", "").strip())
    return int(match[1]) if match else None


def _stat(headers: Message, total: Bytes | None, *, supports_ranges: bool) -> SourceStat:
    return SourceStat(
        content_length=total,
        headers=_as_for_whole(headers, total),
        etag=headers.get("ETag", "").strip(),
        last_modified=headers.get("Last-Modified", "").strip(),
        supports_ranges=supports_ranges,
    )


def _as_for_whole(headers: Message, total: Bytes | None) -> dict[str, str]:
    """The headers a whole-file answer would have had. Names keep the origin's spelling; repeated ones are joined."""
    kept: dict[str, str] = {}
    spelled: dict[str, str] = {}
    for name, value in headers.items():
        if name.lower() not in _OF_THE_TRANSFER:
            first = spelled.setdefault(name.lower(), name)
            kept[first] = f"{kept[first]}, {value}" if first in kept else value
    return kept if total is None else kept | {"Content-Length": str(total)}


def content_length(headers: Message, url: str) -> Bytes | None:
    """The body's length; None if it is chunked or ends with the connection. Raises SourceError if it is nonsense."""
    if "Transfer-Encoding" in headers:
        coding = ", ".join(headers.get_all("Transfer-Encoding", []))
        if coding.strip().lower() != "chunked":  # no other was offered, and its framing would pass for content
            raise SourceError(url=url, reason=f"it uses the transfer coding {coding!r} unasked")
        return None
    if "Content-Length" not in headers:
        return None
    said = {value.strip() for value in headers.get_all("Content-Length", [])}
    text = said.pop()
    if said or not _NUMBER.fullmatch(text):
        raise SourceError(url=url, reason="its Content-Length cannot be read")
    return int(text)


def content_range(headers: Message) -> ContentRange | None:
    """The part an answer carries; None if it does not say so in a readable way, or carries several."""
    match = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", "").strip())
    if match is None or int(match[2]) < int(match[1]):
        return None
    return ContentRange(int(match[1]), int(match[2]) - int(match[1]) + 1, None if match[3] == "*" else int(match[3]))


def check_body(status: int, headers: Message, stat: SourceStat, wanted: ByteRange, url: str) -> None:
    """Whether the body is `wanted`, or starts with it, of the file `stat` described. Raises a SourceError if not."""
    match status:
        case HTTPStatus.PARTIAL_CONTENT:
            check_identity(headers, stat, url)
            _check_part(headers, stat, wanted, url)
        case HTTPStatus.OK:
            check_identity(headers, stat, url)
            _check_whole(headers, stat, wanted, url)
        case HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise SourceChanged(url=url, reason=f"it has no bytes {wanted.start} to {wanted.end - 1} any more")
        case _:
            raise refusal(status, headers, url)


def _check_part(headers: Message, stat: SourceStat, wanted: ByteRange, url: str) -> None:
    if content_range(headers) != (wanted.start, wanted.length, stat.content_length):
        expected = f"bytes {wanted.start}-{wanted.end - 1}/{stat.content_length}"
        raise SourceChanged(url=url, reason=f"asked for {expected} it answers {headers['Content-Range']!r}")
    if content_length(headers, url) not in (None, wanted.length):
        raise SourceChanged(
            url=url, reason=f"{wanted.length} bytes were asked for, {headers['Content-Length']} announced"
        )


def _check_whole(headers: Message, stat: SourceStat, wanted: ByteRange, url: str) -> None:
    length = content_length(headers, url)
    if length != stat.content_length:
        said = "of unknown length" if length is None else f"{length} bytes long"
        raise SourceChanged(url=url, reason=f"it was {stat.content_length} bytes long and is now {said}")
    if wanted.start:
        raise SourceRangeUnsupported(url=url)


def check_identity(headers: Message, stat: SourceStat, url: str) -> None:
    """Raises SourceChanged if the answer is about another version of the file, or another encoding of it."""
    encoding = headers.get("Content-Encoding", "").strip().lower()
    if encoding != _value(stat.headers, "content-encoding").lower():
        raise SourceChanged(url=url, reason=f"its content encoding is now {encoding or 'identity'}")
    etag, date = headers.get("ETag", "").strip(), headers.get("Last-Modified", "").strip()
    if difference := stat.version.difference(FileVersion(stat.content_length, etag, date)):
        raise SourceChanged(url=url, reason=difference)


def _value(headers: Mapping[str, str], wanted: str) -> str:
    return next((value.strip() for name, value in headers.items() if name.lower() == wanted), "")
