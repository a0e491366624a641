"""How far one `read` has come, and whether the next answer is what it lacks. No sockets.

A reading is asked for the `Range` it lacks, judges the answer to it, takes the bytes, and is told when they ended as
announced. What ended a transfer early is the caller's to know; here it only becomes an error's words.
"""

from email.message import Message
from http import HTTPStatus
from typing import Protocol

from dragonfly.core.model.ranges import ByteRange
from dragonfly.core.model.units import Bytes
from dragonfly.errors import SourceChanged, SourceError, SourceRangeUnsupported, SourceTruncated, SourceUnreachable
from dragonfly.source.http_answer import (
    check_body,
    check_identity,
    content_length,
    content_range,
    refusal,
    unsatisfied_length,
)
from dragonfly.source.http_request import HttpRequest
from dragonfly.source.protocol import Sink, SourceStat


class Reading(Protocol):
    """One read, whatever is known of its length."""

    hop: HttpRequest
    reached: Bytes
    """The offset in the file behind the last byte delivered."""
    can_resume: bool
    """Whether the origin can be asked for the rest of what broke off."""

    @property
    def is_done(self) -> bool:
        """Whether every byte was delivered."""

    @property
    def range(self) -> str | None:
        """The `Range` header that asks for what is missing; None asks for the whole file."""

    def judge(self, status: int, headers: Message) -> Bytes | None:
        """How many bytes of the body to take; None is up to its end. Raises a SourceError for any other file's body."""

    def deliver(self, block: memoryview) -> None:
        """Pass the next bytes on."""

    def end_body(self) -> None:
        """The body came as announced."""

    def truncated(self, cause: BaseException) -> SourceError:
        """The error for a body that ended early."""


class SpanReading:
    """A read of bytes whose number is known."""

    def __init__(self, hop: HttpRequest, stat: SourceStat, start: Bytes, end: Bytes, sink: Sink) -> None:
        """Bytes from `start` on, up to but without `end`; the two are equal for an empty file."""
        self.hop = hop
        self.reached = start
        self.can_resume = stat.supports_ranges
        self._stat = stat
        self._start = start
        self._end = end
        self._sink = sink

    @property
    def is_done(self) -> bool:
        return self.reached == self._end

    @property
    def range(self) -> str | None:
        return self._rest.header() if self._stat.supports_ranges else None

    @property
    def _rest(self) -> ByteRange:
        return ByteRange(self.reached, self._end - self.reached)

    def judge(self, status: int, headers: Message) -> Bytes:
        check_body(status, headers, self._stat, self._rest, self.hop.shown_url)
        return self._rest.length

    def deliver(self, block: memoryview) -> None:
        self._sink(block)
        self.reached += len(block)

    def end_body(self) -> None:
        """Nothing to learn: the bytes were counted."""

    def truncated(self, cause: BaseException) -> SourceError:
        return _truncated(self.hop.shown_url, cause, self.reached - self._start, self._end - self._start)


class WholeReading:
    """A read of a file whose length is not known until its last byte has come.

    Resuming needs ranges, and a validator that shows the rest to be of the same version: no length will. The file ends
    where a whole body ends, where a part does that reaches the total it names, and where a 416 says that it does.
    """

    def __init__(self, hop: HttpRequest, stat: SourceStat, sink: Sink) -> None:
        self.hop = hop
        self.reached: Bytes = 0
        self.is_done = False
        self.can_resume = stat.supports_ranges and bool(stat.etag or stat.last_modified)
        self._stat = stat
        self._sink = sink
        self._total: Bytes | None = None
        self._is_part = False

    @property
    def range(self) -> str | None:
        return f"bytes={self.reached}-" if self.reached else None

    def judge(self, status: int, headers: Message) -> Bytes | None:
        match status:
            case HTTPStatus.OK if self.reached == 0:
                return self._judge_whole(headers)
            case HTTPStatus.OK:
                raise SourceRangeUnsupported(url=self.hop.shown_url)
            case HTTPStatus.PARTIAL_CONTENT if self.reached:
                return self._judge_part(headers)
            case HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE if self.reached:
                return self._judge_end(headers)
        raise refusal(status, headers, self.hop.shown_url)

    def deliver(self, block: memoryview) -> None:
        self._sink(block)
        self.reached += len(block)

    def end_body(self) -> None:
        """A whole body's end is the file's; a part may be followed by another."""
        self.is_done = not self._is_part or self.reached == self._total

    def truncated(self, cause: BaseException) -> SourceError:
        expected = "an unknown number of" if self._total is None else self._total
        return _truncated(self.hop.shown_url, cause, self.reached, expected)

    def _judge_whole(self, headers: Message) -> Bytes | None:
        check_identity(headers, self._stat, self.hop.shown_url)
        self._is_part = False
        length = content_length(headers, self.hop.shown_url)
        self._learn(length)
        return length

    def _judge_part(self, headers: Message) -> Bytes:
        check_identity(headers, self._stat, self.hop.shown_url)
        part = content_range(headers)
        announced = content_length(headers, self.hop.shown_url)
        if part is None or part.start != self.reached or announced not in (None, part.length):
            reason = f"asked for {self.range} it answers {headers['Content-Range']!r}"
            raise SourceChanged(url=self.hop.shown_url, reason=reason)
        self._learn(part.total)
        self._is_part = True
        return part.length

    def _judge_end(self, headers: Message) -> Bytes:
        """A 416: there is nothing behind what was reached, if that is where it says the file ends."""
        length = unsatisfied_length(headers)
        self._learn(length)
        if length != self.reached:
            raise self.truncated(EOFError("the origin does not say where the file ends"))
        self._is_part = True
        return 0

    def _learn(self, total: Bytes | None) -> None:
        """The file's length, as far as this answer tells it, is the one told before."""
        if total is None:
            return
        if total < self.reached or self._total not in (None, total):
            before = f"at least {self.reached}" if self._total is None else self._total
            reason = f"it was {before} bytes long and is now {total}"
            raise SourceChanged(url=self.hop.shown_url, reason=reason)
        self._total = total


def _truncated(url: str, cause: BaseException, received: Bytes, expected: Bytes | str) -> SourceError:
    """Silence is named as such."""
    if isinstance(cause, TimeoutError):
        return SourceUnreachable(url=url, reason="it fell silent within the file")
    return SourceTruncated(url=url, received=received, expected=expected)
