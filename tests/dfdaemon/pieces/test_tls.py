"""Pieces under TLS, both sides verified: real handshakes over loopback."""

import logging
import socket
import ssl
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from dragonfly.core.model.ids import TaskKey
from dragonfly.core.model.units import Bytes, KiB, Seconds
from dragonfly.dfdaemon.pieces.client import PieceClient
from dragonfly.dfdaemon.pieces.tls import PieceTls
from dragonfly.errors import ParentUnreachable, PeerError, PieceNotFound, ServiceError
from dragonfly.settings.shared import TlsFiles
from dragonfly.storage.memory import MemoryStore
from dragonfly.wire.vortex import ContentHead, PieceRequest
from tests.dfdaemon.pieces.peers import (
    CONTENT,
    DEADLINE,
    GEOMETRY,
    KEY,
    ONE,
    TWO,
    ZERO,
    Serve,
    connected,
    content,
    fetch,
    held,
    is_closed,
    new_store,
    piece_bytes,
    read_exactly,
    read_frame,
    run_all,
)


@dataclass(frozen=True)
class Authority:
    """An authority and the files a daemon reads."""

    ca: trustme.CA
    directory: Path

    def write(self, name: str = "127.0.0.1", trusted: trustme.CA | None = None) -> "Authority":
        """A certificate for `name`, and whom to trust: this authority unless another is given."""
        certificate = self.ca.issue_cert(name)
        self.directory.mkdir(exist_ok=True)
        (trusted or self.ca).cert_pem.write_to_path(self.directory / "ca.pem")
        certificate.private_key_pem.write_to_path(self.directory / "key.pem")
        (self.directory / "cert.pem").write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
        return self

    def tls(self) -> PieceTls:
        made = PieceTls.of(
            TlsFiles(
                ca_cert=self.directory / "ca.pem", cert=self.directory / "cert.pem", key=self.directory / "key.pem"
            )
        )
        assert made is not None
        return made


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def stranger() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def files(authority: trustme.CA, tmp_path: Path) -> Authority:
    return Authority(authority, tmp_path / "ours").write()


def client_with(tls: PieceTls | None) -> closing[PieceClient]:
    return closing(PieceClient(header_timeout=DEADLINE, body_silence=DEADLINE, tls=tls))


def test_a_task_crosses_under_tls(parent: MemoryStore, child: MemoryStore, serve: Serve, files: Authority) -> None:
    address = serve(parent, tls=files.tls())
    with client_with(files.tls()) as client:
        for number in GEOMETRY.numbers():
            fetch(client, address, child, number)
    assert content(child) == CONTENT


def test_many_children_cross_on_few_connections_under_tls(parent: MemoryStore, serve: Serve, files: Authority) -> None:
    address = serve(parent, tls=files.tls())
    with closing(PieceClient(tls=files.tls(), max_lanes=2)) as client, ExitStack() as stack:
        stores = [stack.enter_context(closing(new_store(filled=False))) for _ in range(10)]

        def download(store: MemoryStore) -> None:
            for number in GEOMETRY.numbers():
                fetch(client, address, store, number)

        run_all([lambda store=store: download(store) for store in stores])
        assert all(content(store) == CONTENT for store in stores)


def test_small_grants_and_a_pace_hold_under_tls(
    parent: MemoryStore, child: MemoryStore, serve: Serve, files: Authority
) -> None:
    granted, paid = list[Bytes](), list[Bytes]()

    def grant(key: TaskKey, wanted: Bytes) -> tuple[Bytes, Seconds]:
        granted.append(min(wanted, 20 * KiB))
        return granted[-1], 0.0

    address = serve(parent, tls=files.tls(), grant=grant)
    with client_with(files.tls()) as client, child.claim(KEY, ZERO) as writer:
        client.fetch(address, KEY.wire_id, writer, parent_id="parent", stopped=lambda: False, pace=paid.append)
    assert held(child) == piece_bytes(0)
    assert sum(granted) == sum(paid) == len(piece_bytes(0))


def test_a_refusal_under_tls_leaves_the_connection_usable(
    parent: MemoryStore, child: MemoryStore, serve: Serve, files: Authority
) -> None:
    address = serve(parent, tls=files.tls())
    with client_with(files.tls()) as client, child.claim(KEY, TWO) as writer:
        with pytest.raises(PieceNotFound):
            client.fetch(address, "f" * 64, writer, parent_id="parent", stopped=lambda: False)
        client.fetch(address, KEY.wire_id, writer, parent_id="parent", stopped=lambda: False)


def test_a_child_that_reads_slowly_gets_every_byte_under_tls(
    parent: MemoryStore, child: MemoryStore, serve: Serve, files: Authority
) -> None:
    address = serve(parent, tls=files.tls(), workers=1)
    with ExitStack() as stack:
        plain = stack.enter_context(socket.socket())
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * KiB)
        plain.settimeout(DEADLINE)
        plain.connect(address)
        stream = stack.enter_context(files.tls().client().wrap_socket(plain, server_hostname="127.0.0.1"))
        stream.sendall(b"".join(PieceRequest(KEY.wire_id, 0).encode() for _ in range(4)))
        with client_with(files.tls()) as client:  # served only after the one worker has parked the first
            fetch(client, address, child, TWO)
        for _ in range(4):
            head = read_frame(stream)
            assert isinstance(head, ContentHead)
            assert read_exactly(stream, head.length) == piece_bytes(0)


def test_a_child_in_the_clear_is_told_that_pieces_are_served_under_tls(
    parent: MemoryStore, child: MemoryStore, serve: Serve, files: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    address = serve(parent, tls=files.tls())
    with caplog.at_level(logging.WARNING), client_with(None) as client:
        for _ in range(2):
            with pytest.raises(PeerError, match="it refused: pieces are served over TLS only"):
                fetch(client, address, child)
    assert len([record for record in caplog.records if "in the clear" in record.message]) == 1


def test_a_child_under_tls_is_told_that_the_parent_speaks_in_the_clear(
    parent: MemoryStore, child: MemoryStore, serve: Serve, files: Authority
) -> None:
    address = serve(parent)
    with (
        client_with(files.tls()) as client,
        pytest.raises(ParentUnreachable, match="maybe it serves pieces in the clear"),
    ):
        fetch(client, address, child)


def test_a_parent_whose_certificate_names_another_address_is_not_believed(
    parent: MemoryStore, child: MemoryStore, serve: Serve, files: Authority, tmp_path: Path
) -> None:
    elsewhere = Authority(files.ca, tmp_path / "elsewhere").write("10.9.9.9")
    address = serve(parent, tls=elsewhere.tls())
    with client_with(files.tls()) as client, pytest.raises(ParentUnreachable, match="certificate is not accepted"):
        fetch(client, address, child)


def test_a_parent_of_another_authority_is_not_believed(
    parent: MemoryStore, child: MemoryStore, serve: Serve, files: Authority, stranger: trustme.CA, tmp_path: Path
) -> None:
    address = serve(parent, tls=Authority(stranger, tmp_path / "strange").write(trusted=files.ca).tls())
    with client_with(files.tls()) as client, pytest.raises(ParentUnreachable, match="certificate is not accepted"):
        fetch(client, address, child)


def test_a_child_of_another_authority_gets_nothing(
    parent: MemoryStore, child: MemoryStore, serve: Serve, files: Authority, stranger: trustme.CA, tmp_path: Path
) -> None:
    address = serve(parent, tls=files.tls())
    strange = Authority(stranger, tmp_path / "strange").write(trusted=files.ca)
    with client_with(strange.tls()) as client, pytest.raises(PeerError):
        fetch(client, address, child)


def test_a_child_without_a_certificate_gets_nothing(parent: MemoryStore, serve: Serve, files: Authority) -> None:
    context = ssl.create_default_context(cafile=str(files.directory / "ca.pem"))
    plain = connected(serve(parent, tls=files.tls()))
    with context.wrap_socket(plain, server_hostname="127.0.0.1") as stream, suppress(OSError):  # an alert, or a reset
        stream.sendall(PieceRequest(KEY.wire_id, 0).encode())
        assert stream.recv(1) == b""


def test_nothing_older_than_tls_1_2_is_spoken(files: Authority) -> None:
    tls = files.tls()
    assert tls.client().minimum_version is tls.server().minimum_version is ssl.TLSVersion.TLSv1_2


def test_handshakes_that_never_end_hold_nobody_and_have_an_end(
    parent: MemoryStore, child: MemoryStore, serve: Serve, files: Authority
) -> None:
    """Attack 43."""
    address = serve(parent, tls=files.tls(), workers=1, header_timeout=0.5)
    with client_with(files.tls()) as client, ExitStack() as stack:
        openings = [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01", b"\x16\x03\x01\xff\xff" + b"\0" * 100]
        streams = [stack.enter_context(connected(address)) for _ in openings]
        for stream, opening in zip(streams, openings, strict=True):
            stream.sendall(opening)
        fetch(client, address, child)
        assert all(ended(stream) for stream in streams)


def ended(stream: socket.socket) -> bool:
    """Whether it ends, be it after an alert."""
    try:
        while stream.recv(KiB):
            pass
    except ConnectionError:
        pass
    return is_closed(stream)


def test_new_files_are_read_at_the_next_handshake(
    parent: MemoryStore, child: MemoryStore, serve: Serve, files: Authority, stranger: trustme.CA
) -> None:
    address = serve(parent, tls=files.tls())
    with client_with(files.tls()) as old:
        fetch(old, address, child, ZERO)
        Authority(stranger, files.directory).write()
        with client_with(files.tls()) as new:
            fetch(new, address, child, ONE)
        fetch(old, address, child, TWO)  # on the connection that stands
    assert content(child) == CONTENT


def test_files_caught_in_the_midst_of_being_replaced_leave_the_last_ones_in_use(
    parent: MemoryStore, child: MemoryStore, serve: Serve, files: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    tls = files.tls()
    address = serve(parent, tls=tls)
    (files.directory / "cert.pem").write_text("-----BEGIN CERTIFICATE-----\nhalf")
    (files.directory / "key.pem").unlink()
    with client_with(tls) as client:
        fetch(client, address, child)
    assert "cannot be read again" in caplog.text


def test_files_that_cannot_be_used_are_told_at_once(files: Authority) -> None:
    (files.directory / "key.pem").write_text("nothing")
    with pytest.raises(ServiceError, match="the certificates for pieces cannot be used"):
        files.tls()


def test_without_all_three_files_there_is_no_tls(files: Authority) -> None:
    assert PieceTls.of(TlsFiles()) is None
    assert PieceTls.of(TlsFiles(cert=files.directory / "cert.pem", key=files.directory / "key.pem")) is None
