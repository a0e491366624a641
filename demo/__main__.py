"""The demo, top to bottom: a file, an origin, a cluster, four plain downloads, four downloads by dfget, the figures.

Everything lives in one temporary directory and ends with this process; where it is killed, the processes end with it
and the next demo removes the directory. The exit status is 0 only if every copy is the origin's file, byte for byte.
DEMO_SIZE says how much (1GiB), TMPDIR where: there it needs ten times that.
"""

import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from demo.cluster import Cluster
from demo.content import Content, check_room, hash_of, make
from demo.downloads import Job, Outcome, run_at_once
from demo.failure import DemoFailed
from demo.origin import Origin
from demo.report import Figures, show
from dragonfly.cli.stop_signals import Stopped, StopSignals
from dragonfly.cli.up.private_directory import PrivateDirectory, remove_orphans
from dragonfly.core.model.units import Bytes, format_size, parse_size
from dragonfly.errors import DragonflyError

PEERS = 4
LIMIT = "200MiB"  # bytes a second of the origin, for all its clients together


def main() -> int:
    """Run the demo and return the exit status."""
    console = Console()
    try:
        with StopSignals() as signals:
            try:
                demonstrate(console, parse_size(os.environ.get("DEMO_SIZE") or "1GiB"))
            finally:
                signals.ignore()
    except Stopped as stopped:
        print(f"demo: {stopped}", file=sys.stderr)
        return 128 + stopped.number
    except (DemoFailed, DragonflyError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    return 0


def demonstrate(console: Console, size: Bytes) -> None:
    """All of it. Raises DemoFailed where something cannot be run or a copy is wrong."""
    base = Path(tempfile.gettempdir())
    remove_orphans(base)
    check_room(base, size, PEERS)
    with ExitStack() as stack:
        private = PrivateDirectory(base, "demo")
        stack.callback(private.remove)
        directory = private.path
        console.print(f"making {format_size(size)} of random bytes")
        content = make(directory / "origin" / "content.bin", size)
        origin = stack.enter_context(Origin(content.path.parent, LIMIT))
        console.print(f"starting a cluster: manager, scheduler, a seed peer and {PEERS} peers")
        cluster = stack.enter_context(Cluster(directory / "cluster", PEERS))
        memory = cluster.memory()
        plain = download_plainly(console, content, origin, directory / "plain")
        before = origin.served(content.path.name)
        peers = download_by_dragonfly(console, content, origin, cluster, directory / "copies")
        figures = Figures(
            content=content,
            plain=plain,
            peers=peers,
            origin_bytes=origin.served(content.path.name) - before,
            ready_seconds=cluster.ready_seconds,
            memory=memory,
        )
        show(console, figures)


def download_plainly(console: Console, content: Content, origin: Origin, directory: Path) -> list[Outcome]:
    """Four clients without Dragonfly, all at once; their copies are checked and removed."""
    console.print(f"{PEERS} plain downloads at once, from an origin that sends {LIMIT}/s in all")
    directory.mkdir()
    url = origin.url(content.path.name)
    jobs = []
    for number in range(1, PEERS + 1):
        output = directory / f"plain-{number}"
        jobs.append(Job(f"plain {number}", output, [sys.executable, "-m", "demo.plain", url, str(output)]))
    outcomes = run_at_once(console, jobs, content.size)
    check_copies(content, [job.output for job in jobs])
    for job in jobs:
        job.output.unlink()
    return outcomes


def download_by_dragonfly(
    console: Console, content: Content, origin: Origin, cluster: Cluster, directory: Path
) -> list[Outcome]:
    """The same file by dfget on each peer, all at once; the copies are checked."""
    console.print(f"{PEERS} downloads by dfget at once, one on each peer")
    directory.mkdir()
    url = origin.url(content.path.name)
    jobs = []
    for number, socket in enumerate(cluster.sockets, start=1):
        output = directory / f"peer-{number}"
        command = [sys.executable, "-m", "dragonfly.cli.dfget", url, "-O", str(output), "-e", socket]
        jobs.append(Job(f"peer {number}", output, [*command, "--json-progress", "--no-progress"]))
    outcomes = run_at_once(console, jobs, content.size)
    check_copies(content, [job.output for job in jobs])
    return outcomes


def check_copies(content: Content, copies: list[Path]) -> None:
    """Raise DemoFailed unless each is the origin's file."""
    for copy in copies:
        found = hash_of(copy)
        if found != content.sha256:
            raise DemoFailed(f"the copy {copy.name} is wrong: sha256 {found}, expected {content.sha256}")


if __name__ == "__main__":
    sys.exit(main())
