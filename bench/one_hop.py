"""One hop between two peers over loopback: what a piece costs from content file to content file.

    python -m bench.one_hop [--size 1024] [--rounds 5] [--directory /dev/shm]

Each round runs, in turn: the whole hop (PieceServer -> PieceClient -> piece writer) with 1, 2 and 4 connections into a
warm file, and once into a fresh file of a DiskStore; and for the upload alone the same requests to PieceServer and to a
bare loop of recv(74) and sendfile, drained without a copy. Parent and child are two processes. Figures are medians; a
ratio is the median of the rounds' ratios. CPU is user + system of the process. A fresh file pays for memory touched the
first time and swings; on a shared machine trust the ratios and the CPU seconds, not the rates.
"""

import argparse
import multiprocessing
import os
import shutil
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from queue import Empty, SimpleQueue

from dragonfly.core.model.ids import content_task_id, public_task
from dragonfly.core.model.piece import PieceGeometry, PieceNumber
from dragonfly.core.model.units import GiB, MiB
from dragonfly.dfdaemon.pieces.client import PieceClient
from dragonfly.dfdaemon.pieces.server import PieceServer
from dragonfly.dfdaemon.pieces.socket import tune
from dragonfly.storage.disk import DiskStore
from dragonfly.storage.piece_io import DiskPieceWriter
from dragonfly.storage.store import OriginFacts, PieceWriter
from dragonfly.wire.vortex import AnswerDecoder, ContentHead, PieceRequest

KEY = public_task(content_task_id("one hop"))
PIECE_LENGTH = 4 * MiB
Claim = Callable[[PieceNumber], PieceWriter]


@dataclass(frozen=True, slots=True)
class Figures:
    """One run: wall and CPU seconds of each end, for `size` bytes."""

    seconds: float
    parent_cpu: float
    child_cpu: float
    size: int

    @property
    def rate(self) -> float:
        return self.size / self.seconds / GiB

    def per_gib(self, cpu: float) -> float:
        return cpu / self.size * GiB


def fill(store: DiskStore, geometry: PieceGeometry) -> None:
    """A task with content that does not compress, finished."""
    store.create(KEY, geometry, OriginFacts(url="bench://"))
    block = memoryview(os.urandom(PIECE_LENGTH))
    for number in geometry.numbers():
        with store.claim(KEY, number) as writer:
            writer.write(block[: writer.length])
            writer.commit(parent_id=None, cost=0.0)
    store.finish(KEY)


def parent(directory: Path, geometry: PieceGeometry, control: Connection) -> None:
    """The serving process: tells its two ports, then its CPU time whenever asked, until told to end."""
    store = DiskStore(directory, free_reserve=0)
    fill(store, geometry)
    server = PieceServer(store, ip="127.0.0.1", port=0)
    port = server.start()
    bare = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=serve_bare, args=(bare, store.content_path(KEY), geometry), daemon=True).start()
    control.send((port, bare.getsockname()[1]))
    while control.recv():
        control.send(time.process_time())
    server.stop()
    store.close()


def serve_bare(listener: socket.socket, path: Path, geometry: PieceGeometry) -> None:
    """The least a server can do: read 74 bytes, send a head made beforehand and the file's bytes."""
    fd = os.open(path, os.O_RDONLY)

    def converse(stream: socket.socket) -> None:
        tune(stream)
        while request := stream.recv(74, socket.MSG_WAITALL):
            number = int.from_bytes(request[70:], "big")
            span = geometry.span(PieceNumber(number))
            head = ContentHead(number=number, offset=span.start, length=span.length, digest="crc32:1234567890")
            stream.send(head.encode(), socket.MSG_MORE)
            position = span.start
            while position < span.end:
                position += os.sendfile(stream.fileno(), fd, position, span.end - position)

    while True:
        stream, _ = listener.accept()
        threading.Thread(target=converse, args=(stream,), daemon=True).start()


def each_piece(geometry: PieceGeometry, threads: int, make: Callable[[], Callable[[PieceNumber], None]]) -> None:
    """Call `make()`'s result for every piece, from this many threads."""
    queue: SimpleQueue[PieceNumber] = SimpleQueue()
    for number in geometry.numbers():
        queue.put(number)

    def work() -> None:
        take = make()
        try:
            while True:
                take(queue.get_nowait())
        except Empty:
            return

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def hop(claim: Claim, client: PieceClient, port: int, geometry: PieceGeometry, threads: int) -> None:
    """Fetch every piece into the writers `claim` gives."""

    def take(number: PieceNumber) -> None:
        with claim(number) as writer:
            client.fetch(("127.0.0.1", port), KEY.wire_id, writer, parent_id="parent", stopped=lambda: False)

    each_piece(geometry, threads, lambda: take)


@contextmanager
def warm_file(path: Path, geometry: PieceGeometry) -> Iterator[Claim]:
    """Writers into one file that is overwritten in place: checksum and write as in the store, without its tables."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    os.posix_fallocate(fd, 0, geometry.content_length)

    def nothing(piece: object = None) -> None:
        return

    yield lambda number: DiskPieceWriter(fd, number, geometry.span(number), path=path, keep=nothing, leave=nothing)
    os.close(fd)


def drain(port: int, geometry: PieceGeometry, threads: int) -> None:
    """Ask for every piece and throw it away in the kernel, so that the sender is what is measured."""

    def make() -> Callable[[PieceNumber], None]:
        stream = socket.create_connection(("127.0.0.1", port))
        tune(stream)
        scratch = bytearray(MiB)

        def take(number: PieceNumber) -> None:
            stream.sendall(PieceRequest(KEY.wire_id, number).encode())
            decoder, head = AnswerDecoder(), None
            while head is None:
                head = decoder.feed(stream.recv(decoder.needs))
            assert isinstance(head, ContentHead)
            left = head.length
            while left:
                left -= stream.recv_into(scratch, min(left, MiB), socket.MSG_TRUNC)

        return take

    each_piece(geometry, threads, make)


@contextmanager
def serving(directory: Path, geometry: PieceGeometry) -> Iterator[tuple[int, int, Connection]]:
    ours, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=parent, args=(directory, geometry, theirs))
    process.start()
    try:
        port, bare_port = ours.recv()
        yield port, bare_port, ours
    finally:
        ours.send(False)
        process.join(30)


def measured(run: Callable[[], None], control: Connection, size: int) -> Figures:
    def parent_cpu() -> float:
        control.send(True)
        value: float = control.recv()
        return value

    theirs, ours, began = parent_cpu(), time.process_time(), time.perf_counter()
    run()
    seconds, ours = time.perf_counter() - began, time.process_time() - ours
    return Figures(seconds, parent_cpu() - theirs, ours, size)


def rounds(directory: Path, geometry: PieceGeometry, count: int) -> dict[str, list[Figures]]:
    """All runs of all rounds by name; a round before the first warms up and is not kept."""
    results: dict[str, list[Figures]] = {}
    size = geometry.content_length
    client, store = PieceClient(), DiskStore(directory / "child", free_reserve=0)
    with (
        serving(directory / "parent", geometry) as (port, bare_port, control),
        warm_file(directory / "warm", geometry) as warm,
    ):
        for number in range(count + 1):
            runs: dict[str, Callable[[], None]] = {}
            for threads in (1, 2, 4):
                runs[f"hop, {threads}"] = partial(hop, warm, client, port, geometry, threads)
                runs[f"upload, {threads}"] = partial(drain, port, geometry, threads)
                runs[f"bare sendfile, {threads}"] = partial(drain, bare_port, geometry, threads)
            runs["hop, fresh file, 4"] = lambda: hop(lambda n: store.claim(KEY, n), client, port, geometry, 4)
            order = list(runs) if number % 2 else list(reversed(runs))
            for name in order:
                if "fresh" in name:
                    store.delete(KEY)
                    store.create(KEY, geometry, OriginFacts(url="bench://"))
                figures = measured(runs[name], control, size)
                if number:
                    results.setdefault(name, []).append(figures)
    client.close()
    store.close()
    return results


def report(results: dict[str, list[Figures]]) -> None:
    print(f"{'run, connections':20} {'GiB/s':>7} {'parent CPU s/GiB':>17} {'child CPU s/GiB':>16} {'both':>6}")
    for name in sorted(results):
        runs = results[name]
        parent_cpu = statistics.median(run.per_gib(run.parent_cpu) for run in runs)
        child_cpu = statistics.median(run.per_gib(run.child_cpu) for run in runs)
        rate = statistics.median(run.rate for run in runs)
        print(f"{name:20} {rate:7.2f} {parent_cpu:17.3f} {child_cpu:16.3f} {parent_cpu + child_cpu:6.3f}")
    for threads in (1, 2, 4):
        pairs = list(zip(results[f"upload, {threads}"], results[f"bare sendfile, {threads}"], strict=True))
        rate = statistics.median(ours.rate / bare.rate for ours, bare in pairs)
        cpu = statistics.median(ours.parent_cpu / bare.parent_cpu for ours, bare in pairs)
        print(f"upload / bare sendfile, {threads}: rate {rate:.2f}, parent CPU {cpu:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", type=int, default=1024, help="MiB to move in each run")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--directory", type=Path, help="where the two stores go (default: the temporary directory)")
    arguments = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="one-hop-", dir=arguments.directory))
    try:
        report(rounds(directory, PieceGeometry(arguments.size * MiB, PIECE_LENGTH), arguments.rounds))
    finally:
        shutil.rmtree(directory)


if __name__ == "__main__":
    main()
