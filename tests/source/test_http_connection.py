import socket
import threading
from pathlib import Path

import pytest

from dragonfly.core.model.ranges import ByteRange
from dragonfly.errors import DownloadForbidden, InvalidSettings, SourceUnreachable
from dragonfly.source.dialling import Dialler, Trust
from dragonfly.source.egress import off_link, public_only, unwrapped
from dragonfly.source.http import HttpSource
from dragonfly.source.http_address import parse_http_url
from dragonfly.source.http_connection import KEPT_FOR, KEPT_PER_ORIGIN, ConnectionPool
from dragonfly.source.protocol import SourceRequest
from dragonfly.testing.origin import Origin
from dragonfly.testing.origin_answer import Fault
from dragonfly.testing.source_reader import Reader
from dragonfly.testing.tls import Authority

BODY = bytes(range(256)) * 4096


def test_a_connection_serves_many_requests(origin: Origin, reader: Reader) -> None:
    url = origin.put("/file", BODY)
    for start in range(0, 1000, 100):
        assert reader.read(url, start, 100) == BODY[start : start + 100]
    assert origin.counters().connections == 1


def test_small_refusals_keep_the_connection(origin: Origin, reader: Reader) -> None:
    for _ in range(3):
        with pytest.raises(Exception, match="404"):
            reader.stat(origin.url("/missing"))
    assert origin.counters().connections == 1


def test_a_rest_that_never_comes_is_not_waited_for(origin: Origin, reader: Reader) -> None:
    origin.fail("/file", Fault(status=404, silent_after=1))
    with pytest.raises(Exception, match="404"):
        reader.stat(origin.url("/file"), timeout=60)  # the suite's own limit is shorter than this and the origin's wait
    assert reader.stat(origin.put("/other", BODY)).content_length == len(BODY)
    assert origin.counters().connections == 2


def test_a_kept_connection_that_the_origin_closed_is_not_a_failure(reader: Reader) -> None:
    first = Origin().start()
    url = first.put("/file", BODY)
    assert reader.stat(url).content_length == len(BODY)
    first.stop()
    with Origin(port=first.port) as second:
        second.put("/file", BODY)
        assert reader.read(url, 0, 100) == BODY[:100]
    assert reader.waits == []


def test_a_kept_connection_that_dies_on_use_is_replaced_once(origin: Origin, reader: Reader) -> None:
    url = origin.put("/file", BODY)
    stat = reader.stat(url)
    origin.fail("/file", Fault(close_after=0, times=1))
    assert reader.read(url, 0, 100, stat=stat) == BODY[:100]
    assert reader.waits == []
    origin.fail("/file", Fault(close_after=0, times=2))
    assert reader.read(url, 0, 100, stat=stat) == BODY[:100]
    assert reader.waits == [0.2]


def test_a_connection_kept_too_long_is_not_used_again(origin: Origin) -> None:
    now = [0.0]
    pool = ConnectionPool(Dialler(), clock=lambda: now[0])
    address = parse_http_url(origin.put("/file", b"x"))
    for now[0] in (0.0, KEPT_FOR, 3 * KEPT_FOR):
        with pool.ask(address, {}, trust=Trust(), timeout=10) as answer:
            answer.drain()
    assert origin.counters().connections == 2
    pool.close()


def test_only_so_many_connections_are_kept(origin: Origin) -> None:
    pool = ConnectionPool(Dialler())
    address = parse_http_url(origin.put("/file", b"x"))
    answers = [pool.ask(address, {}, trust=Trust(), timeout=10) for _ in range(KEPT_PER_ORIGIN + 3)]
    for answer in answers:
        with answer:
            answer.drain()
    assert pool.kept_count == KEPT_PER_ORIGIN
    pool.close()
    assert pool.kept_count == 0


def test_closing_ends_a_read_that_waits_in_another_thread(origin: Origin) -> None:
    source = HttpSource()
    url = origin.put("/file", BODY) + "?v=1"
    stat = source.stat(SourceRequest(url=url), timeout=10)
    origin.fail("/file", Fault(silent_after=10))
    begun, errors = threading.Event(), list[BaseException]()

    def read() -> None:
        try:
            source.read(SourceRequest(url=url), stat, ByteRange(0, len(BODY)), lambda _: begun.set(), timeout=60)
        except Exception as error:  # whatever it is, the test looks at it
            errors.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    while not any(request.headers["range"] != "bytes=0-0" for request in origin.requests()):
        assert thread.is_alive()
    source.close()
    thread.join(10)
    assert not thread.is_alive()
    assert type(errors[0]).__name__ in {"SourceTruncated", "SourceUnreachable"}
    with pytest.raises(SourceUnreachable, match="stopped"):
        source.stat(SourceRequest(url=url), timeout=10)


def test_bulk_sockets_have_the_options_loopback_needs(origin: Origin) -> None:
    with Dialler().dial("127.0.0.1", origin.port) as wire:
        assert wire.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert wire.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0") == b"cubic"


def test_certificates_are_verified_unless_the_request_says_otherwise(authority: Authority, ca_file: Path) -> None:
    with Origin(tls=authority.server_context("127.0.0.1")) as origin:
        url = origin.put("/file", BODY)
        trusting, waits = HttpSource(ca_file=ca_file), list[float]()
        strict = HttpSource(sleep=waits.append)
        assert Reader(trusting).read(url, 0, len(BODY)) == BODY
        assert Reader(strict).stat(url, insecure_skip_verify=True).content_length == len(BODY)
        with pytest.raises(SourceUnreachable, match="certificate is not trusted"):
            Reader(strict).stat(url)
        assert waits == []
        trusting.close()
        strict.close()


def test_a_certificate_for_another_name_is_not_trusted(authority: Authority, ca_file: Path) -> None:
    source = HttpSource(ca_file=ca_file)
    with (
        Origin(tls=authority.server_context("elsewhere.example")) as origin,
        pytest.raises(SourceUnreachable, match="certificate is not trusted"),
    ):
        Reader(source).stat(origin.url("/file"))
    source.close()


def test_tls_with_a_plain_server_fails_with_a_reason(origin: Origin, reader: Reader) -> None:
    with pytest.raises(SourceUnreachable, match="TLS failed"):
        reader.stat(origin.url("/file").replace("http:", "https:"))


def test_a_ca_file_without_certificates_is_a_setting_to_correct(tmp_path: Path) -> None:
    bad = tmp_path / "ca.pem"
    bad.write_text("nothing")
    source = HttpSource(ca_file=bad)
    with Origin() as origin, pytest.raises(InvalidSettings, match=r"ca\.pem"):
        Reader(source).stat(origin.url("/file").replace("http:", "https:"))
    source.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "0x7f000001", "0177.0.0.1", "localhost"])
def test_attack_12_the_policy_sees_addresses_not_their_spelling(origin: Origin, host: str) -> None:
    source = HttpSource(policy=public_only)
    with pytest.raises(DownloadForbidden, match="not permitted"):
        Reader(source).stat(f"http://{host}:{origin.port}/file")
    source.close()
    assert origin.counters().connections == 0


def test_attack_14_a_redirect_meets_the_same_policy(origin: Origin) -> None:
    with Origin(ip="127.0.0.2") as inner:
        source = HttpSource(policy=lambda address: str(address) == "127.0.0.1")
        origin.fail("/file", Fault(redirect=inner.url("/secret")))
        with pytest.raises(DownloadForbidden):
            Reader(source).stat(origin.url("/file"))
        source.close()
        assert inner.counters().connections == 0


@pytest.mark.parametrize(
    ("address", "is_off_link", "is_public"),
    [
        ("169.254.169.254", False, False),
        ("::ffff:169.254.169.254", False, False),
        ("64:ff9b::a9fe:a9fe", False, False),
        ("2002:a9fe:a9fe::1", False, False),
        ("fe80::1%eth0", False, False),
        ("0.0.0.0", False, False),
        ("224.0.0.1", False, False),
        ("127.0.0.1", True, False),
        ("::1", True, False),
        ("10.1.2.3", True, False),
        ("::ffff:10.1.2.3", True, False),
        ("fd00::1", True, False),
        ("8.8.8.8", True, True),
        ("2606:4700::1", True, True),
    ],
)
def test_attack_12_what_kind_of_place_an_address_is(address: str, is_off_link: bool, is_public: bool) -> None:
    assert off_link(unwrapped(address)) is is_off_link
    assert public_only(unwrapped(address)) is is_public
