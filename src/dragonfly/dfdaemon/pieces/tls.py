"""TLS for pieces: both sides show a certificate of one authority. Off unless all three files are given.

The parent's certificate must name the parent's IP address. Files that changed are read again at the next handshake;
connections that stand keep what they began with. Files that cannot be read, as in the midst of being replaced, leave
the last good ones in use.
"""

import logging
import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from dragonfly.errors import ServiceError
from dragonfly.settings.shared import TlsFiles

log = logging.getLogger(__name__)

HANDSHAKE_RECORD = b"\x16"  # what a TLS conversation begins with; a request in the clear begins with its id

_Facts = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class _Contexts:
    server: ssl.SSLContext
    client: ssl.SSLContext


class PieceTls:
    """The contexts made of three PEM files. Thread-safe. Raises ServiceError where they cannot be used."""

    def __init__(self, *, ca_cert: Path, cert: Path, key: Path) -> None:
        self._ca_cert, self._cert, self._key = ca_cert, cert, key
        self._lock = Lock()
        try:
            self._facts = self._look()
            self._contexts = self._load()
        except (OSError, ValueError) as error:
            raise ServiceError(reason=f"the certificates for pieces cannot be used: {error}") from error

    @classmethod
    def of(cls, files: TlsFiles) -> "PieceTls | None":
        """As the settings say; None where a file is not given."""
        if files.ca_cert is None or files.cert is None or files.key is None:
            return None
        return cls(ca_cert=files.ca_cert, cert=files.cert, key=files.key)

    def server(self) -> ssl.SSLContext:
        """For a child that connects."""
        return self._current().server

    def client(self) -> ssl.SSLContext:
        """For a connection to a parent, whose IP address is the name to be checked."""
        return self._current().client

    def _current(self) -> _Contexts:
        with self._lock:
            try:
                facts = self._look()
                if facts != self._facts:
                    self._contexts, self._facts = self._load(), facts
                    log.info("the certificates for pieces were read again")
            except (OSError, ValueError) as error:
                log.warning("the certificates for pieces cannot be read again, the last ones stay: %s", error)
            return self._contexts

    def _look(self) -> _Facts:
        found = (os.stat(path) for path in (self._ca_cert, self._cert, self._key))
        return tuple((facts.st_ino, facts.st_size, facts.st_mtime_ns) for facts in found)

    def _load(self) -> _Contexts:
        server = self._context(ssl.PROTOCOL_TLS_SERVER)
        server.verify_mode = ssl.CERT_REQUIRED
        server.num_tickets = 0  # connections are kept, sessions are not resumed
        return _Contexts(server, self._context(ssl.PROTOCOL_TLS_CLIENT))

    def _context(self, protocol: int) -> ssl.SSLContext:
        context = ssl.SSLContext(protocol)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self._cert, self._key)
        context.load_verify_locations(self._ca_cert)
        return context
