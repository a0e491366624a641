import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from dragonfly.errors import InvalidInput, SourceUnreachable
from dragonfly.source.dialling import Dialler, Trust
from dragonfly.source.http import HttpSource
from dragonfly.testing.origin import Origin
from dragonfly.testing.source_reader import Reader
from dragonfly.testing.tls import Authority

BODY = b"content"


@pytest.fixture
def origin(authority: Authority) -> Iterator[Origin]:
    """An origin whose authority nobody knows."""
    with Origin(tls=authority.server_context("127.0.0.1")) as origin:
        origin.put("/file", BODY)
        yield origin


@pytest.fixture
def pem(ca_file: Path) -> bytes:
    return ca_file.read_bytes()


def other_pem(tmp_path: Path) -> bytes:
    return Authority().write_ca(tmp_path / "other.pem").read_bytes()


@pytest.mark.parametrize("form", ["PEM", "DER", "several in one PEM", "several"])
def test_certificates_of_a_request_are_trusted(
    origin: Origin, reader: Reader, pem: bytes, tmp_path: Path, form: str
) -> None:
    chain = {
        "PEM": (pem,),
        "DER": (ssl.PEM_cert_to_DER_cert(pem.decode()),),
        "several in one PEM": (other_pem(tmp_path) + pem,),
        "several": (other_pem(tmp_path), pem),
    }[form]
    assert reader.stat(origin.url("/file"), certificate_chain=chain).content_length == len(BODY)


def test_the_servers_own_certificate_may_be_given(origin: Origin, reader: Reader) -> None:
    leaf = ssl.get_server_certificate((origin.ip, origin.port)).encode()
    assert reader.stat(origin.url("/file"), certificate_chain=(leaf,)).content_length == len(BODY)


def test_they_are_trusted_for_that_request_alone(origin: Origin, reader: Reader, pem: bytes, tmp_path: Path) -> None:
    url = origin.url("/file")
    reader.stat(url, certificate_chain=(pem,))
    reader.stat(url, insecure_skip_verify=True)
    for chain in ((), (other_pem(tmp_path),)):
        with pytest.raises(SourceUnreachable, match="not trusted"):
            reader.stat(url, certificate_chain=chain)


def test_connections_of_different_trust_are_not_shared(origin: Origin, reader: Reader, pem: bytes) -> None:
    url = origin.url("/file")
    for _ in range(3):
        reader.stat(url, certificate_chain=(pem,))
    assert origin.counters().connections == 1
    reader.stat(url, insecure_skip_verify=True)
    reader.stat(url, certificate_chain=(pem, pem))
    assert origin.counters().connections == 3


def test_the_name_is_checked_with_them_too(authority: Authority, reader: Reader, pem: bytes) -> None:
    with (
        Origin(tls=authority.server_context("elsewhere.example")) as origin,
        pytest.raises(SourceUnreachable, match="not trusted"),
    ):
        reader.stat(origin.url("/file"), certificate_chain=(pem,))


@pytest.mark.parametrize(
    "certificate",
    [
        b"",
        b"nothing",
        b"\x30\x03",
        b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----",
        "-----BEGIN é".encode(),
    ],
)
def test_what_is_no_certificate_is_the_callers_mistake(origin: Origin, reader: Reader, certificate: bytes) -> None:
    with pytest.raises(InvalidInput, match="neither PEM nor DER"):
        reader.stat(origin.url("/file"), certificate_chain=(certificate,))


def test_who_asks_for_no_verification_needs_no_certificates(origin: Origin, reader: Reader) -> None:
    stat = reader.stat(origin.url("/file"), certificate_chain=(b"nothing",), insecure_skip_verify=True)
    assert stat.content_length == len(BODY)


@pytest.mark.slow
def test_the_trust_of_many_requests_is_not_kept_for_ever(origin: Origin, pem: bytes) -> None:
    dialler = Dialler()
    for count in range(1, 71):
        wire = dialler.dial(origin.ip, origin.port)
        dialler.secured(wire, origin.ip, Trust(certificates=(pem,) * count)).close()
    assert dialler.kept_trusts == 64


def test_the_authorities_of_the_settings_stay_trusted_beside_them(
    origin: Origin, ca_file: Path, tmp_path: Path
) -> None:
    source = HttpSource(ca_file=ca_file)
    stat = Reader(source).stat(origin.url("/file"), certificate_chain=(other_pem(tmp_path),))
    assert stat.content_length == len(BODY)
    source.close()
