"""Identifiers, exactly as the reference makes them, so that our peers and its peers share tasks.

Source: Dragonfly client 1.5.1 id generator; its own test vectors stand in tests/golden/test_ids.py.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NewType, Protocol
from urllib.parse import unquote_to_bytes

from dragonfly.core.model.principal import PUBLIC_SCOPE, TenantScope
from dragonfly.core.model.units import Bytes
from dragonfly.errors import InvalidIdentifier, InvalidUrl

HostId = NewType("HostId", str)
TaskId = NewType("TaskId", str)
PeerId = NewType("PeerId", str)

TASK_ID_LENGTH = 64  # lower-case hex SHA-256; the piece protocol has room for exactly this many characters
_TASK_ID = re.compile(r"[0-9a-f]{64}")
_BLOB_URL = re.compile(r"^(.*)://(.*)/v2/(.*)/blobs/([^?]+)(?:\?.*)?$")
_BLOB_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")

DEFAULT_FILTERED_QUERY_PARAMS: tuple[str, ...] = (
    # signatures of S3, Google, Alibaba, Huawei and Tencent object stores, and containerd's namespace
    *("X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders", "X-Amz-Signature"),
    *("X-Amz-Security-Token", "X-Amz-User-Agent"),
    *("X-Goog-Algorithm", "X-Goog-Credential", "X-Goog-Date", "X-Goog-Expires", "X-Goog-SignedHeaders"),
    *("X-Goog-Signature", "OSSAccessKeyId", "Expires", "Signature", "SecurityToken"),
    *("AccessKeyId", "X-Obs-Date", "X-Obs-Security-Token"),
    *("q-sign-algorithm", "q-ak", "q-sign-time", "q-key-time", "q-header-list", "q-url-param-list", "q-signature"),
    *("x-cos-security-token", "ns"),
)


@dataclass(frozen=True, slots=True)
class TaskKey:
    """What the cores know a task by: the tenant's scope and the id that names the content within it."""

    scope: TenantScope
    task_id: TaskId

    @property
    def wire_id(self) -> TaskId:
        """The id other processes see: the reference's for the public tenant, a hash with the tenant for others."""
        if self.scope == PUBLIC_SCOPE:
            return self.task_id
        parts = (b"tenant", self.scope.encode(), self.task_id.encode())
        return TaskId(hashlib.sha256(b"".join(len(part).to_bytes(4, "big") + part for part in parts)).hexdigest())


def public_task(task_id: str) -> TaskKey:
    """The key of a task named on the wire; raises InvalidIdentifier unless it is 64 lower-case hex characters."""
    if not _TASK_ID.fullmatch(task_id):
        raise InvalidIdentifier(kind="task id", text=task_id)
    return TaskKey(PUBLIC_SCOPE, TaskId(task_id))


def host_id(ip: str, hostname: str, *, is_seed: bool = False) -> HostId:
    """`<ip>-<hostname>`, with `-seed` behind it for a seed peer."""
    return HostId(f"{ip}-{hostname}-seed" if is_seed else f"{ip}-{hostname}")


def peer_id(ip: str, hostname: str, unique: str, *, is_seed: bool = False) -> PeerId:
    """`<ip>-<hostname>-<unique>`, with `-seed` behind it on a seed peer; `unique` is a fresh UUID for each download."""
    return PeerId(f"{ip}-{hostname}-{unique}-seed" if is_seed else f"{ip}-{hostname}-{unique}")


def url_task_id(
    url: str,
    *,
    tag: str = "",
    application: str = "",
    revision: str = "",
    piece_length: Bytes | None = None,
    filtered_query_params: Iterable[str] = (),
) -> TaskId:
    """Id of a standard task: SHA-256 over the canonical URL and what the caller set, without separators.

    `piece_length` is the requested one only, None where it is chosen automatically. Raises InvalidUrl.
    """
    canonical = canonical_url(url, filtered_query_params)
    return _sha256(canonical + tag + application + revision + _decimal(piece_length) + "STANDARD")


def content_task_id(content: str) -> TaskId:
    """Id of a task, of whatever kind, that the caller named by a text of its own."""
    return _sha256(content)


def persistent_task_id(url: str, *, region: str = "", endpoint: str = "") -> TaskId:
    """Id of a persistent task, an object in a bucket; the URL counts as it is written."""
    return _sha256(url + region + endpoint + "PERSISTENT")


class Hash(Protocol):
    """A running SHA-256, as hashlib makes it."""

    def update(self, content: bytes, /) -> None: ...

    def hexdigest(self) -> str: ...


def persistent_cache_task_id(
    content: Hash, *, tag: str = "", application: str = "", piece_length: Bytes | None = None
) -> TaskId:
    """Id of an imported file, whose bytes `content` has been fed already; the rest is added to it here."""
    content.update(_utf8(tag + application + _decimal(piece_length) + "PERSISTENT_CACHE"))
    return TaskId(content.hexdigest())


def _decimal(number: int | None) -> str:
    return "" if number is None else str(number)


def _sha256(text: str) -> TaskId:
    return TaskId(hashlib.sha256(_utf8(text)).hexdigest())


def _utf8(text: str) -> bytes:
    """Raises InvalidIdentifier for what no other process could send: an argument that was not UTF-8."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise InvalidIdentifier(kind="text for a task id", text=text[:80]) from None


def blob_task_id(url: str) -> TaskId | None:
    """Id of an image blob, the hex of its SHA-256; None where the URL names no such blob.

    Differs from upstream: sha512 and crc32 blobs fall back to the URL's id, as their digests do not fit a task id.
    """
    blob = _BLOB_URL.match(url)
    digest = _BLOB_DIGEST.fullmatch(blob[4]) if blob else None
    return TaskId(digest[1]) if digest else None


def canonical_url(url: str, filtered_query_params: Iterable[str] = ()) -> str:
    """The URL as WHATWG writes it, without the filtered query parameters, its query form-encoded anew.

    A query of which nothing is left goes with its `?`; a bare root loses its slashes. Raises InvalidUrl.
    """
    import ada_url  # a native parser; loaded only by those who make ids

    try:
        parsed = ada_url.URL(url)
    except ValueError:  # UnicodeEncodeError, too
        raise InvalidUrl(url=url, reason="it does not parse") from None
    filtered = frozenset(filtered_query_params)
    kept = [(key, value) for key, value in _form_decode(parsed.search[1:]) if key not in filtered]
    parsed.search = "&".join(f"{_form_encode(key)}={_form_encode(value)}" for key, value in kept)
    text: str = parsed.href
    return text.rstrip("/") if parsed.pathname == "/" else text


def _form_decode(query: str) -> Iterator[tuple[str, str]]:
    """The pairs of a query as WHATWG's form parser sees them: only `&` separates, a key needs no `=`, `%zz` stays."""
    for part in filter(None, query.split("&")):
        key, _, value = part.replace("+", " ").partition("=")
        yield _percent_decode(key), _percent_decode(value)


def _percent_decode(text: str) -> str:
    return unquote_to_bytes(text).decode("utf-8", "replace")


_FORM_SAFE = frozenset(b"*-._0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")


def _form_encode(text: str) -> str:
    """WHATWG application/x-www-form-urlencoded: space is +, only `*-._` and alphanumerics stay (`~` does not)."""
    return "".join(
        chr(byte) if byte in _FORM_SAFE else "+" if byte == 0x20 else f"%{byte:02X}" for byte in text.encode()
    )
