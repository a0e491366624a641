"""The upload side alone: a seed peer's piece server beside the least a server can do, drained without a copy."""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection
from pathlib import Path
from queue import Empty, SimpleQueue

from bench.downloads import download, talking
from bench.processes import using
from bench.rounds import Figure, Goal, Round, alternate, median, ratio
from bench.setup import Setup
from bench.swarm import Origin, Swarm
from dragonfly.core.model.piece import PieceGeometry, PieceNumber
from dragonfly.core.model.units import Bytes, GiB, MiB, Seconds
from dragonfly.dfdaemon.pieces.socket import tune
from dragonfly.wire.vortex import AnswerDecoder, ContentHead, PieceRequest

NAME, TITLE = "upload", "Upload: the piece server beside a bare sendfile loop"
NEEDS = ()
ABOUT = """\
A seed peer's daemon answers requests for all pieces of a file, over 1, 2 and 4 connections whose receiving end drops
the bytes in the kernel; the bare loop reads 74 bytes and sends a prepared head and the file's bytes."""
SIZE: Bytes = 2 * GiB
ROUNDS = 7
CONNECTIONS = (1, 2, 4)
_PATIENCE: Seconds = 60.0


def run(setup: Setup) -> list[Round]:
    size = setup.size or SIZE
    setup.room_for(size)
    with Origin() as origin, Swarm(setup.directory) as swarm:
        seed = swarm.daemon("seed", is_seed=True)
        swarm.until_known()
        with talking(seed.socket) as stub:
            task_id = download(stub, origin.url("upload", size)).task_id
        geometry = PieceGeometry.of(size)
        with bare(seed.content_file(size), geometry) as (bare_port, bare_pid):
            servers = {"ours": (seed.ports["pieces"], seed.pid), "bare": (bare_port, bare_pid)}
            runs = {
                f"{name} {count}": _draining(port, pid, task_id, geometry, count)
                for count in CONNECTIONS
                for name, (port, pid) in servers.items()
            }
            return alternate(runs, setup.rounds or ROUNDS, say=setup.say)


def figures(rounds: list[Round]) -> list[Figure]:
    found = []
    for count in CONNECTIONS:
        rate = ratio(rounds, f"ours {count} GiB/s", f"bare {count} GiB/s")
        cpu = median(rounds, f"ours {count} CPU s/GiB")
        bare_cpu = median(rounds, f"bare {count} CPU s/GiB")
        over = f"{count} connection{'s' if count > 1 else ''}"
        found += [
            Figure(name=f"rate / bare sendfile, {over}", value=rate, goal=Goal(at_least=0.9)),
            Figure(name=f"CPU of the daemon, {over}", value=cpu, unit="s/GiB", goal=Goal(at_most=0.15)),
            Figure(name=f"CPU of the bare loop, {over}", value=bare_cpu, unit="s/GiB"),
            Figure(name=f"rate, {over}", value=median(rounds, f"ours {count} GiB/s"), unit="GiB/s"),
        ]
    return found


def _draining(port: int, pid: int, task_id: str, geometry: PieceGeometry, connections: int) -> Callable[[], Round]:
    def drained() -> Round:
        with using([pid]) as used:
            drain(port, task_id, geometry, connections)
        gib = geometry.content_length / GiB
        return {"GiB/s": gib / used.seconds, "CPU s/GiB": used.all_cpu / gib}

    return drained


def drain(port: int, task_id: str, geometry: PieceGeometry, connections: int) -> None:
    """Ask for every piece and throw it away in the kernel, so that the sender is what is measured."""
    queue: SimpleQueue[PieceNumber] = SimpleQueue()
    for number in geometry.numbers():
        queue.put(number)
    lost: list[OSError] = []

    def work() -> None:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE) as stream:
                stream.settimeout(None)
                tune(stream)
                scratch = bytearray(MiB)
                while True:
                    _take(stream, task_id, queue.get_nowait(), scratch)
        except Empty:
            return
        except OSError as error:
            lost.append(error)

    workers = [threading.Thread(target=work) for _ in range(connections)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if lost:
        raise lost[0]


def _take(stream: socket.socket, task_id: str, number: PieceNumber, scratch: bytearray) -> None:
    stream.sendall(PieceRequest(task_id, number).encode())
    decoder, head = AnswerDecoder(), None
    while head is None:
        head = decoder.feed(_some(stream.recv(decoder.needs)))
    if not isinstance(head, ContentHead):
        raise ConnectionError(f"piece {number} was refused: {head}")
    left = head.length
    while left:
        count = stream.recv_into(scratch, min(left, MiB), socket.MSG_TRUNC)
        if count == 0:
            raise ConnectionError("the server ended within a piece")
        left -= count


def _some(block: bytes) -> bytes:
    if not block:
        raise ConnectionError("the server ended before a piece")
    return block


@contextmanager
def bare(path: Path, geometry: PieceGeometry) -> Iterator[tuple[int, int]]:
    """The least a server can do, as a process: its port and its id."""
    ours, theirs = Pipe()
    process = get_context("spawn").Process(target=_serve_bare, args=(path, geometry, theirs), daemon=True)
    process.start()
    try:
        assert process.pid is not None
        yield ours.recv(), process.pid
    finally:
        process.terminate()
        process.join()


def cubic_server() -> socket.socket:
    """A listener on loopback whose connections are born with cubic: one that was bbr first goes on pacing itself."""
    listener = socket.socket()
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    return listener


def _serve_bare(path: Path, geometry: PieceGeometry, control: Connection) -> None:
    """Read 74 bytes, send a head made beforehand and the file's bytes; forever."""
    descriptor = os.open(path, os.O_RDONLY)
    listener = cubic_server()
    control.send(listener.getsockname()[1])

    def converse(stream: socket.socket) -> None:
        tune(stream)
        while request := stream.recv(74, socket.MSG_WAITALL):
            number = int.from_bytes(request[70:], "big")
            span = geometry.span(PieceNumber(number))
            head = ContentHead(number=number, offset=span.start, length=span.length, digest="crc32:1234567890")
            stream.send(head.encode(), socket.MSG_MORE)
            position = span.start
            while position < span.end:
                position += os.sendfile(stream.fileno(), descriptor, position, span.end - position)

    while True:
        stream, _ = listener.accept()
        threading.Thread(target=converse, args=(stream,), daemon=True).start()
