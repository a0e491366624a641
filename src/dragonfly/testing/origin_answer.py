"""What the test origin offers, what it was told to do wrong, and the answer both make to a request. No sockets."""

import gzip
import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from email.utils import formatdate, parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path

from dragonfly.core.model.ranges import ByteRange, parse_range_header
from dragonfly.core.model.units import Bytes, Seconds
from dragonfly.errors import InvalidRange

OCTETS = "application/octet-stream"
_WITHOUT_BODY = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One way to be a bad origin; facts that are left alone stay right. Several can be combined."""

    status: int | None = None
    """Answer this and no file."""
    close_after: Bytes | None = None
    """Close the connection after so many bytes of the body; 0 closes it before the head. The last chunk is not sent."""
    reset: bool = False
    """Where the connection is closed early, break it off instead."""
    no_length: bool = False
    """Send the body in chunks, with nothing that tells its length."""
    until_close: bool = False
    """Send the body without length or chunks, and close the connection, with TLS's goodbye, to say where it ends."""
    unknown_total: bool = False
    """Send parts without saying how long the whole is."""
    gzip: bool = False
    """Send the file in gzip's encoding, whatever the client accepts; ranges are of that."""
    ignore_range: bool = False
    """Answer every request with the whole file."""
    ignore_conditions: bool = False
    """Send the file to those who have it."""
    changes_after: Bytes | None = None
    """Once so many bytes of this path were sent, be a newer version: other validators, and `becomes` as content."""
    becomes: bytes | None = None
    """The newer version's content; None keeps the bytes."""
    first_byte_after: Seconds = 0.0
    """Silence before the head."""
    silent_after: Bytes | None = None
    """Send nothing after so many bytes of the body, but keep the connection open."""
    redirect: str | None = None
    """Answer with this Location, and `status` or 302."""
    authorization: str | None = None
    """Answer 401 to requests without exactly this Authorization."""
    headers: Mapping[str, str | None] = field(default_factory=dict)
    """Headers to add or to get wrong; None leaves one out."""
    head: "Fault | None" = None
    """What is wrong with answers to HEAD, instead of all this."""
    times: int | None = None
    """For so many requests; None means always."""
    then: "Fault | None" = None
    """What is wrong with the path after that; None is nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """One version of one file: bytes in memory, or a path that is opened anew for each request."""

    body: bytes | Path
    length: Bytes
    etag: str
    last_modified: str
    content_type: str = OCTETS

    def compressed(self) -> "Content":
        """The same in gzip's encoding, which has a tag of its own."""
        body = self.body if isinstance(self.body, bytes) else self.body.read_bytes()
        packed = gzip.compress(body, mtime=0)
        return replace(self, body=packed, length=len(packed), etag=f'"{self.etag.strip(chr(34))}-gzip"')

    def is_known_to(self, request: "Request") -> bool:
        """Whether the request's conditions say that the client has this version. The tag decides if there is one."""
        tags = request.headers.get("if-none-match")
        if tags is not None:
            return self.etag in [tag.strip().removeprefix("W/") for tag in tags.split(",")]
        try:
            since = parsedate_to_datetime(request.headers.get("if-modified-since", ""))
        except ValueError:
            return False
        return parsedate_to_datetime(self.last_modified) <= since

    def newer(self, becomes: bytes | None) -> "Content":
        """The version after an edit; the same bytes if `becomes` is None."""
        newer = self if becomes is None else of_bytes(becomes)
        return replace(newer, etag=f'"{newer.etag.strip(chr(34))}-edited"', last_modified=formatdate(2e9, usegmt=True))


def of_bytes(body: bytes, content_type: str = OCTETS) -> Content:
    """Content in memory, with a validator of its own."""
    return Content(
        body=body,
        length=len(body),
        etag=f'"{hashlib.sha256(body).hexdigest()[:16]}"',
        last_modified=formatdate(1.7e9, usegmt=True),
        content_type=content_type,
    )


def of_file(path: Path) -> Content:
    """Content of a file as it is now. Raises OSError."""
    facts = path.stat()
    return Content(
        body=path,
        length=facts.st_size,
        etag=f'"{facts.st_mtime_ns:x}-{facts.st_size:x}"',
        last_modified=formatdate(facts.st_mtime, usegmt=True),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request as it came; header names in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]

    @property
    def kind(self) -> str:
        """What is asked for: only the facts ("head"), or the file if it changed ("conditional"), else some of it
        ("ranged"), else all ("whole")."""
        if self.method == "HEAD":
            return "head"
        if {"if-none-match", "if-modified-since"} & self.headers.keys():
            return "conditional"
        return "ranged" if "range" in self.headers else "whole"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What to send: a head, and `length` bytes of `body` from `start` on. A sender only carries it out."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Path = b""
    start: Bytes = 0
    length: Bytes = 0
    chunked: bool = False
    until_close: bool = False
    reset: bool = False
    close_after: Bytes | None = None
    silent_after: Bytes | None = None
    first_byte_after: Seconds = 0.0

    def head(self) -> bytes:
        """Status line and headers, as sent."""
        reason = HTTPStatus(self.status).phrase if self.status in HTTPStatus._value2member_map_ else "Unknown"
        lines = [f"HTTP/1.1 {self.status} {reason}", *(f"{name}: {value}" for name, value in self.headers.items())]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")


def answer(request: Request, content: Content | None, fault: Fault, sent: Bytes = 0) -> Answer:
    """What the origin says. `content` is None for an unknown path; `sent` counts the path's body bytes until now."""
    if request.method == "HEAD" and fault.head is not None:
        fault = fault.head
    if request.method not in ("GET", "HEAD"):
        planned = _plain(HTTPStatus.METHOD_NOT_ALLOWED, {"Allow": "GET, HEAD"})
    elif fault.authorization is not None and request.headers.get("authorization") != fault.authorization:
        planned = _plain(HTTPStatus.UNAUTHORIZED, {"WWW-Authenticate": 'Basic realm="origin"'})
    elif fault.redirect is not None:
        planned = _plain(fault.status or HTTPStatus.FOUND, {"Location": fault.redirect})
    elif fault.status is not None:
        planned = _plain(fault.status)
    elif content is None:
        planned = _plain(HTTPStatus.NOT_FOUND)
    else:
        changed = fault.changes_after is not None and sent >= fault.changes_after
        version = content.newer(fault.becomes) if changed else content
        planned = _file(request, version.compressed() if fault.gzip else version, fault)
    return _spoiled(planned, fault, head_only=request.method == "HEAD")


def _plain(status: int, headers: Mapping[str, str] | None = None) -> Answer:
    if status in _WITHOUT_BODY:
        return Answer(status=status, headers=headers or {})
    body = f"{status}\n".encode()
    return Answer(
        status=status, headers={**(headers or {}), "Content-Length": str(len(body))}, body=body, length=len(body)
    )


def _file(request: Request, content: Content, fault: Fault) -> Answer:
    headers = {"ETag": content.etag, "Last-Modified": content.last_modified, "Accept-Ranges": "bytes"}
    if content.is_known_to(request) and not fault.ignore_conditions:
        return Answer(status=HTTPStatus.NOT_MODIFIED, headers=headers)
    headers["Content-Type"] = content.content_type
    if fault.gzip:
        headers["Content-Encoding"] = "gzip"
    asked = request.headers.get("range", "")
    if not asked or "," in asked or fault.ignore_range:
        headers["Content-Length"] = str(content.length)
        return Answer(status=HTTPStatus.OK, headers=headers, body=content.body, length=content.length)
    try:
        span = parse_range_header(asked, content.length)
    except InvalidRange:
        return _plain(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, {"Content-Range": f"bytes */{content.length}"})
    return _part(content, span, headers, "*" if fault.unknown_total else str(content.length))


def _part(content: Content, span: ByteRange, headers: Mapping[str, str], total: str) -> Answer:
    stated = {
        "Content-Range": f"bytes {span.start}-{span.end - 1}/{total}",
        "Content-Length": str(span.length),
    }
    return Answer(
        status=HTTPStatus.PARTIAL_CONTENT,
        headers={**headers, **stated},
        body=content.body,
        start=span.start,
        length=span.length,
    )


def _spoiled(planned: Answer, fault: Fault, *, head_only: bool) -> Answer:
    headers = dict(planned.headers)
    has_body = "Content-Length" in headers
    if has_body and (fault.no_length or fault.until_close):
        del headers["Content-Length"]
        headers |= {"Transfer-Encoding": "chunked"} if fault.no_length else {"Connection": "close"}
    headers = {name: value for name, value in (headers | dict(fault.headers)).items() if value is not None}
    return replace(
        planned,
        headers=headers,
        length=0 if head_only else planned.length,
        chunked=fault.no_length and has_body and not head_only,
        until_close=fault.until_close and has_body,
        reset=fault.reset,
        close_after=fault.close_after,
        silent_after=fault.silent_after,
        first_byte_after=fault.first_byte_after,
    )


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """A file descriptor to send from."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
