import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from http.client import HTTPConnection, HTTPResponse, IncompleteRead
from pathlib import Path
from urllib.request import urlopen

import pytest

from dragonfly.core.model.units import KiB, MiB
from dragonfly.testing.origin import COUNTERS_PATH, Origin, main
from dragonfly.testing.origin_answer import Fault
from dragonfly.testing.origin_index import STYLES


def get(origin: Origin, path: str, **headers: str) -> tuple[HTTPResponse, bytes]:
    connection = HTTPConnection(origin.ip, origin.port, timeout=10)
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


def test_files_below_the_directory_are_served(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a file").write_bytes(b"content")
    with Origin(tmp_path) as origin:
        response, body = get(origin, "/deep/a%20file?query=ignored", Range="bytes=1-3")
        assert (response.status, body) == (206, b"ont")
        assert origin.counters().requests == {"/deep/a file": 1}
        assert origin.counters().body_bytes == {"/deep/a file": 3}


@pytest.mark.parametrize(
    "path", ["/../secret", "/%2e%2e/secret", "/link", "//etc/passwd", "/", "/%00", "/" + "x" * 5000]
)
def test_nothing_outside_the_directory_is_served(tmp_path: Path, path: str) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "link").symlink_to(tmp_path / "secret")
    with Origin(tmp_path / "served") as origin:
        assert get(origin, path)[0].status == 404


def test_a_file_gets_new_validators_when_it_is_rewritten(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"one")
    with Origin(tmp_path) as origin:
        before = get(origin, "/file")[0].headers["ETag"]
        (tmp_path / "file").write_bytes(b"three")
        response, body = get(origin, "/file")
        assert body == b"three"
        assert response.headers["ETag"] != before


def test_a_connection_is_kept(tmp_path: Path) -> None:
    with Origin() as origin:
        origin.put("/file", b"content")
        connection = HTTPConnection(origin.ip, origin.port, timeout=10)
        for method, expected in [("GET", b"content"), ("HEAD", b""), ("GET", b"content")]:
            connection.request(method, "/file")
            assert connection.getresponse().read() == expected
        connection.close()
        assert origin.counters().connections == 1
        assert origin.counters().total_body_bytes == 14


def test_a_fault_may_last_for_some_requests_only() -> None:
    with Origin() as origin:
        origin.put("/file", b"content")
        origin.fail("/file", Fault(status=500, times=2))
        assert [get(origin, "/file")[0].status for _ in range(3)] == [500, 500, 200]
        origin.fail("/file", Fault(status=500))
        origin.fail("/file", None)
        assert get(origin, "/file")[0].status == 200


def test_faults_may_follow_one_another() -> None:
    with Origin() as origin:
        origin.put("/file", b"content")
        origin.fail(
            "/file", Fault(status=500, times=1, then=Fault(status=404, times=2, then=Fault(status=403, times=1)))
        )
        assert [get(origin, "/file")[0].status for _ in range(5)] == [500, 404, 404, 403, 200]


def test_requests_are_counted_by_what_they_ask_for() -> None:
    with Origin() as origin:
        origin.put("/file", b"content")
        tag = get(origin, "/file")[0].headers["ETag"]
        get(origin, "/file", Range="bytes=1-2")
        response, body = get(origin, "/file", **{"If-None-Match": tag, "Range": "bytes=0-0"})
        assert (response.status, body) == (304, b"")
        assert origin.counters().kinds == {"/file": {"whole": 1, "ranged": 1, "conditional": 1}}
        assert origin.counters().requests == {"/file": 3}


@pytest.mark.parametrize("close_after", [3, 7], ids=["midway", "before the last chunk"])
def test_chunks_that_are_cut_off_have_no_end(close_after: int) -> None:
    with Origin() as origin:
        origin.put("/file", b"content")
        origin.fail("/file", Fault(no_length=True, close_after=close_after))
        with pytest.raises(IncompleteRead):
            get(origin, "/file")


def test_a_body_may_end_with_its_connection() -> None:
    with Origin() as origin:
        origin.put("/file", b"content")
        origin.fail("/file", Fault(until_close=True))
        response, body = get(origin, "/file")
        assert (body, response.headers["Content-Length"], response.headers["Connection"]) == (b"content", None, "close")
        origin.fail("/file", Fault(until_close=True, close_after=3, reset=True))
        with pytest.raises(ConnectionResetError):
            get(origin, "/file")


@pytest.mark.parametrize("style", STYLES)
def test_directories_are_listed_if_wanted(tmp_path: Path, style: str) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "on disk").write_bytes(b"12")
    with Origin(tmp_path, index=style) as origin:
        origin.put("/sub/put & named", b"123")
        origin.put("/sub/below/file", b"1")
        response, page = get(origin, "/sub/")
        assert response.status == 200
        assert response.headers["Content-Type"].startswith("application/json" if "json" in style else "text/html")
        for name in (b"below", b"on disk", b"named"):
            assert name in page
        assert b"file" not in page.replace(b'"file"', b"").replace(b"file)", b"")
        assert get(origin, "/none/")[0].status == 404
        assert get(origin, "/../")[0].status == 404


def test_a_path_may_have_a_pace_of_its_own() -> None:
    with Origin() as origin:
        origin.put("/slow", bytes(512 * KiB))
        origin.put("/fast", bytes(512 * KiB))
        origin.limit("/slow", MiB)
        started = time.monotonic()
        get(origin, "/slow")
        assert time.monotonic() - started >= 0.5 * 0.97
        origin.limit("/slow", None)
        get(origin, "/slow")
        assert origin.counters().body_bytes == {"/slow": MiB}


def test_a_name_is_encoded_in_the_url_of_what_is_put() -> None:
    with Origin() as origin:
        url = origin.put("/two words?", b"content")
        assert url == origin.url("/two%20words%3F")
        assert get(origin, "/two%20words%3F")[1] == b"content"


def test_bytes_that_were_cut_off_are_not_counted() -> None:
    with Origin() as origin:
        origin.put("/file", b"content")
        origin.fail("/file", Fault(close_after=3))
        with pytest.raises(Exception, match="3 bytes read, 4 more expected"):
            get(origin, "/file")
        assert origin.counters().body_bytes["/file"] == 3


@pytest.mark.parametrize(
    "request_bytes", [b"\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\nno colon\r\n\r\n", b"\xff" * 40_000]
)
def test_what_is_not_http_is_hung_up_on(request_bytes: bytes) -> None:
    with (
        Origin() as origin,
        socket.create_connection((origin.ip, origin.port), timeout=10) as wire,
        suppress(ConnectionResetError, BrokenPipeError),  # a reset says that it did not read everything
    ):
        wire.sendall(request_bytes)
        assert wire.recv(1) == b""


def test_stopping_ends_every_thread_at_once(tmp_path: Path) -> None:
    before = threading.active_count()
    (tmp_path / "file").write_bytes(bytes(8 * MiB))
    origin = Origin(tmp_path, limit=1000).start()
    origin.put("/slow", b"content")
    origin.fail("/slow", Fault(first_byte_after=60))
    wires = [socket.create_connection((origin.ip, origin.port), timeout=10) for _ in range(3)]
    for wire, path in zip(wires, ("/file", "/slow"), strict=False):
        wire.sendall(f"GET {path} HTTP/1.1\r\n\r\n".encode())
    assert wires[0].recv(100).startswith(b"HTTP/1.1 200")
    started = time.monotonic()
    origin.stop()
    origin.stop()
    assert time.monotonic() - started < 5
    assert threading.active_count() == before
    for wire in wires:
        wire.close()


@pytest.mark.parametrize("clients", [1, 4])
def test_the_limit_holds_for_all_clients_together(tmp_path: Path, clients: int) -> None:
    length = 4 * MiB // clients
    (tmp_path / "file").write_bytes(bytes(length))
    started = time.monotonic()  # the limit holds from when the origin is made: a moment without clients may be made up
    with Origin(tmp_path, limit=8 * MiB) as origin:
        threads = [threading.Thread(target=get, args=(origin, "/file")) for _ in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        took = time.monotonic() - started
    # Never too fast; how much too slow is up to the machine the test shares.
    assert 0.5 * 0.97 <= took < 5
    assert origin.counters().body_bytes["/file"] == 4 * MiB


@pytest.mark.slow
def test_as_a_process_it_tells_its_address_and_its_counters(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    command = [sys.executable, "-m", "dragonfly.testing.origin", str(tmp_path), "--limit", "1MiB"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        with urlopen(f"{url}/file", timeout=10) as response:
            assert response.read() == b"content"
        with urlopen(url + COUNTERS_PATH, timeout=10) as response:
            assert json.load(response) == {
                "connections": 2,
                "requests": {"/file": 1},
                "body_bytes": {"/file": 7},
                "kinds": {"/file": {"whole": 1}},
            }
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


@pytest.mark.parametrize("arguments", [["--limit", "fast"], ["--ip", "203.0.113.1"]])
def test_what_cannot_be_served_is_said_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    masked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        assert main([str(tmp_path), *arguments]) == 1
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, masked)
    assert capsys.readouterr().err.count("\n") == 1
