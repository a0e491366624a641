"""Certificates for test servers. Needs `trustme`, of the development group; it is imported only when used."""

import ssl
from pathlib import Path


class Authority:
    """A certificate authority that lives as long as one test."""

    def __init__(self) -> None:
        import trustme

        self._ca = trustme.CA()

    def write_ca(self, path: Path) -> Path:
        """Write the authority's own certificate as PEM, for clients to trust. Returns `path`."""
        self._ca.cert_pem.write_to_path(str(path))
        return path

    def server_context(self, *names: str) -> ssl.SSLContext:
        """What a server needs to prove that it is one of `names`: host names or IP addresses."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._ca.issue_cert(*names).configure_cert(context)
        return context
