"""An HTTP origin of files of any length, in a process of its own: bytes at the speed of memory, none on a disk.

    GET /<length>/<name>                a file: the same 64 MiB of random bytes again and again
    GET /<length>/<name>?rate=<bytes>   the same, so many bytes a second

Ranges are understood. It prints its address, then answers each line on its input with the bytes it sent of each path so
far, as JSON: that also works from outside its network namespace.
"""

import argparse
import json
import os
import socket
import sys
import threading
import time
from collections import Counter
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from dragonfly.core.model.ranges import ByteRange, parse_range_header
from dragonfly.core.model.units import Bytes, KiB, MiB
from dragonfly.errors import InvalidRange
from dragonfly.net.lifecycle import die_with_parent

BLOCK: Bytes = 64 * MiB
_TURN: Bytes = 64 * KiB  # sent at a time where a rate is asked for


def block() -> int:
    """The descriptor of 64 MiB of random bytes in memory."""
    descriptor = os.memfd_create("block")
    for _ in range(BLOCK // MiB):
        os.write(descriptor, os.urandom(MiB))
    return descriptor


class Origin(ThreadingHTTPServer):
    """Serves `block` over and over."""

    daemon_threads = True
    request_queue_size = 512

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__(address, Answering)
        self.content = block()
        self.sent: Counter[str] = Counter()
        self.lock = threading.Lock()
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")  # connections inherit it

    def count(self, path: str, sent: Bytes) -> None:
        with self.lock:
            self.sent[path] += sent


class Answering(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: Origin

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        length = int(parts.path.split("/")[1])
        rate = parse_qs(parts.query).get("rate")
        asked = self.headers.get("Range")
        try:
            span = parse_range_header(asked, length) if asked else ByteRange(0, length)
        except InvalidRange:
            self.send_error(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
            return
        self.send_response(HTTPStatus.PARTIAL_CONTENT if asked else HTTPStatus.OK)
        self.send_header("ETag", f'"{length}"')
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(span.length))
        if asked:
            self.send_header("Content-Range", f"bytes {span.start}-{span.end - 1}/{length}")
        self.end_headers()
        self._send(parts.path, span, int(rate[0]) if rate else None)

    def _send(self, path: str, span: ByteRange, rate: Bytes | None) -> None:
        position, wire = span.start, self.connection.fileno()
        while position < span.end:
            within = position % BLOCK
            most = min(span.end - position, BLOCK - within, _TURN if rate else BLOCK)
            sent = os.sendfile(wire, self.server.content, within, most)
            if sent == 0:
                raise BrokenPipeError
            position += sent
            self.server.count(path, sent)
            if rate:
                time.sleep(sent / rate)

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:  # the client has what it wanted, or is gone
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
        return


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--ip", default="127.0.0.1")
    options = parser.parse_args()
    die_with_parent()
    origin = Origin((options.ip, 0))
    threading.Thread(target=origin.serve_forever, name="origin", daemon=True).start()
    print(f"http://{options.ip}:{origin.server_address[1]}", flush=True)
    for _ in sys.stdin:
        with origin.lock:
            print(json.dumps(origin.sent), flush=True)


if __name__ == "__main__":
    main()
