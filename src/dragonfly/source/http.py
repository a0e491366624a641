"""HTTP and HTTPS origins, read by blocking threads.

A file is described by a GET of its first byte, or by HEAD where that could bring the whole file, see `http_habits`. It
is read by GETs of ranges, each compared with that description: bytes of two versions never meet in one sink.

Failures are counted between bytes. A read that breaks off after some bytes goes on behind the last one delivered and
starts counting anew; one that gets nowhere is tried again `max_retries` times, then its error stands.

A file whose length the origin does not tell is read from its first byte to where the answer ends, and has to end as
HTTP says that it does: see `http_connection.Answer.blocks` for what counts as an end, `http_reading` for what follows.

Differs from upstream: certificates are verified unless the request says otherwise; every redirect status is followed,
with a limit and without credentials for strangers; proxies of the environment are not used.
"""

import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from http import HTTPStatus
from itertools import chain, repeat
from pathlib import Path

from dragonfly.core.model.ranges import ByteRange
from dragonfly.core.model.units import Bytes, KiB, Seconds
from dragonfly.errors import (
    InvalidRange,
    SourceChanged,
    SourceError,
    SourceLengthUnknown,
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
    stat_of_head,
    stat_of_part,
    stat_of_whole,
    still_known,
)
from dragonfly.source.http_asking import Asker
from dragonfly.source.http_connection import ConnectionPool, Interrupted
from dragonfly.source.http_habits import Habit, Habits
from dragonfly.source.http_listing import PAGE_LIMIT, listed
from dragonfly.source.http_reading import Reading, SpanReading, WholeReading
from dragonfly.source.http_request import HttpRequest, prepared
from dragonfly.source.http_retry import Patience
from dragonfly.source.protocol import Observe, Sink, SourceEntry, SourceRequest, SourceStat

BUFFER_LENGTH: Bytes = 256 * KiB  # measured: larger ones leave the cache, smaller ones cost more calls
MAX_RETRIES = 2
_FIRST_BYTE = ByteRange(0, 1).header()
_COME_BACK_LATER = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})


class HttpSource:
    """A `Source` for http and https URLs. Thread-safe; connections are kept between calls."""

    def __init__(
        self,
        *,
        ca_file: Path | None = None,
        policy: EgressPolicy = off_link,
        max_retries: int = MAX_RETRIES,
        request_header: Mapping[str, str] | None = None,
        observe: Observe | None = None,
        connect_timeout: Seconds = CONNECT_TIMEOUT,
        sleep: Callable[[Seconds], object] | None = None,
        rng: random.Random | None = None,
        clock: Callable[[], Seconds] = time.monotonic,
    ) -> None:
        """`ca_file` is trusted beside the system's authorities; `policy` says which addresses may be connected to.

        What fails is asked for `max_retries` times more. `request_header` is added to requests that lack those headers;
        `observe` is told of every request. By default a wait ends early when the source is closed; `sleep`, `rng` and
        `clock` are for tests.
        """
        self._closing = threading.Event()
        self._request_header = dict(request_header or {})
        self._buffers = threading.local()
        self.pool = ConnectionPool(Dialler(ca_file=ca_file, policy=policy, timeout=connect_timeout))
        self._asker = Asker(self.pool, observe=observe, clock=clock)
        self._habits = Habits(clock)
        self._patience = Patience(
            max_retries=max_retries,
            rng=rng or random.Random(),
            sleep=sleep or self._closing.wait,
            is_over=self._closing.is_set,
        )

    def stat(self, request: SourceRequest, *, timeout: Seconds, known: SourceStat | None = None) -> SourceStat:
        """Length and validators, in one request; in two where an origin refuses ranges or keeps the length to itself,
        or where it is met for the first time and a HEAD is not enough.

        With `known` it is one conditional request where that still holds.
        """
        hop = prepared(request, self._request_header)
        wants_head = known is None and not hop.address.has_query and self._habits.of(hop.address.origin).wants_head
        heads = chain([wants_head], repeat(False))  # what failed once may have failed for being a HEAD
        return self._patience.with_retries(lambda: self._stat_once(hop, known, timeout, asks_by_head=next(heads)))

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
            end = self._patience.with_retries(lambda: self._go_on(reading, timeout))
            if end is not None and (self._closing.is_set() or not reading.can_resume):
                raise reading.truncated(end) from end

    def entries(self, request: SourceRequest, *, timeout: Seconds) -> list[SourceEntry]:
        """What the index page behind a URL names, directly below it; `http_listing` says which pages are understood."""
        hop = prepared(request, self._request_header)
        if not hop.address.target.partition("?")[0].endswith("/"):
            raise UnsupportedFeature(feature="listing a URL that does not end in a slash")
        return self._patience.with_retries(lambda: self._entries_once(hop, timeout))

    def close(self) -> None:
        """End every wait and transfer, in other threads too; what is asked afterwards fails."""
        self._closing.set()
        self.pool.close()

    def _stat_once(
        self, hop: HttpRequest, known: SourceStat | None, timeout: Seconds, *, asks_by_head: bool
    ) -> SourceStat:
        head = self._stat_by_head(hop, timeout) if asks_by_head else None
        habit = self._habits.of(hop.address.origin)
        if head is not None and habit.believes(head):
            return replace(head, supports_ranges=False) if habit is Habit.WHOLE else head
        asked = hop.unless(known) if known else hop
        with self._asker.final_answer(asked, _FIRST_BYTE, timeout) as answer:
            match answer.status:
                case HTTPStatus.PARTIAL_CONTENT:
                    self._habits.learn(hop.address.origin, Habit.RANGED)
                    part: SourceStat | None = stat_of_part(answer.headers, hop.shown_url)
                    answer.drain()
                case HTTPStatus.OK | HTTPStatus.NON_AUTHORITATIVE_INFORMATION:
                    whole = stat_of_whole(answer.headers, hop.shown_url)
                    if whole.content_length is None or whole.content_length > 1:
                        head_failed = asks_by_head and head is None
                        self._habits.learn_no_ranges(hop.address.origin, head_failed=head_failed)
                    return whole
                case HTTPStatus.NOT_MODIFIED if known and asked.conditions:
                    return still_known(known, answer.headers, hop.shown_url)
                case HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                    part = stat_of_empty(answer.headers)
                    answer.drain()
                case status:
                    answer.drain()
                    raise refusal(status, answer.headers, hop.shown_url)
        if part is not None and part.content_length is not None:
            return part
        return self._stat_without_range(hop, part, timeout)

    def _stat_by_head(self, hop: HttpRequest, timeout: Seconds) -> SourceStat | None:
        """What a HEAD says; None if that is of no use."""
        origin = hop.address.origin
        try:
            answer = self._asker.answer(hop, None, timeout, method="HEAD")
        except SourceError:
            self._habits.learn(origin, Habit.HEADLESS)  # it may be the method that it does not answer
            raise
        with answer:
            if answer.status in _COME_BACK_LATER:
                raise refusal(answer.status, answer.headers, hop.shown_url)
            if answer.status != HTTPStatus.OK:
                return None
            return stat_of_head(answer.headers)

    def _stat_without_range(self, hop: HttpRequest, part: SourceStat | None, timeout: Seconds) -> SourceStat:
        """For origins that refuse the range of a file that has bytes, or answered it by a `part` of unknown length."""
        with self._asker.final_answer(hop, None, timeout) as answer:
            if answer.status == HTTPStatus.OK:
                url = hop.shown_url
                return stat_of_both(part, answer.headers, url) if part else stat_of_whole(answer.headers, url)
            answer.drain()
            if part is None:
                raise refusal(answer.status, answer.headers, hop.shown_url)
            return part

    def _go_on(self, reading: Reading, timeout: Seconds) -> BaseException | None:
        """One request for what is missing. If it brought only some of it, what ended it is returned; None is all."""
        reached = reading.reached
        with self._asker.final_answer(reading.hop, reading.range, timeout) as answer:
            try:
                length = reading.judge(answer.status, answer.headers)
            except SourceError as error:
                answer.drain()
                self._learn_from(error, reading.hop)
                raise
            if answer.status == HTTPStatus.PARTIAL_CONTENT:
                self._habits.learn(reading.hop.address.origin, Habit.RANGED)
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

    def _learn_from(self, error: SourceError, hop: HttpRequest) -> None:
        """Do not describe the next file by what misled this read."""
        match error:
            case SourceRangeUnsupported():
                self._habits.learn_no_ranges(hop.address.origin)
            case SourceChanged():
                self._habits.learn(hop.address.origin, Habit.HEADLESS)

    def _entries_once(self, hop: HttpRequest, timeout: Seconds) -> list[SourceEntry]:
        with self._asker.final_answer(hop, None, timeout) as answer:
            if answer.status != HTTPStatus.OK:
                answer.drain()
                raise refusal(answer.status, answer.headers, hop.shown_url)
            page = bytearray()
            try:
                for block in answer.blocks(self._buffer(), content_length(answer.headers, hop.shown_url)):
                    page += block
                    if len(page) > PAGE_LIMIT:
                        raise SourceError(url=hop.shown_url, reason=f"its index page exceeds {PAGE_LIMIT} bytes")
            except Interrupted as end:
                raise SourceUnreachable(url=hop.shown_url, reason="its index page broke off") from end
            return listed(page, answer.headers, answer.address, hop.url)

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
