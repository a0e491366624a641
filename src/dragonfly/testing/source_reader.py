"""A source as tests like to use it: bytes in one call, and no real waiting between tries."""

from collections.abc import Mapping

from dragonfly.core.model.ranges import ByteRange
from dragonfly.core.model.units import Seconds
from dragonfly.source.protocol import Source, SourceEntry, SourceRequest, SourceStat

TIMEOUT: Seconds = 10.0


class Reader:
    """Reads files of one source. `waits` is what the source was given to append its waits to, if it was."""

    def __init__(self, source: Source, waits: list[Seconds] | None = None) -> None:
        self.source = source
        self.waits = waits if waits is not None else []
        self.received = bytearray()

    def stat(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        insecure_skip_verify: bool = False,
        certificate_chain: tuple[bytes, ...] = (),
        known: SourceStat | None = None,
        timeout: Seconds = TIMEOUT,
    ) -> SourceStat:
        """As `Source.stat`."""
        request = SourceRequest(
            url=url,
            headers=headers or {},
            insecure_skip_verify=insecure_skip_verify,
            certificate_chain=certificate_chain,
        )
        return self.source.stat(request, timeout=timeout, known=known)

    def read(
        self,
        url: str,
        start: int,
        length: int,
        *,
        stat: SourceStat | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: Seconds = TIMEOUT,
    ) -> bytes:
        """The bytes of one span, after a `stat` unless one is given. What had come before an error is in `received`."""
        self.received = bytearray()
        request = SourceRequest(url=url, headers=headers or {})
        stat = stat or self.source.stat(request, timeout=timeout)
        self.source.read(request, stat, ByteRange(start, length), self.received.extend, timeout=timeout)
        return bytes(self.received)

    def read_whole(self, url: str, *, stat: SourceStat | None = None, timeout: Seconds = TIMEOUT) -> bytes:
        """The whole file, after a `stat` unless one is given. What had come before an error is in `received`."""
        self.received = bytearray()
        request = SourceRequest(url=url)
        stat = stat or self.source.stat(request, timeout=timeout)
        self.source.read(request, stat, None, self.received.extend, timeout=timeout)
        return bytes(self.received)

    def entries(self, url: str, *, headers: Mapping[str, str] | None = None) -> list[SourceEntry]:
        """As `Source.entries`."""
        return self.source.entries(SourceRequest(url=url, headers=headers or {}), timeout=TIMEOUT)
