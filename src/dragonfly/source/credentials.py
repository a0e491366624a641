"""What in a request is a secret of its caller: kept from other origins and from logs, a reason not to share answers.

Names decide, since no value shows that it is one. A name taken for a secret without being one costs a header on its way
to a stranger; one that is missed gives the secret away. So the lists are generous.
"""

import re
from collections.abc import Mapping

from dragonfly.source.http_address import has_secrets
from dragonfly.source.protocol import SourceRequest

_HEADER = re.compile(
    r"(proxy-|www-)?auth(entication|enticate|orization)?|cookie2?"
    r"|.*(token|secret|credential|passw|api-?key|access-?key|private-?key|signature|jwt|session|\bauth\b).*",
    re.IGNORECASE,
)


def has_credentials(request: SourceRequest) -> bool:
    """Whether the answer may be for this caller only: it shows who it is, by a header or within the URL."""
    return has_secrets(request.url) or any(_HEADER.fullmatch(name) for name in request.headers)


def without_credentials(headers: Mapping[str, str]) -> dict[str, str]:
    """What another origin may see."""
    return {name: value for name, value in headers.items() if not _HEADER.fullmatch(name)}
