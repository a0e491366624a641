"""HTTP and HTTPS origins, read by blocking threads.

A file is described by a GET of its first byte, because a signed URL is good for one method only, and read by GETs of
ranges, each compared with that description: bytes of two versions of a file never meet in one sink.

Failures are counted between bytes. A read that breaks off after some bytes goes on behind the last one delivered and
starts counting anew; one that gets nowhere is tried again after each of `delays`, then its error stands.

Differs from upstream: certificates are verified unless the request says otherwise; every redirect status is followed,
with a limit and without credentials for strangers; proxies of the environment are not used.
"""

import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import TypeVar

from dragonfly.core.model.ranges import ByteRange
from dragonfly.core.model.units import Bytes, KiB, Seconds
from dragonfly.errors import (
    InvalidRange,
    SourceError,
    SourceNameUnknown,
    SourceRangeUnsupported,
    SourceTruncated,
    SourceUnreachable,
)
from dragonfly.source.dialling import CONNECT_TIMEOUT, Dialler
from dragonfly.source.egress import EgressPolicy, off_link
from dragonfly.source.http_answer import check_body, refusal, stat_of_empty, stat_of_part, stat_of_whole
from dragonfly.source.http_connection import Answer, ConnectionPool, Interrupted, PoolClosed
from dragonfly.source.http_request import REDIRECTS, HttpRequest, prepared
from dragonfly.source.protocol import Sink, SourceRequest, SourceStat

BUFFER_LENGTH: Bytes = 256 * KiB  # measured: larger ones leave the cache, smaller ones cost more calls
DELAYS: Sequence[Seconds] = (0.2, 1.0)
_FIRST_BYTE = ByteRange(0, 1)
Result = TypeVar("Result")


class HttpSource:
    """A `Source` for http and https URLs. Thread-safe; connections are kept between calls."""

    def __init__(
        self,
        *,
        ca_file: Path | None = None,
        policy: EgressPolicy = off_link,
        delays: Sequence[Seconds] = DELAYS,
        sleep: Callable[[Seconds], object] | None = None,
        connect_timeout: Seconds = CONNECT_TIMEOUT,
    ) -> None:
        """`ca_file` is trusted beside the system's authorities; `policy` says which addresses may be connected to.

        `delays` are waited between tries, so there is one try more than delays. `sleep` is for tests; by default a
        wait ends early when the source is closed.
        """
        self._closing = threading.Event()
        self._delays = tuple(delays)
        self._sleep = sleep or self._closing.wait
        self._buffers = threading.local()
        self.pool = ConnectionPool(Dialler(ca_file=ca_file, policy=policy, timeout=connect_timeout))

    def stat(self, request: SourceRequest, *, timeout: Seconds) -> SourceStat:
        """Length and validators. Raises SourceLengthUnknown for a file whose length the origin does not tell."""
        hop = prepared(request)
        return self._patiently(lambda: self._stat_once(hop, timeout))

    def read(self, request: SourceRequest, stat: SourceStat, span: ByteRange, sink: Sink, *, timeout: Seconds) -> None:
        """Send exactly `span` to `sink`. The sink's memory is this thread's: it must not read from a source itself."""
        hop = prepared(request)
        if span.end > stat.content_length:
            raise InvalidRange(text=span.header(), reason=f"outside the content of {stat.content_length} bytes")
        if span.start and not stat.supports_ranges:
            raise SourceRangeUnsupported(url=hop.shown_url)
        reading = _Reading(hop, stat, span, sink)
        while not reading.is_done:
            end = self._patiently(lambda: self._go_on(reading, timeout))
            if end is not None and (self._closing.is_set() or not stat.supports_ranges):
                raise reading.truncated(end) from end

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

    def _stat_once(self, hop: HttpRequest, timeout: Seconds) -> SourceStat:
        with self._final_answer(hop, _FIRST_BYTE, timeout) as answer:
            match answer.status:
                case HTTPStatus.PARTIAL_CONTENT:
                    stat = stat_of_part(answer.headers, hop.shown_url)
                    answer.drain()
                    return stat
                case HTTPStatus.OK | HTTPStatus.NON_AUTHORITATIVE_INFORMATION:
                    return stat_of_whole(answer.headers, hop.shown_url)
                case HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                    answer.drain()
                    empty = stat_of_empty(answer.headers)
                case status:
                    answer.drain()
                    raise refusal(status, hop.shown_url)
        return empty or self._stat_without_range(hop, timeout)

    def _stat_without_range(self, hop: HttpRequest, timeout: Seconds) -> SourceStat:
        """For origins that refuse the range of a file that has bytes."""
        with self._final_answer(hop, None, timeout) as answer:
            if answer.status != HTTPStatus.OK:
                raise refusal(answer.status, hop.shown_url)
            return stat_of_whole(answer.headers, hop.shown_url)

    def _go_on(self, reading: "_Reading", timeout: Seconds) -> BaseException | None:
        """One request for what is missing. If it brought only some of it, what ended it is returned; None is all."""
        reached = reading.reached
        wanted = reading.rest
        with self._final_answer(reading.hop, wanted if reading.stat.supports_ranges else None, timeout) as answer:
            try:
                check_body(answer.status, answer.headers, reading.stat, wanted, reading.url)
            except SourceError:
                answer.drain()
                raise
            try:
                for block in answer.blocks(self._buffer(), wanted.length):
                    reading.deliver(block)
            except Interrupted as end:
                cause = end.__cause__ or end
                if reading.reached == reached:
                    raise reading.truncated(cause) from cause
                return cause
        return None

    def _final_answer(self, hop: HttpRequest, span: ByteRange | None, timeout: Seconds) -> Answer:
        """The first answer that is no redirect. Raises our errors for everything that keeps one from coming."""
        while True:
            answer = self._answer(hop, span, timeout)
            if answer.status not in REDIRECTS:
                return answer
            with answer:
                answer.drain()
                hop = hop.redirected(answer.headers.get("Location"))

    def _answer(self, hop: HttpRequest, span: ByteRange | None, timeout: Seconds) -> Answer:
        try:
            return self.pool.ask(hop.address, hop.headers_for(span), verify=hop.verify, timeout=timeout)
        except (OSError, HTTPException, PoolClosed) as error:
            raise _without_answer(error, hop, timeout) from error

    def _buffer(self) -> memoryview:
        """This thread's block of memory, reused for every read."""
        try:
            buffer: memoryview = self._buffers.view
        except AttributeError:
            buffer = self._buffers.view = memoryview(bytearray(BUFFER_LENGTH))
        return buffer


class _Reading:
    """How far one `read` has come."""

    def __init__(self, hop: HttpRequest, stat: SourceStat, span: ByteRange, sink: Sink) -> None:
        self.hop = hop
        self.stat = stat
        self.reached = span.start
        self._span = span
        self._sink = sink

    @property
    def url(self) -> str:
        return self.hop.shown_url

    @property
    def is_done(self) -> bool:
        return self.reached == self._span.end

    @property
    def rest(self) -> ByteRange:
        return ByteRange(self.reached, self._span.end - self.reached)

    def deliver(self, block: memoryview) -> None:
        self._sink(block)
        self.reached += len(block)

    def truncated(self, cause: BaseException) -> SourceError:
        """The error for a body that ended early: silence is named as such."""
        if isinstance(cause, TimeoutError):
            return SourceUnreachable(url=self.url, reason="it fell silent within the file")
        return SourceTruncated(url=self.url, received=self.reached - self._span.start, expected=self._span.length)


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
        case ssl.SSLError():
            return SourceUnreachable(url=url, reason=f"TLS failed: {error.reason or 'the connection was closed'}")
        case TimeoutError():
            return SourceUnreachable(url=url, reason=f"no answer within {timeout:g} s")
        case OSError():
            return SourceUnreachable(url=url, reason=error.strerror or "the connection was closed without an answer")
    return SourceError(url=url, reason=f"it does not speak HTTP as we know it ({type(error).__name__})")
