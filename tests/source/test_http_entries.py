"""Directories of origins, asked for over the wire; what pages mean is in test_http_listing."""

import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import create_connection, create_server

import pytest

from dragonfly.errors import SourceError, SourceForbidden, SourceNotFound, SourceUnreachable, UnsupportedFeature
from dragonfly.source import http
from dragonfly.source.protocol import SourceEntry
from dragonfly.testing.origin import Origin
from dragonfly.testing.origin_answer import Fault
from dragonfly.testing.origin_index import STYLES
from dragonfly.testing.source_reader import Reader

NAMES = [
    "file.bin",
    "two words",
    "ä",
    "100%",
    "a&b",
    "q?u#e",
    "c:d",
    "semi;colon",
    "%2e%2e",
    "quo\"te'",
    "a\\b",
    "a\nb",
]


@pytest.fixture(params=STYLES)
def listing(request: pytest.FixtureRequest) -> Iterator[Origin]:
    """An origin that lists directories in one of many ways."""
    with Origin(index=request.param) as origin:
        yield origin


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory of odd names, with one below it."""
    for name in NAMES:
        (tmp_path / name).write_bytes(b"content")
    (tmp_path / "sub dir").mkdir()
    (tmp_path / "sub dir" / "inner").write_bytes(b"inner")
    return tmp_path


def read_all(reader: Reader, url: str) -> dict[str, bytes]:
    """Every file below a URL, by the rest of its own."""
    files: dict[str, bytes] = {}
    waiting = [url]
    while waiting:
        for entry in reader.entries(waiting.pop()):
            if entry.is_directory:
                waiting.append(entry.url)
            else:
                files[entry.url.removeprefix(url)] = reader.read_whole(entry.url)
    return files


def test_a_tree_is_read_by_what_its_pages_name(listing: Origin, reader: Reader) -> None:
    listing.put("/dir/a file", b"1")
    listing.put("/dir/sub/inner", b"2")
    listing.put("/dir/sub/deep/ä", b"3")
    listing.put("/elsewhere", b"4")
    files = read_all(reader, listing.url("/dir/"))
    assert files == {"a%20file": b"1", "sub/inner": b"2", "sub/deep/%C3%A4": b"3"}


def test_the_pages_of_pythons_own_server_are_understood(tree: Path, reader: Reader) -> None:
    handler = partial(type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None}), directory=str(tree))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            files = read_all(reader, f"http://127.0.0.1:{server.server_port}/")
        finally:
            server.shutdown()
            thread.join()
    assert len(files) == len(NAMES) + 1
    assert set(files.values()) == {b"content", b"inner"}


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
@pytest.mark.parametrize("form", ["html", "json"])
def test_the_pages_of_nginx_are_understood(
    tree: Path, reader: Reader, form: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    home = tmp_path_factory.mktemp("nginx")
    with create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (home / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {home}/pid; error_log {home}/error; events {{}}\n"
        f"http {{ access_log off; client_body_temp_path {home}/b; proxy_temp_path {home}/p;\n"
        f"fastcgi_temp_path {home}/f; uwsgi_temp_path {home}/u; scgi_temp_path {home}/s;\n"
        f"server {{ listen 127.0.0.1:{port}; root {tree}; autoindex on; autoindex_format {form}; }} }}\n"
    )
    with subprocess.Popen(["nginx", "-c", str(home / "nginx.conf"), "-e", str(home / "error")]) as nginx:
        try:
            wait_for(port)
            url = f"http://127.0.0.1:{port}/"
            files = read_all(reader, url)
            known = reader.stat(url + "file.bin")
            assert reader.stat(url + "file.bin", known=known).is_unchanged
            lengths = {entry.content_length for entry in reader.entries(url) if not entry.is_directory}
        finally:
            nginx.terminate()
    assert len(files) == len(NAMES) + 1
    assert set(files.values()) == {b"content", b"inner"}
    assert lengths == ({7} if form == "json" else {None})


def wait_for(port: int) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            create_connection(("127.0.0.1", port)).close()
        except OSError:
            assert time.monotonic() < deadline, "nginx did not start"
            time.sleep(0.02)
        else:
            return


@pytest.mark.parametrize("path", ["/dir", "/dir/file", "/dir%2f", "/dir?x=/", "/dir#/"])
def test_only_a_url_that_ends_in_a_slash_is_a_directory(origin: Origin, reader: Reader, path: str) -> None:
    with pytest.raises(UnsupportedFeature):
        reader.entries(origin.url(path))
    assert origin.requests() == []


def test_a_directory_is_one_plain_request(reader: Reader) -> None:
    with Origin(index="nginx") as origin:
        origin.put("/dir/file", b"x")
        assert reader.entries(origin.url("/dir/"), headers={"Authorization": "Bearer t"}) == [
            SourceEntry(url=origin.url("/dir/file"))
        ]
        [request] = origin.requests()
    assert request.kind == "whole"
    assert request.headers["authorization"] == "Bearer t"
    assert request.headers["accept-encoding"] == "identity"


def test_a_redirected_directory_still_names_what_was_asked_for(origin: Origin, reader: Reader) -> None:
    with Origin(index="apache") as mirror:
        mirror.put("/real/file", b"x")
        origin.fail("/dir/", Fault(redirect=mirror.url("/real/")))
        assert [entry.url for entry in reader.entries(origin.url("/dir/"))] == [origin.url("/dir/file")]


@pytest.mark.parametrize(("status", "error"), [(404, SourceNotFound), (403, SourceForbidden)])
def test_a_directory_that_is_not_there_or_not_shown_says_so(
    origin: Origin, reader: Reader, status: int, error: type[SourceError]
) -> None:
    origin.fail("/dir/", Fault(status=status))
    with pytest.raises(error):
        reader.entries(origin.url("/dir/"))


def test_an_origin_that_recovers_lists_in_the_end(reader: Reader) -> None:
    with Origin(index="nginx") as origin:
        origin.put("/dir/file", b"x")
        origin.fail("/dir/", Fault(status=503, times=1, then=Fault(no_length=True, close_after=20, times=1)))
        assert len(reader.entries(origin.url("/dir/"))) == 1
    assert reader.waits == [0.2, 1.0]


def test_half_a_page_is_no_shorter_list(reader: Reader) -> None:
    with Origin(index="nginx") as origin:
        origin.put("/dir/file", b"x")
        origin.fail("/dir/", Fault(close_after=100))
        with pytest.raises(SourceUnreachable, match="broke off"):
            reader.entries(origin.url("/dir/"))


@pytest.mark.parametrize("fault", [Fault(no_length=True), Fault(until_close=True), Fault()])
def test_a_page_is_read_to_its_end_however_that_is_told(reader: Reader, fault: Fault) -> None:
    with Origin(index="caddy") as origin:
        for number in range(5000):
            origin.put(f"/dir/file {number}", b"x")
        origin.fail("/dir/", fault)
        assert len(reader.entries(origin.url("/dir/"))) == 5000


def test_a_page_without_end_is_given_up(origin: Origin, reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "PAGE_LIMIT", 100_000)
    origin.put("/dir/", bytes(200_000), content_type="text/html")
    with pytest.raises(SourceError, match="exceeds 100000 bytes"):
        reader.entries(origin.url("/dir/"))


def test_a_website_lists_nothing(origin: Origin, reader: Reader) -> None:
    origin.put("/dir/", b"<title>Home</title><a href='about'>About us</a>", content_type="text/html")
    with pytest.raises(UnsupportedFeature):
        reader.entries(origin.url("/dir/"))
