"""What an origin can be asked. Blocking: bulk threads call it; its bytes go straight to a sink, never to the loop."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from dragonfly.core.model.ranges import ByteRange
from dragonfly.core.model.units import Bytes, Seconds
from dragonfly.core.model.version import FileVersion

Sink = Callable[[memoryview], None]
"""Takes the next bytes, in order; the memory is reused after it returns. What it raises ends the read."""

Observe = Callable[[str, str, Seconds, bool], None]
"""Told of each request to an origin, redirects and retries too: scheme, method, seconds until the head of the answer or
the failure, and whether it failed, which is no answer or one that says so. Called in many threads; what it raises is
dropped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRequest:
    """A file at its origin and how the caller may read it. Headers may hold credentials: never log or store them."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    insecure_skip_verify: bool = False
    certificate_chain: tuple[bytes, ...] = ()
    """Certificates (DER or PEM) trusted beside the system's authorities, for this request alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceStat:
    """What the origin says of a file. `headers` are those of a whole-file answer; empty validators are absent."""

    content_length: Bytes | None
    """None where the origin does not tell: the file can then only be read from its first byte to its end."""
    headers: Mapping[str, str] = field(default_factory=dict)
    etag: str = ""
    last_modified: str = ""
    supports_ranges: bool = True
    is_unchanged: bool = False
    """The origin answered a conditional request: what is known of the file still holds, and so does all of this."""

    @property
    def version(self) -> FileVersion:
        """What tells this version of the file from others."""
        return FileVersion(self.content_length, self.etag, self.last_modified)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceEntry:
    """A file or directory below another; a directory's URL ends in "/". `content_length` is None where unknown."""

    url: str
    is_directory: bool = False
    content_length: Bytes | None = None


class Source(Protocol):
    """One kind of origin. Every method raises a SourceError that says what is wrong, with the URL in it."""

    def stat(self, request: SourceRequest, *, timeout: Seconds, known: SourceStat | None = None) -> SourceStat:
        """Length and validators of a file, at the cost of one short request.

        With `known`, what was said earlier, the request is conditional: where the origin says that nothing changed,
        `known` comes back with `is_unchanged` set. What comes back otherwise may still be the same version.
        """

    def read(
        self, request: SourceRequest, stat: SourceStat, span: ByteRange | None, sink: Sink, *, timeout: Seconds
    ) -> None:
        """Send exactly the bytes of `span` to `sink`, in order; `timeout` bounds silence, not the whole transfer.

        Without a span it is the whole file, whatever its length turns out to be.
        Raises SourceChanged if the file is no longer the one `stat` described, SourceTruncated if it ends early.
        """

    def entries(self, request: SourceRequest, *, timeout: Seconds) -> list[SourceEntry]:
        """What lies directly below a URL that ends in "/", files and directories.

        Raises UnsupportedFeature where this kind of origin, or this answer of it, lists nothing.
        """

    def close(self) -> None:
        """Give connections back and end what is under way in other threads; the source cannot be used afterwards."""
