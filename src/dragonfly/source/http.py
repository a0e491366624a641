"""HTTP and HTTPS origins, read by blocking threads.

A file is described by a GET of its first byte, because a signed URL is good for one method only, and read by GETs of
ranges, each compared with that description: bytes of two versions of a file never meet in one sink.

Failures are counted between bytes. A read that breaks off after some bytes goes on behind the last one delivered and
starts counting anew; one that gets nowhere is tried again `max_retries` times, then its error stands.

A file whose length the origin does not tell is read from its first byte to where the answer ends, and has to end as
HTTP says that it does: see `http_connection.Answer.blocks` for what counts as an end, `http_reading` for what follows.

Differs from upstream: certificates are verified unless the request says otherwise; every redirect status is followed,
with a limit and without credentials for strangers; proxies of the environment are not used.
"""

import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import TypeVar

from dragonfly.core.model.ranges import ByteRange
from dragonfly.core.model.units import Bytes, KiB, Seconds
from dragonfly.errors import (
    InvalidRange,
    SourceError,
    SourceLengthUnknown,
    SourceNameUnknown,
    SourceRangeUnsupported,
    SourceUnreachable,
    UnsupportedFeature,
)
from dragonfly.source.dialling import CONNECT_TIMEOUT, Dialler
from dragonfly.source.egress import EgressPolicy, off_link
from dragonfly.source.http_answer import (
    content_length,
    refusal,
    stat_of_both,
    stat_of_empty,
    stat_of_part,
    stat_of_whole,
    still_known,
)
from dragonfly.source.http_connection import Answer, ConnectionPool, Interrupted, PoolClosed
from dragonfly.source.http_listing import PAGE_LIMIT, listed
from dragonfly.source.http_reading import Reading, SpanReading, WholeReading
from dragonfly.source.http_request import REDIRECTS, HttpRequest, prepared
from dragonfly.source.protocol import Sink, SourceEntry, SourceRequest, SourceStat

BUFFER_LENGTH: Bytes = 256 * KiB  # measured: larger ones leave the cache, smaller ones cost more calls
MAX_RETRIES = 2
FIRST_DELAY: Seconds = 0.2
DELAY_FACTOR = 5
DELAY_LIMIT: Seconds = 10.0
_FIRST_BYTE = ByteRange(0, 1).header()
Result = TypeVar("Result")


class HttpSource:
    """A `Source` for http and https URLs. Thread-safe; connections are kept between calls."""

    def __init__(
        self,
        *,
        ca_file: Path | None = None,
        policy: EgressPolicy = off_link,
        max_retries: int = MAX_RETRIES,
        request_header: Mapping[str, str] | None = None,
        sleep: Callable[[Seconds], object] | None = None,
        connect_timeout: Seconds = CONNECT_TIMEOUT,
    ) -> None:
        """`ca_file` is trusted beside the system's authorities; `policy` says which addresses may be connected to.

        What fails is asked for `max_retries` times more, after delays that grow. `request_header` is added to requests
        that lack those headers. `sleep` is for tests; by default a wait ends early when the source is closed.
        """
        self._closing = threading.Event()
        self._delays = [min(FIRST_DELAY * DELAY_FACTOR**number, DELAY_LIMIT) for number in range(max_retries)]
        self._request_header = dict(request_header or {})
        self._sleep = sleep or self._closing.wait
        self._buffers = threading.local()
        self.pool = ConnectionPool(Dialler(ca_file=ca_file, policy=policy, timeout=connect_timeout))

    def stat(self, request: SourceRequest, *, timeout: Seconds, known: SourceStat | None = None) -> SourceStat:
        """Length and validators, in one request; in two where an origin refuses ranges or keeps the length to itself.

        With `known` it is one conditional request where that still holds.
        """
        hop = prepared(request, self._request_header)
        return self._patiently(lambda: self._stat_once(hop, known, timeout))

    def read(
        self, request: SourceRequest, stat: SourceStat, span: ByteRange | None, sink: Sink, *, timeout: Seconds
    ) -> None:
        """Send exactly `span` to `sink`. The sink's memory is this thread's: it must not read from a source itself.

        Without a span it is the whole file; a body whose end is not certain raises SourceTruncated after its bytes.
        Only where an origin without TLS gives neither length nor chunks, nobody can tell an early end from the end.
        """
        hop = prepared(request, self._request_header)
        reading = _reading(hop, stat, span, sink)
        while not reading.is_done:
            end = self._patiently(lambda: self._go_on(reading, timeout))
            if end is not None and (self._closing.is_set() or not reading.can_resume):
                raise reading.truncated(end) from end

    def entries(self, request: SourceRequest, *, timeout: Seconds) -> list[SourceEntry]:
        """What the index page behind a URL names, directly below it; `http_listing` says which pages are understood."""
        hop = prepared(request, self._request_header)
        if not hop.address.target.partition("?")[0].endswith("/"):
            raise UnsupportedFeature(feature="listing a URL that does not end in a slash")
        return self._patiently(lambda: self._entries_once(hop, timeout))

    def close(self) -> None:
        """End every wait and transfer, in other threads too; what is asked afterwards fails."""
        self._closing.set()
        self.pool.close()

    def _patiently(self, attempt: Callable[[], Result]) -> Result:
        for delay in self._delays:
            try:
                return attempt()
            except SourceError as error:
                if self._closing.is_set() or not _may_pass(error):
                    raise
            self._sleep(delay)
        return attempt()

    def _stat_once(self, hop: HttpRequest, known: SourceStat | None, timeout: Seconds) -> SourceStat:
        asked = hop.unless(known) if known else hop
        with self._final_answer(asked, _FIRST_BYTE, timeout) as answer:
            match answer.status:
                case HTTPStatus.PARTIAL_CONTENT:
                    part: SourceStat | None = stat_of_part(answer.headers, hop.shown_url)
                    answer.drain()
                case HTTPStatus.OK | HTTPStatus.NON_AUTHORITATIVE_INFORMATION:
                    return stat_of_whole(answer.headers, hop.shown_url)
                case HTTPStatus.NOT_MODIFIED if known and asked.conditions:
                    return still_known(known, answer.headers, hop.shown_url)
                case HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                    part = stat_of_empty(answer.headers)
                    answer.drain()
                case status:
                    answer.drain()
                    raise refusal(status, hop.shown_url)
        if part is not None and part.content_length is not None:
            return part
        return self._stat_without_range(hop, part, timeout)

    def _stat_without_range(self, hop: HttpRequest, part: SourceStat | None, timeout: Seconds) -> SourceStat:
        """For origins that refuse the range of a file that has bytes, or answered it by a `part` of unknown length."""
        with self._final_answer(hop, None, timeout) as answer:
            if answer.status == HTTPStatus.OK:
                url = hop.shown_url
                return stat_of_both(part, answer.headers, url) if part else stat_of_whole(answer.headers, url)
            answer.drain()
            if part is None:
                raise refusal(answer.status, hop.shown_url)
            return part

    def _go_on(self, reading: Reading, timeout: Seconds) -> BaseException | None:
        """One request for what is missing. If it brought only some of it, what ended it is returned; None is all."""
        reached = reading.reached
        with self._final_answer(reading.hop, reading.range, timeout) as answer:
            try:
                length = reading.judge(answer.status, answer.headers)
            except SourceError:
                answer.drain()
                raise
            try:
                for block in answer.blocks(self._buffer(), length):
                    reading.deliver(block)
            except Interrupted as end:
                cause = end.__cause__ or end
                if reading.reached == reached:
                    raise reading.truncated(cause) from cause
                return cause
        reading.end_body()
        return None

    def _entries_once(self, hop: HttpRequest, timeout: Seconds) -> list[SourceEntry]:
        with self._final_answer(hop, None, timeout) as answer:
            if answer.status != HTTPStatus.OK:
                answer.drain()
                raise refusal(answer.status, hop.shown_url)
            page = bytearray()
            try:
                for block in answer.blocks(self._buffer(), content_length(answer.headers, hop.shown_url)):
                    page += block
                    if len(page) > PAGE_LIMIT:
                        raise SourceError(url=hop.shown_url, reason=f"its index page exceeds {PAGE_LIMIT} bytes")
            except Interrupted as end:
                raise SourceUnreachable(url=hop.shown_url, reason="its index page broke off") from end
            return listed(page, answer.headers, answer.address, hop.url)

    def _final_answer(self, hop: HttpRequest, span: str | None, timeout: Seconds) -> Answer:
        """The first answer that is no redirect. Raises our errors for everything that keeps one from coming."""
        while True:
            answer = self._answer(hop, span, timeout)
            if answer.status not in REDIRECTS:
                return answer
            with answer:
                answer.drain()
                hop = hop.redirected(answer.headers.get("Location"))

    def _answer(self, hop: HttpRequest, span: str | None, timeout: Seconds) -> Answer:
        try:
            return self.pool.ask(hop.address, hop.headers_for(span), trust=hop.trust, timeout=timeout)
        except (OSError, HTTPException, PoolClosed) as error:
            raise _without_answer(error, hop, timeout) from error

    def _buffer(self) -> memoryview:
        """This thread's block of memory, reused for every read."""
        try:
            buffer: memoryview = self._buffers.view
        except AttributeError:
            buffer = self._buffers.view = memoryview(bytearray(BUFFER_LENGTH))
        return buffer


def _reading(hop: HttpRequest, stat: SourceStat, span: ByteRange | None, sink: Sink) -> Reading:
    """What a read asks for, if it can be had."""
    length = stat.content_length
    if length is None:
        if span is not None:
            raise SourceLengthUnknown(url=hop.shown_url)
        return WholeReading(hop, stat, sink)
    if span is None:
        return SpanReading(hop, stat, 0, length, sink)
    if span.end > length:
        raise InvalidRange(text=span.header(), reason=f"outside the content of {length} bytes")
    if span.start and not stat.supports_ranges:
        raise SourceRangeUnsupported(url=hop.shown_url)
    return SpanReading(hop, stat, span.start, span.end, sink)


def _may_pass(error: SourceError) -> bool:
    """Whether the same request could be answered better in a moment."""
    if isinstance(error.__cause__, ssl.SSLCertVerificationError):
        return False
    if isinstance(error.__cause__, socket.gaierror):
        return error.__cause__.errno == socket.EAI_AGAIN
    return error.retryable


def _without_answer(error: Exception, hop: HttpRequest, timeout: Seconds) -> SourceError:
    """Our error for a request that never got an answer."""
    url, host = hop.shown_url, hop.address.host
    match error:
        case PoolClosed():
            return SourceUnreachable(url=url, reason="downloads are being stopped")
        case socket.gaierror():
            return SourceNameUnknown(host=host, url=url)
        case ssl.SSLCertVerificationError():
            return SourceUnreachable(url=url, reason=f"its TLS certificate is not trusted: {error.verify_message}")
        case ssl.SSLEOFError():
            return SourceUnreachable(url=url, reason="TLS failed: the connection was closed without a goodbye")
        case ssl.SSLError():
            return SourceUnreachable(url=url, reason=f"TLS failed: {error.reason or 'the connection was closed'}")
        case TimeoutError():
            return SourceUnreachable(url=url, reason=f"no answer within {timeout:g} s")
        case OSError():
            return SourceUnreachable(url=url, reason=error.strerror or "the connection was closed without an answer")
    return SourceError(url=url, reason=f"it does not speak HTTP as we know it ({type(error).__name__})")
