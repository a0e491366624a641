"""One child fetches a file from a seed peer, beside iperf3 and curl: what a hop costs, from disk to disk.

Both daemons are real. The child begins the download and is hung up on after the first piece, so that its file has its
room; then every page of the file is written, so that the memory behind it is there; then the download goes on and is
timed, by what the daemon says of its pieces, from the first request to the last piece stored. curl writes over the
same file.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import rivals
from bench.downloads import Download, begin, delete, download, talking
from bench.links import cubic_loopback
from bench.processes import cpu_of, using
from bench.rounds import Figure, Goal, Round, alternate, median, ratio
from bench.setup import Setup
from bench.swarm import Daemon, Origin, ProcessFailed, Swarm, Where, dfget, until_quiet
from dragonfly.core.model.units import Bytes, GiB, MiB, format_size
from dragonfly.dfdaemon.settings import DaemonSettings
from dragonfly.settings.loader import has_effect

NAME, TITLE = "one-hop", "One hop: one child, one parent, from disk to disk"
NEEDS = ("iperf3", "nginx", "curl")
ABOUT = """\
A child's daemon fetches a file from a seed peer's daemon over loopback into memory that was touched before, every piece
verified; timed in the daemon from the first request to the last piece stored. `iperf3 -P1 -C cubic` writes nothing;
curl from nginx (both cubic) writes over the same file: with `-o`, which frees its memory first, and in place. *dfget*
is the whole command, from its start to its end, into a new file."""
SIZE: Bytes = 8 * GiB
ROUNDS = 5
DIGESTS = ("crc32", "blake3")


def run(setup: Setup) -> list[Round]:
    """Rounds with each kind of piece digest that the daemons know."""
    size = setup.size or SIZE
    setup.room_for(2 * size)
    rounds: list[Round] = []
    for digest in DIGESTS if has_effect(DaemonSettings, "storage.pieceDigest") else DIGESTS[:1]:
        directory = setup.directory / digest
        rounds += _rounds_with(digest, size, setup, directory)
        shutil.rmtree(directory)  # there is memory for the copies of one swarm
    return rounds


def _rounds_with(digest: str, size: Bytes, setup: Setup, directory: Path) -> list[Round]:
    settings = {"storage.pieceDigest": digest} if has_effect(DaemonSettings, "storage.pieceDigest") else {}
    with Origin() as origin, Swarm(directory) as swarm:
        seed = swarm.daemon("seed", is_seed=True, settings=settings)
        child = swarm.daemon("child", settings=settings)
        swarm.until_known()
        url = origin.url("one-hop", size)
        with talking(seed.socket) as stub:
            download(stub, url)
        served = directory / "served"
        served.mkdir()
        os.link(seed.content_file(size), served / "file")
        with cubic_loopback() as where, rivals.nginx(served, where) as (address, worker):
            pair = _Pair(seed, child, url, size)
            runs = {
                "iperf3": lambda: rivals.iperf3(size),
                digest: pair.hop,
                "dfget": pair.dfget,
            }
            if digest == "crc32":
                runs["curl -o"] = lambda: pair.curl(f"{address}/file", where, worker, in_place=False)
                runs["curl in place"] = lambda: pair.curl(f"{address}/file", where, worker, in_place=True)
            return alternate(runs, setup.rounds or ROUNDS, say=setup.say)


class _Pair:
    """Two daemons, and a task that the one has and the other fetches again and again."""

    def __init__(self, seed: Daemon, child: Daemon, url: str, size: Bytes) -> None:
        self._seed, self._child, self._url, self._size = seed, child, url, size

    def hop(self) -> Round:
        """One download into a warm file, from which it was hung up before."""
        with self._begun() as warm, talking(self._child.socket) as stub:
            with using([self._seed.pid, self._child.pid]) as used:
                done = download(stub, self._url)
            _check(done, warm, self._seed.content_file(self._size))
        gib = done.from_peers / GiB
        return {
            "GiB/s": gib / done.pieces_seconds,
            "seed CPU s/GiB": used.cpu[self._seed.pid] / gib,
            "child CPU s/GiB": used.cpu[self._child.pid] / gib,
            "CPU s/GiB": used.all_cpu / gib,
            "machine busy": used.busy_share,
        }

    def dfget(self) -> Round:
        """The whole command into a new file, the task not known to the child before."""
        output = self._child.directory / "output"
        with using([self._seed.pid, self._child.pid]) as used:
            seconds, cpu, status = cpu_of(dfget(self._url, output, self._child))
        if status != 0:
            raise ProcessFailed(f"dfget ended with status {status}")
        output.unlink()
        with talking(self._child.socket) as stub:
            delete(stub, download(stub, self._url).task_id)
        gib = self._size / GiB
        return {"GiB/s": gib / seconds, "CPU s/GiB": (used.all_cpu + cpu) / gib, "own CPU s": cpu}

    def curl(self, url: str, where: Where, worker: int, *, in_place: bool) -> Round:
        """curl from nginx, over the file that a hop would write over."""
        with self._begun() as warm:
            return rivals.curl_into(url, warm, self._size, where, worker, in_place=in_place)

    @contextmanager
    def _begun(self) -> Iterator[Path]:
        """The child's file, made by a download that was hung up on, every page of it touched; gone at the end."""
        with talking(self._child.socket) as stub:
            task_id = begin(stub, self._url)
            until_quiet(self._child.pid)
            warm = self._child.content_file(self._size)
            touch(warm)
            try:
                yield warm
            finally:
                delete(stub, task_id)


def touch(path: Path) -> None:
    """Write every page of a file with what is in it already."""
    with path.open("r+b", buffering=0) as file:
        block = memoryview(bytearray(4 * MiB))
        position = 0
        while count := os.preadv(file.fileno(), [block], position):
            os.pwrite(file.fileno(), block[:count], position)
            position += count


def _check(done: Download, got: Path, wanted: Path) -> None:
    """Raise ProcessFailed unless everything came from the seed and the files agree, by samples all over them."""
    if done.from_origin or done.from_peers < wanted.stat().st_size / 2:
        raise ProcessFailed(f"only {format_size(done.from_peers)} came from the seed")
    with got.open("rb") as ours, wanted.open("rb") as theirs:
        for position in range(0, wanted.stat().st_size, 16 * MiB - 4096):
            if os.pread(ours.fileno(), 4096, position) != os.pread(theirs.fileno(), 4096, position):
                raise ProcessFailed(f"the child's file is wrong near byte {position}")


def figures(rounds: list[Round]) -> list[Figure]:
    """Ratios first, costs, then rates."""
    found = [
        Figure(name="rate / iperf3", value=ratio(rounds, "crc32 GiB/s", "iperf3 GiB/s"), goal=Goal(at_least=0.75)),
        Figure(name="rate / curl -o", value=ratio(rounds, "crc32 GiB/s", "curl -o GiB/s"), goal=Goal(at_least=1.5)),
        Figure(name="rate / curl in place", value=ratio(rounds, "crc32 GiB/s", "curl in place GiB/s")),
    ]
    if any("blake3 GiB/s" in measured for measured in rounds):
        value = ratio(rounds, "blake3 GiB/s", "iperf3 GiB/s")
        found.append(Figure(name="rate with blake3 / iperf3", value=value, goal=Goal(at_least=0.6)))
        found.append(Figure(name="CPU with blake3", value=median(rounds, "blake3 CPU s/GiB"), unit="s/GiB"))
    cpu = median(rounds, "crc32 CPU s/GiB")
    return [
        *found,
        Figure(name="CPU of both daemons", value=cpu, unit="s/GiB", goal=Goal(at_most=0.7)),
        Figure(name="of that, the seed peer", value=median(rounds, "crc32 seed CPU s/GiB"), unit="s/GiB"),
        Figure(name="of that, the child", value=median(rounds, "crc32 child CPU s/GiB"), unit="s/GiB"),
        Figure(name="CPU of curl -o and nginx", value=median(rounds, "curl -o CPU s/GiB"), unit="s/GiB"),
        Figure(name="CPU of curl in place and nginx", value=median(rounds, "curl in place CPU s/GiB"), unit="s/GiB"),
        Figure(name="whole dfget / iperf3", value=ratio(rounds, "dfget GiB/s", "iperf3 GiB/s")),
        Figure(name="CPU of a whole dfget with both daemons", value=median(rounds, "dfget CPU s/GiB"), unit="s/GiB"),
        *(Figure(name=name, value=median(rounds, f"{name} GiB/s"), unit="GiB/s") for name in RATES),
        Figure(name="cores busy during the hop, of all", value=median(rounds, "crc32 machine busy")),
    ]


RATES = ("iperf3", "curl -o", "curl in place", "crc32", "dfget")
