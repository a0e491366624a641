"""HTTP URLs taken apart without changing a byte of what is sent, and put into words without giving a secret away.

A signed URL covers its path and query as they are spelled, so the standard library's splitting and joining, which
drops an empty query and resolves dots, is used only for relative redirects.
"""

import re
from base64 import b64encode
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, unquote_to_bytes, urljoin

from dragonfly.errors import InvalidUrl

_URL = re.compile(r"(https?)://([^/?#\\]*)((?:[/?][^#]*)?)(?:#.*)?", re.IGNORECASE | re.DOTALL)
_HOST_PORT = re.compile(r"(?:\[([0-9a-f:.]{2,45})\]|([a-z0-9._-]{1,253}))(?::([0-9]{0,5}))?", re.IGNORECASE)
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
    def directory(self) -> str:
        """The path up to its last slash, as it is spelled, without query."""
        return self.target.partition("?")[0].rpartition("/")[0] + "/"

    @property
    def host_header(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


def parse_http_url(url: str) -> HttpAddress:
    """Raises InvalidUrl for what two parsers could read differently, rather than guess."""
    if _CONTROL.search(url):
        raise InvalidUrl(url=shown(url), reason="it holds control characters")
    match = _URL.fullmatch(url)
    if match is None:
        raise InvalidUrl(url=shown(url), reason="not of the form http(s)://host/path")
    scheme, authority, rest = match[1].lower(), match[2], match[3]
    userinfo, _, host_port = authority.rpartition("@")
    host, port = _host_and_port(host_port, scheme, url)
    target = rest if rest.startswith("/") else f"/{rest}"
    return HttpAddress(
        scheme=scheme,
        host=host,
        port=port,
        target=_ascii(target, url),
        authorization=_basic(userinfo) if userinfo else "",
    )


def _host_and_port(text: str, scheme: str, url: str) -> tuple[str, int]:
    try:
        ascii_text = text if text.isascii() else text.encode("idna").decode("ascii")
    except UnicodeError as error:
        raise InvalidUrl(url=shown(url), reason="its host is not a name") from error
    match = _HOST_PORT.fullmatch(ascii_text)
    if match is None:
        raise InvalidUrl(url=shown(url), reason="its host or port cannot be read")
    port = int(match[3] or DEFAULT_PORTS[scheme])
    if not 0 < port < 65536:
        raise InvalidUrl(url=shown(url), reason="its port is not between 1 and 65535")
    return (match[1] or match[2]).lower(), port


def _ascii(target: str, url: str) -> str:
    """Percent-encodes only what HTTP cannot carry, spaces and non-ASCII letters; escapes stay as they are spelled."""
    try:
        return quote(target, safe=SENT_AS_IS)
    except UnicodeEncodeError as error:
        raise InvalidUrl(url=shown(url), reason="it is not Unicode text") from error


def _basic(userinfo: str) -> str:
    user, _, password = userinfo.partition(":")
    return "Basic " + b64encode(unquote_to_bytes(user) + b":" + unquote_to_bytes(password)).decode("ascii")


def joined(base: str, location: str) -> str:
    """The URL a `Location` header means, as http.client read it (bytes as Latin-1); absolute ones stay byte-exact."""
    location = quote(location.encode("latin-1"), safe=SENT_AS_IS)
    if ABSOLUTE.match(location):
        return location
    scheme, _, rest = base.partition("://")
    if location.startswith("//"):
        return f"{scheme}:{location}"
    if location.startswith("/"):
        authority = re.split(r"[/?#]", rest, maxsplit=1)[0].rpartition("@")[2]
        return f"{scheme}://{authority}{location}"
    return urljoin(base, location)


def shown(url: str) -> str:
    """The URL for messages and logs: without user information, and signatures in its query are starred out."""
    return _PARAMETER.sub(_starred, _USER_INFORMATION.sub("", url))


def has_secrets(url: str) -> bool:
    """Whether `shown` has something to hide."""
    return _USER_INFORMATION.search(url) is not None or any(map(_is_secret, _PARAMETER.finditer(url)))


def _starred(parameter: re.Match[str]) -> str:
    return f"{parameter[1]}{parameter[2]}=***" if _is_secret(parameter) else parameter[0]


def _is_secret(parameter: re.Match[str]) -> bool:
    return _SECRET_PARAMETER.fullmatch(unquote(parameter[2])) is not None
