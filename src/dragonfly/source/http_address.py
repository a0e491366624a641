"""HTTP URLs taken apart into what is asked of whom, and put into words without giving a secret away.

What is asked is what the task's id names, or two URLs of one task could be answered differently: host, port, path and
user information are read as WHATWG does and as `core.model.ids.canonical_url` does for the id. That resolves dot
segments (`%2e` is a dot, a backslash is a slash), encodes what no path may hold, and drops tabs, line ends and spaces
around; escapes and everything else in a path stay as they are spelled. A fragment is part of the id, but is not sent.

The query goes out as it is spelled, because signatures cover it so; only what HTTP cannot carry is encoded. It is the
one thing that an id may name less exactly than a request: `%20` and `+`, or `?` and nothing, are two requests with one
id, as in the reference.
"""

import re
from base64 import b64encode
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, unquote_to_bytes

from dragonfly.errors import InvalidUrl

# What WHATWG's parser mends in an authority is refused: other parsers find another host there.
_URL = re.compile(r"https?://(?:[^/?#\\]*@)?[^/?#\\@%]+(?:[/?#].*)?", re.IGNORECASE | re.DOTALL)
_HOST = re.compile(r"\[([0-9a-f:.]{2,45})\]|([a-z0-9._-]{1,253})")
_IGNORED = re.compile(r"[\t\n\r]")
_AROUND = "".join(map(chr, range(0x21)))
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
ABSOLUTE = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)
_USER_INFORMATION = re.compile(r"(?<=//)[^/?#]*@")
_PARAMETER = re.compile(r"([?&])([^=&?#]*)=([^&#]*)")
_SECRET_PARAMETER = re.compile(
    r".*(signature|token|credential|secret|passw|api[_-]?key|access[_-]?key|auth[_-]?key|jwt|session"
    r"|(?<![a-z])(?:sig|sign|auth)(?![a-z])).*",
    re.IGNORECASE | re.DOTALL,
)
SENT_AS_IS = "".join(chr(code) for code in range(0x21, 0x7F))
DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpAddress:
    """One URL as a client needs it: whom to connect to, and what to ask for there."""

    scheme: str
    host: str
    port: int
    target: str = field(repr=False)
    authorization: str = field(default="", repr=False)
    """`Basic …` from the URL's user information; empty without one."""

    @property
    def origin(self) -> tuple[str, str, int]:
        """What credentials are bound to."""
        return self.scheme, self.host, self.port

    @property
    def has_query(self) -> bool:
        """Whether there is one, be it empty: it may hold a signature, which is good for one method."""
        return "?" in self.target

    @property
    def directory(self) -> str:
        """The path up to its last slash, as it is spelled, without query."""
        return self.target.partition("?")[0].rpartition("/")[0] + "/"

    @property
    def host_header(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


def cleaned(url: str) -> str:
    """The URL without what WHATWG's parser overlooks: spaces and controls around it, tabs and line ends within."""
    return _IGNORED.sub("", url.strip(_AROUND))


def parse_http_url(url: str) -> HttpAddress:
    """Raises InvalidUrl for what does not parse, and for what two parsers could read differently."""
    import ada_url  # a native parser, the one that the ids are made with; loaded only by those who ask an origin

    url = cleaned(url)
    if _CONTROL.search(url):
        raise InvalidUrl(url=shown(url), reason="it holds control characters")
    if _URL.fullmatch(url) is None:
        raise InvalidUrl(url=shown(url), reason="not of the form http(s)://host/path")
    try:
        parsed = ada_url.URL(url)
    except ValueError:  # UnicodeEncodeError, too
        raise InvalidUrl(url=shown(url), reason="it does not parse") from None
    host = _HOST.fullmatch(parsed.hostname)
    if host is None or parsed.port == "0":
        raise InvalidUrl(url=shown(url), reason="its host or port cannot be connected to")
    scheme = parsed.protocol.removesuffix(":")
    _, mark, query = url.partition("#")[0].partition("?")
    return HttpAddress(
        scheme=scheme,
        host=host[1] or host[2],
        port=int(parsed.port or DEFAULT_PORTS[scheme]),
        target=parsed.pathname + mark + quote(query, safe=SENT_AS_IS),
        authorization=_basic(parsed.username, parsed.password) if parsed.username or parsed.password else "",
    )


def _basic(user: str, password: str) -> str:
    return "Basic " + b64encode(unquote_to_bytes(user) + b":" + unquote_to_bytes(password)).decode("ascii")


def joined(base: HttpAddress, location: str) -> str:
    """The URL a `Location` header means, as http.client read it (bytes as Latin-1). Its dot segments are left in."""
    location = quote(location.encode("latin-1"), safe=SENT_AS_IS)
    if ABSOLUTE.match(location):
        return location
    path = re.split(r"[?#]", location, maxsplit=1)[0]
    location = path.replace("\\", "/") + location[len(path) :]
    if location.startswith("//"):
        return f"{base.scheme}:{location}"
    own = f"{base.scheme}://{base.host_header}"
    if location.startswith("/"):
        return own + location
    if location.startswith("?"):
        return own + base.target.partition("?")[0] + location
    return own + (base.target if location.startswith("#") else base.directory) + location


def shown(url: str) -> str:
    """The URL for messages and logs: without user information, and signatures in its query are starred out."""
    return _PARAMETER.sub(_starred, _USER_INFORMATION.sub("", cleaned(url))) if has_secrets(url) else url


def has_secrets(url: str) -> bool:
    """Whether `shown` has something to hide."""
    url = cleaned(url)  # no secret hides behind what the parser overlooks
    return _USER_INFORMATION.search(url) is not None or any(map(_is_secret, _PARAMETER.finditer(url)))


def _starred(parameter: re.Match[str]) -> str:
    return f"{parameter[1]}{parameter[2]}=***" if _is_secret(parameter) else parameter[0]


def _is_secret(parameter: re.Match[str]) -> bool:
    return _SECRET_PARAMETER.fullmatch(unquote(parameter[2])) is not None
