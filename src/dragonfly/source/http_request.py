"""The headers of a request to an HTTP origin, and how they survive a redirect."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from dragonfly import __version__
from dragonfly.errors import InvalidInput, InvalidUrl, SourceError
from dragonfly.source.credentials import without_credentials
from dragonfly.source.dialling import Trust
from dragonfly.source.http_address import HttpAddress, cleaned, joined, parse_http_url, shown
from dragonfly.source.protocol import SourceRequest, SourceStat

MAX_REDIRECTS = 10
REDIRECTS = frozenset({301, 302, 303, 307, 308})

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_UNSENDABLE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]|[^\x00-\xff]")
_OURS = frozenset(
    {"host", "range", "accept-encoding", "content-length", "expect"}
    | {"connection", "keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization"}
    | {"te", "trailer", "transfer-encoding", "upgrade"}
    # A condition of the caller could be answered without a body; only validators the origin gave are sent.
    | {"if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range"}
)
# One entity tag, quoted or (some object stores) bare: neither a list nor `*`, which would hold for every version.
_ONE_TAG = re.compile(r'(?:W/)?"[^"]*"|[^"*,\s]+')


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """One hop of a request: where it goes now, with the headers that may go there."""

    url: str = field(repr=False)
    address: HttpAddress
    headers: Mapping[str, str] = field(repr=False)
    trust: Trust
    may_be_plain: bool
    """Whether a redirect may lead to plain http: only where the caller's own URL was plain."""
    conditions: Mapping[str, str] = field(default_factory=dict)
    """Headers that ask for the file only if it is another version; the same at every hop."""
    redirects: int = 0

    @property
    def shown_url(self) -> str:
        """The URL for messages, without secrets."""
        return shown(self.url)

    def headers_for(self, span: str | None) -> dict[str, str]:
        """What is sent, with a `Range` if one is given."""
        return {**self.headers, **self.conditions, **({"Range": span} if span else {})}

    def unless(self, known: SourceStat) -> "HttpRequest":
        """The same, to be answered only if the file is no longer what is known; unconditional without validators."""
        date = known.last_modified
        conditions = {
            "If-None-Match": known.etag if _ONE_TAG.fullmatch(known.etag) else "",
            "If-Modified-Since": date,
        }
        sent = {name: value for name, value in conditions.items() if value and not _UNSENDABLE.search(value)}
        return replace(self, conditions=sent)

    def redirected(self, location: str | None) -> "HttpRequest":
        """The next hop. Raises SourceError if following it would be endless, unsafe or impossible."""
        if not location:
            raise SourceError(url=self.shown_url, reason="it redirects without saying where to")
        if self.redirects == MAX_REDIRECTS:
            raise SourceError(url=self.shown_url, reason=f"it redirects more than {MAX_REDIRECTS} times")
        url = joined(self.address, location)
        if not url.lower().startswith(("http://", "https://")):
            raise SourceError(url=self.shown_url, reason=f"it redirects to {shown(url)!r}, which is not http or https")
        address = self._address_of(url)
        if address.scheme == "http" and not self.may_be_plain:
            raise SourceError(url=self.shown_url, reason=f"it redirects from https to plain http: {shown(url)}")
        headers = self.headers if address.origin == self.address.origin else without_credentials(self.headers)
        return replace(
            self,
            url=url,
            address=address,
            headers=_with_authorization(headers, address),
            redirects=self.redirects + 1,
        )

    def _address_of(self, location: str) -> HttpAddress:
        """A redirect's URL is the origin's mistake, not the caller's."""
        try:
            return parse_http_url(location)
        except InvalidUrl as error:
            reason = f"it redirects to {shown(location)!r}: {error.facts['reason']}"
            raise SourceError(url=self.shown_url, reason=reason) from error


def prepared(request: SourceRequest, added: Mapping[str, str] | None = None) -> HttpRequest:
    """The first hop. `added` are headers for requests that lack them.

    Raises InvalidUrl, and InvalidInput for headers that could not be sent as they are.
    """
    address = parse_http_url(request.url)
    headers = forwarded(request.headers)
    for more in (forwarded(added or {}), {"User-Agent": f"dragonfly/{__version__}", "Accept": "*/*"}):
        given_names = {name.lower() for name in headers}
        headers = {name: value for name, value in more.items() if name.lower() not in given_names} | headers
    return HttpRequest(
        url=cleaned(request.url),
        address=address,
        headers=_with_authorization(headers, address) | {"Accept-Encoding": "identity"},
        trust=Trust(verify=False) if request.insecure_skip_verify else Trust(certificates=request.certificate_chain),
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


def _with_authorization(headers: Mapping[str, str], address: HttpAddress) -> dict[str, str]:
    """A header the caller gave wins over the URL's user information."""
    if not address.authorization or any(name.lower() == "authorization" for name in headers):
        return dict(headers)
    return {**headers, "Authorization": address.authorization}
