"""The headers of a request to an HTTP origin, and how they survive a redirect."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from dragonfly import __version__
from dragonfly.core.model.ranges import ByteRange
from dragonfly.errors import InvalidInput, SourceError
from dragonfly.source.http_address import HttpAddress, joined, parse_http_url, shown
from dragonfly.source.protocol import SourceRequest

MAX_REDIRECTS = 10
REDIRECTS = frozenset({301, 302, 303, 307, 308})

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_UNSENDABLE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]|[^\x00-\xff]")
_OURS = frozenset(
    {"host", "range", "accept-encoding", "content-length", "expect"}
    | {"connection", "keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization"}
    | {"te", "trailer", "transfer-encoding", "upgrade"}
    # A condition could be answered without a body; validators are compared on our side.
    | {"if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range"}
)
_CREDENTIAL = re.compile(
    r"(proxy-|www-)?auth(entication|enticate|orization)?|cookie2?|.*(token|secret|credential|password|api-?key).*",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """One hop of a request: where it goes now, with the headers that may go there."""

    url: str = field(repr=False)
    address: HttpAddress
    headers: Mapping[str, str] = field(repr=False)
    verify: bool
    may_be_plain: bool
    """Whether a redirect may lead to plain http: only where the caller's own URL was plain."""
    redirects: int = 0

    @property
    def shown_url(self) -> str:
        """The URL for messages, without secrets."""
        return shown(self.url)

    def headers_for(self, span: ByteRange | None) -> dict[str, str]:
        """What is sent; None asks for the whole file."""
        return {**self.headers, **({"Range": span.header()} if span else {})}

    def redirected(self, location: str | None) -> "HttpRequest":
        """The next hop. Raises SourceError if following it would be endless, unsafe or impossible."""
        if not location:
            raise SourceError(url=self.shown_url, reason="it redirects without saying where to")
        if self.redirects == MAX_REDIRECTS:
            raise SourceError(url=self.shown_url, reason=f"it redirects more than {MAX_REDIRECTS} times")
        url = joined(self.url, location)
        if not url.lower().startswith(("http://", "https://")):
            raise SourceError(url=self.shown_url, reason=f"it redirects to {shown(url)!r}, which is not http or https")
        address = parse_http_url(url)
        if address.scheme == "http" and not self.may_be_plain:
            raise SourceError(url=self.shown_url, reason=f"it redirects from https to plain http: {shown(url)}")
        headers = self.headers if address.origin == self.address.origin else without_credentials(self.headers)
        return HttpRequest(
            url=url,
            address=address,
            headers=_with_authorization(headers, address),
            verify=self.verify,
            may_be_plain=self.may_be_plain,
            redirects=self.redirects + 1,
        )


def prepared(request: SourceRequest) -> HttpRequest:
    """The first hop. Raises InvalidUrl, and InvalidInput for headers that could not be sent as they are."""
    address = parse_http_url(request.url)
    own = {"User-Agent": f"dragonfly/{__version__}", "Accept": "*/*"}
    given = forwarded(request.headers)
    given_names = {name.lower() for name in given}
    headers = {name: value for name, value in own.items() if name.lower() not in given_names} | given
    return HttpRequest(
        url=request.url,
        address=address,
        headers=_with_authorization(headers, address) | {"Accept-Encoding": "identity"},
        verify=not request.insecure_skip_verify,
        may_be_plain=address.scheme == "http",
    )


def forwarded(headers: Mapping[str, str]) -> dict[str, str]:
    """The caller's headers without those that concern one connection, or that this client decides itself."""
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name):
            raise InvalidInput(reason=f"{name!r} is not the name of an HTTP header")
        if _UNSENDABLE.search(value):  # the value may be a secret: it is not shown
            raise InvalidInput(reason=f"the value of the header {name} holds characters HTTP cannot carry")
    listed = (value for name, value in headers.items() if name.lower() == "connection")
    dropped = _OURS | {word.strip().lower() for value in listed for word in value.split(",")}
    return {name: value for name, value in headers.items() if name.lower() not in dropped}


def without_credentials(headers: Mapping[str, str]) -> dict[str, str]:
    """What another origin may see."""
    return {name: value for name, value in headers.items() if not _CREDENTIAL.fullmatch(name)}


def _with_authorization(headers: Mapping[str, str], address: HttpAddress) -> dict[str, str]:
    """A header the caller gave wins over the URL's user information."""
    if not address.authorization or any(name.lower() == "authorization" for name in headers):
        return dict(headers)
    return {**headers, "Authorization": address.authorization}
