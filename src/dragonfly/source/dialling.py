"""New connections to origins: which address, what socket options, whose certificate."""

import socket
import ssl
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dragonfly.core.model.units import Seconds
from dragonfly.errors import DownloadForbidden, InvalidInput, InvalidSettings
from dragonfly.source.egress import EgressPolicy, off_link, unwrapped

CONNECT_TIMEOUT: Seconds = 10.0
_CONTEXTS_KEPT = 64  # each request may bring certificates of its own; a context holds the system's too, about 1 MiB


@dataclass(frozen=True, slots=True)
class Trust:
    """Whose word is taken for who an origin is. Connections of different trust are never shared."""

    verify: bool = True
    certificates: tuple[bytes, ...] = ()
    """Trusted beside the system's authorities: each DER, or PEM with one or more in it."""


class Dialler:
    """Makes TCP and TLS connections under one set of rules. Thread-safe."""

    def __init__(
        self, *, ca_file: Path | None = None, policy: EgressPolicy = off_link, timeout: Seconds = CONNECT_TIMEOUT
    ) -> None:
        """`ca_file` is trusted beside the system's authorities; `timeout` bounds each address and each TLS step."""
        self._ca_file = ca_file
        self._policy = policy
        self._timeout = timeout
        self._lock = threading.Lock()
        self._contexts: dict[Trust, ssl.SSLContext] = {}

    def dial(self, host: str, port: int) -> socket.socket:
        """A TCP connection to the first allowed address of `host` that answers.

        The name is looked up once, and what the policy saw is what is connected to; the look-up's own patience is the
        system resolver's. Raises OSError (gaierror for the name), DownloadForbidden if the policy leaves no address.
        """
        # As bytes: the codec that Python puts before the resolver raises errors of its own for names like "a..b".
        found = socket.getaddrinfo(host.encode("ascii"), port, type=socket.SOCK_STREAM)
        allowed = [entry for entry in found if self._policy(unwrapped(str(entry[4][0])))]
        if not allowed:
            raise DownloadForbidden(reason=f"connections to {host} ({found[0][4][0]}) are not permitted")
        failure = OSError("no address")
        for family, kind, protocol, _, address in allowed:
            wire = socket.socket(family, kind, protocol)
            try:
                _tune(wire)
                wire.settimeout(self._timeout)
                wire.connect(address)
            except OSError as error:
                wire.close()
                failure = error
            else:
                return wire
        raise failure

    def secured(self, wire: socket.socket, host: str, trust: Trust) -> ssl.SSLSocket:
        """TLS on a new connection, which is closed if that fails. An end without TLS's own goodbye raises SSLEOFError.

        Raises OSError, InvalidSettings for a bad CA file, InvalidInput for certificates that are none.
        """
        try:
            return self._context(trust).wrap_socket(wire, server_hostname=host, suppress_ragged_eofs=False)
        except BaseException:
            wire.close()
            raise

    @property
    def kept_trusts(self) -> int:
        """For how many kinds of trust what TLS needs is kept ready."""
        with self._lock:
            return len(self._contexts)

    def _context(self, trust: Trust) -> ssl.SSLContext:
        with self._lock:
            context = self._contexts.pop(trust, None)
            if context is None:
                context = _verifying(self._ca_file, trust.certificates) if trust.verify else _trusting()
            self._contexts[trust] = context  # the last place is that of the most recently used
            if len(self._contexts) > _CONTEXTS_KEPT:
                del self._contexts[next(iter(self._contexts))]
            return context


def _tune(wire: socket.socket) -> None:
    wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with suppress(OSError, AttributeError):  # not every kernel has a choice; bbr throttles several loopback connections
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")


def _verifying(ca_file: Path | None, certificates: tuple[bytes, ...]) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if ca_file is not None:
        try:
            context.load_verify_locations(cafile=ca_file)
        except OSError as error:  # ssl.SSLError is one
            raise InvalidSettings(file=ca_file, reason=f"not a file of CA certificates ({error})") from error
    for certificate in certificates:
        _trust_also(context, certificate)
    return _http_only(context)


def _trust_also(context: ssl.SSLContext, certificate: bytes) -> None:
    """Trust a certificate, be it an authority's, an intermediate one's or the server's own."""
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        is_pem = b"-----BEGIN" in certificate
        context.load_verify_locations(cadata=certificate.decode("ascii") if is_pem else certificate)
    except (ssl.SSLError, ValueError) as error:
        raise InvalidInput(reason="a certificate of the chain is neither PEM nor DER") from error


def _trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return _http_only(context)


def _http_only(context: ssl.SSLContext) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context
