"""An HTTP/1.1 origin for demos and tests: a real server that is fast, counts what it serves, and can misbehave.

    with Origin(directory, limit=parse_size("200MiB")) as origin:
        origin.put("/small", b"hello")
        origin.fail("/small", Fault(close_after=3, times=1))
        ...  # read origin.url("/small"), which takes two requests
        assert origin.counters().body_bytes["/small"] == 5

One thread accepts, and one thread serves each connection. As a process of its own it prints its address on one line and
tells its counters as JSON at /-/counters: `python -m dragonfly.testing.origin DIRECTORY --limit 200MiB`.
"""

import argparse
import json
import signal
import socket
import ssl
import sys
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, cast
from urllib.parse import quote, unquote

from dragonfly.core.model.units import Bytes, parse_size
from dragonfly.errors import InvalidQuantity
from dragonfly.net.lifecycle import die_with_parent
from dragonfly.testing.origin_answer import OCTETS, Answer, Content, Fault, Request, answer, of_bytes, of_file
from dragonfly.testing.origin_index import STYLES, Entry, index_page
from dragonfly.testing.origin_wire import PATIENCE, Hangup, Sender, read_request, tune
from dragonfly.testing.pace import Pace
from dragonfly.testing.tally import Counters, Tally

COUNTERS_PATH = "/-/counters"
_REMEMBERED = 10_000
_NO_FAULT = Fault()


class Origin:
    """A file server on one address; a context manager. All methods may be called from any thread while it runs."""

    def __init__(
        self,
        directory: Path | None = None,
        *,
        ip: str = "127.0.0.1",
        port: int = 0,
        limit: Bytes | None = None,
        tls: ssl.SSLContext | None = None,
        index: str | None = None,
    ) -> None:
        """Serve the files below `directory`, and whatever is `put`. `limit` is in bytes a second, for all together.

        `index` is whose pages list what lies below a path that ends in a slash, one of `origin_index.STYLES`.

        Raises OSError if the address cannot be had.
        """
        self._directory = directory.resolve() if directory is not None else None
        self._tls = tls
        self._index = index
        self._stopping = threading.Event()
        self._pace = Pace(limit, sleep=self._stopping.wait)
        self._tally = Tally()
        self._lock = threading.Lock()
        self._contents: dict[str, Content] = {}
        self._faults: dict[str, Fault] = {}
        self._paces: dict[str, Pace] = {}
        self._requests: deque[Request] = deque(maxlen=_REMEMBERED)
        self._open: dict[threading.Thread, socket.socket] = {}
        self._listener = socket.create_server((ip, port), backlog=512)
        with suppress(OSError, AttributeError):  # inherited by connections; bbr throttles several of them on loopback
            self._listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
        self.ip: str = self._listener.getsockname()[0]
        self.port: int = self._listener.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept, name=f"origin {self.port}", daemon=True)

    def start(self) -> Self:
        """Begin to serve; connections made before wait in the backlog."""
        self._acceptor.start()
        return self

    def stop(self) -> None:
        """End all threads, cutting transfers off. Harmless when repeated."""
        self._stopping.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        if self._acceptor.is_alive():
            self._acceptor.join(PATIENCE)
        self._listener.close()
        with self._lock:
            serving = dict(self._open)
        for wire in serving.values():
            with suppress(OSError):
                wire.shutdown(socket.SHUT_RDWR)
        for thread in serving:
            thread.join(PATIENCE)

    def url(self, path: str = "") -> str:
        """The address of a path, which starts with a slash."""
        return f"{'https' if self._tls else 'http'}://{self.ip}:{self.port}{path}"

    def put(self, path: str, body: bytes | Path, *, content_type: str = OCTETS) -> str:
        """Offer a body, or a file that need not be below the directory, under `path`. Returns its URL, encoded."""
        content = of_bytes(body) if isinstance(body, bytes) else of_file(body)
        with self._lock:
            self._contents[path] = replace(content, content_type=content_type)
        return self.url(quote(path))

    def limit(self, path: str, rate: Bytes | None) -> None:
        """Send a path's bodies at no more than `rate` bytes a second, all together, from its next request on."""
        with self._lock:
            self._paces[path] = Pace(rate, sleep=self._stopping.wait)

    def fail(self, path: str, fault: Fault | None) -> None:
        """Misbehave for a path from its next request on; None makes it behave."""
        with self._lock:
            self._faults[path] = fault or _NO_FAULT

    def counters(self) -> Counters:
        """What was served so far."""
        return self._tally.snapshot()

    def requests(self) -> list[Request]:
        """The latest requests, oldest first."""
        with self._lock:
            return list(self._requests)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                wire, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(wire,), name=f"origin {self.port} serves", daemon=True)
            self._tally.connection()
            with self._lock:
                self._open[thread] = wire
            thread.start()

    def _serve(self, wire: socket.socket) -> None:
        # An OSError says that the client left, or that it is time to: nobody is there to be told.
        with suppress(OSError), wire:
            tune(wire)
            if self._tls is None:
                self._converse(wire)
            else:
                with self._tls.wrap_socket(wire, server_side=True, do_handshake_on_connect=False) as secured:
                    self._replace_open(secured)
                    secured.do_handshake()
                    self._converse(secured)
        with self._lock:
            del self._open[threading.current_thread()]

    def _replace_open(self, wire: socket.socket) -> None:
        with self._lock:
            self._open[threading.current_thread()] = wire
        if self._stopping.is_set():
            raise Hangup("stopped")

    def _converse(self, wire: socket.socket) -> None:
        sender = Sender(wire, pace=self._pace, tally=self._tally, stopping=self._stopping)
        with wire.makefile("rb") as reader:
            while request := read_request(cast(BinaryIO, reader)):
                path = unquote(request.target.partition("?")[0])
                if path == COUNTERS_PATH:
                    wire.sendall(self._counters_answer())
                else:
                    sender.send(path, self._answer(path, request), self._paces.get(path))
                if request.headers.get("connection", "").lower() == "close" or request.method not in ("GET", "HEAD"):
                    return

    def _answer(self, path: str, request: Request) -> Answer:
        self._tally.request(path, request.kind)
        with self._lock:
            self._requests.append(request)
            fault = self._faults.get(path, _NO_FAULT)
            if fault.times is not None:
                self._faults[path] = (
                    replace(fault, times=fault.times - 1) if fault.times > 1 else fault.then or _NO_FAULT
                )
            content = self._contents.get(path)
        content = content or self._file(path) or self._index_of(path)
        return answer(request, content, fault, self._tally.sent(path))

    def _file(self, path: str) -> Content | None:
        """The file a path names below the directory; None if there is none, or it leads elsewhere."""
        if self._directory is None or "\0" in path:
            return None
        try:
            file = (self._directory / path.lstrip("/")).resolve()
            return of_file(file) if file.is_relative_to(self._directory) and file.is_file() else None
        except OSError:
            return None

    def _index_of(self, path: str) -> Content | None:
        """The page that lists what lies directly below a path; None if nothing does, or pages are not wanted."""
        if self._index is None or not path.endswith("/"):
            return None
        with self._lock:
            below = {known.removeprefix(path): known for known in self._contents if known.startswith(path)}
            lengths = {name: None if "/" in name else self._contents[known].length for name, known in below.items()}
        entries = {name.partition("/")[0]: length for name, length in lengths.items() if name}
        entries |= self._in_directory(path)
        if not entries:
            return None
        page = index_page(self._index, path, [Entry(name, entries[name]) for name in sorted(entries)])
        return of_bytes(page.body, page.content_type)

    def _in_directory(self, path: str) -> dict[str, Bytes | None]:
        """The directory's part of a page; directories have no length."""
        if self._directory is None or "\0" in path:
            return {}
        try:
            directory = (self._directory / path.lstrip("/")).resolve()
            if not directory.is_relative_to(self._directory):
                return {}
            return {found.name: None if found.is_dir() else found.stat().st_size for found in directory.iterdir()}
        except OSError:
            return {}

    def _counters_answer(self) -> bytes:
        body = json.dumps(asdict(self.counters())).encode()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        return Answer(status=200, headers=headers).head() + body


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve a directory until SIGINT or SIGTERM. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m dragonfly.testing.origin", description="Serve a directory by HTTP."
    )
    parser.add_argument("directory", type=Path)
    parser.add_argument("--ip", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one (default)")
    parser.add_argument("--limit", metavar="SIZE", help="bytes a second for all clients together, for example 200MiB")
    parser.add_argument("--index", choices=STYLES, help="list directories as this server does")
    options = parser.parse_args(arguments)
    ends = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)  # before any thread starts, so that only `sigwait` gets them
    die_with_parent()
    try:
        limit = parse_size(options.limit) if options.limit else None
        origin = Origin(options.directory, ip=options.ip, port=options.port, limit=limit, index=options.index)
    except (InvalidQuantity, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    with origin:
        print(origin.url(), flush=True)
        signal.sigwait(ends)
    return 0


if __name__ == "__main__":
    sys.exit(main())
