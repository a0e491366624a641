"""From a URL's scheme to the origin that understands it. A new kind of origin is one more row for `Sources`."""

import re
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from dragonfly.errors import InvalidUrl, SchemeUnsupported
from dragonfly.source.egress import EgressPolicy, off_link
from dragonfly.source.http import MAX_RETRIES, HttpSource
from dragonfly.source.http_address import cleaned, shown
from dragonfly.source.protocol import Observe, Source

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):", re.IGNORECASE)


class Sources:
    """The origins this process can read from. Thread-safe; closing it closes them all."""

    def __init__(self, sources: Mapping[str, Source]) -> None:
        """`sources` by scheme in lower case; one source may stand under several."""
        self._sources = dict(sources)

    @classmethod
    def standard(
        cls,
        *,
        ca_file: Path | None = None,
        policy: EgressPolicy = off_link,
        max_retries: int = MAX_RETRIES,
        request_header: Mapping[str, str] | None = None,
        observe: Observe | None = None,
    ) -> Self:
        """Every origin that ships with Dragonfly.

        `ca_file` is trusted beside the system's authorities, a failed request is made again `max_retries` times,
        `request_header` is added to requests that lack those headers, and `observe` is told of every request.
        """
        http = HttpSource(
            ca_file=ca_file, policy=policy, max_retries=max_retries, request_header=request_header, observe=observe
        )
        return cls({"http": http, "https": http})

    @property
    def schemes(self) -> tuple[str, ...]:
        """What can be read from, sorted."""
        return tuple(sorted(self._sources))

    def of(self, url: str) -> Source:
        """The origin for a URL. Raises InvalidUrl without a scheme, SchemeUnsupported for one nobody serves."""
        match = _SCHEME.match(cleaned(url))
        if match is None:
            raise InvalidUrl(url=shown(url), reason="it has no scheme such as https")
        source = self._sources.get(match[1].lower())
        if source is None:
            raise SchemeUnsupported(scheme=match[1].lower(), url=shown(url), known=", ".join(self.schemes))
        return source

    def close(self) -> None:
        """Close every origin once, even if one of them fails to."""
        with ExitStack() as closing:
            for source in {id(source): source for source in self._sources.values()}.values():
                closing.callback(source.close)
