"""From a request to the answer that is no redirect, or to our error for what keeps one from coming."""

import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.client import HTTPException

from dragonfly.core.model.units import Seconds
from dragonfly.errors import SourceError, SourceNameUnknown, SourceUnreachable
from dragonfly.source.http_connection import Answer, ConnectionPool, PoolClosed
from dragonfly.source.http_request import REDIRECTS, HttpRequest
from dragonfly.source.protocol import Observe


class Asker:
    """Asks origins, and tells an observer of each request how long its answer took. Thread-safe."""

    def __init__(self, pool: ConnectionPool, *, observe: Observe | None, clock: Callable[[], Seconds]) -> None:
        self._pool = pool
        self._observe = observe
        self._clock = clock

    def final_answer(self, hop: HttpRequest, span: str | None, timeout: Seconds) -> Answer:
        """The first answer to a GET that is no redirect."""
        while True:
            answer = self.answer(hop, span, timeout)
            if answer.status not in REDIRECTS:
                return answer
            with answer:
                answer.drain()
                hop = hop.redirected(answer.headers.get("Location"))

    def answer(self, hop: HttpRequest, span: str | None, timeout: Seconds, *, method: str = "GET") -> Answer:
        """One request, one answer, whatever it says."""
        if self._observe is None:
            return self._answer(hop, span, timeout, method)
        began = self._clock()
        try:
            answer = self._answer(hop, span, timeout, method)
        except SourceError as error:
            if not isinstance(error.__cause__, PoolClosed):
                self._tell(self._observe, hop, method, began, failed=True)
            raise
        self._tell(self._observe, hop, method, began, failed=_has_failed(answer.status))
        return answer

    def _tell(self, observe: Observe, hop: HttpRequest, method: str, began: Seconds, *, failed: bool) -> None:
        with suppress(Exception):  # whoever counts must not break what is counted
            observe(hop.address.scheme, method, self._clock() - began, failed)

    def _answer(self, hop: HttpRequest, span: str | None, timeout: Seconds, method: str) -> Answer:
        headers = hop.headers_for(span)
        try:
            return self._pool.ask(hop.address, headers, trust=hop.trust, timeout=timeout, method=method)
        except (OSError, HTTPException, PoolClosed) as error:
            raise _without_answer(error, hop, timeout) from error


def _has_failed(status: int) -> bool:
    """A 416 is how an empty file answers the question for its first byte."""
    return status >= HTTPStatus.BAD_REQUEST and status != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE


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
