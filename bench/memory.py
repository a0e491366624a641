"""Memory of a daemon: idle, after a hundred big tasks, and with a thousand children connected."""

import asyncio
import resource
import socket
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager, suppress

import grpc

from bench.downloads import asked, delete, download, talking
from bench.processes import resident
from bench.rounds import Figure, Goal, Round, slope
from bench.setup import Setup
from bench.swarm import Daemon, Origin, ProcessFailed, Swarm, until_quiet
from dragonfly.core.model.units import Bytes, GiB, KiB, MiB, Seconds, format_size
from dragonfly.net.grpc_client import open_channel
from dragonfly.wire.pb import dfdaemon_pb2
from dragonfly.wire.pb.dfdaemon_pb2_grpc import DfdaemonUploadStub

NAME, TITLE = "memory", "Memory: a hundred tasks, a thousand children"
NEEDS = ()
ABOUT = """\
Resident memory of daemon processes. One after the other, a hundred files that the seed peer fetches from the origin and
serves to a child meanwhile; both forget them afterwards (BENCH_MEMORY_SIZE is what they have together, 64GiB unless
told). Then, at a fresh daemon that is downloading: a thousand children, each with a channel of its own on which it
waits for pieces (SyncPieces), and with an idle connection to the piece server."""
SIZE: Bytes = 64 * GiB
TASKS, CHILDREN = 100, 1000
SETTLED = 20  # tasks after which threads, buffers and caches are what they will be
_SLOW: Bytes = 64 * KiB  # bytes a second from the origin: no piece is ever finished
_ADDRESSES = 8  # a server may have a limit for each address its clients have
_A_SECOND = 150  # new streams; a server may have a limit on calls too
_PATIENCE: Seconds = 30.0


def run(setup: Setup) -> list[Round]:
    """One round a task, then one of what was measured once."""
    length = max((setup.memory_size or SIZE) // TASKS, 1)
    setup.room_for(2 * length + GiB)
    _allow_many_files()
    with Origin() as origin, Swarm(setup.directory) as swarm:
        seed, child = swarm.daemon("seed", is_seed=True), swarm.daemon("child")
        parent = swarm.daemon("parent")
        swarm.until_known()
        until_quiet(parent.pid)
        once = {"idle MiB": resident(parent.pid) / MiB, "moved GiB": TASKS * length / GiB}
        rounds = list(_tasks(setup, origin, seed, child, length))
        once |= asyncio.run(_children(setup, origin, parent))
        return [*rounds, once]


def figures(rounds: list[Round]) -> list[Figure]:
    """Growth is the slope over the tasks after those that fill caches."""
    *tasks, once = rounds
    found = [
        Figure(name="idle", value=once["idle MiB"], unit="MiB", goal=Goal(at_most=120)),
        Figure(name=f"with {CHILDREN} children", value=once["children MiB"], unit="MiB", goal=Goal(at_most=300)),
        Figure(name="size of all tasks together", value=once["moved GiB"], unit="GiB"),
    ]
    for who in ("seed", "child"):
        sizes = [task[f"{who} MiB"] for task in tasks]
        growth = slope(sizes[SETTLED:]) * TASKS
        found += [
            Figure(name=f"{who}: growth over {TASKS} tasks", value=growth, unit="MiB", goal=Goal(at_most=5)),
            Figure(name=f"{who}: after the first task", value=sizes[0], unit="MiB"),
            Figure(name=f"{who}: after the last task", value=sizes[-1], unit="MiB"),
        ]
    return found


def _tasks(setup: Setup, origin: Origin, seed: Daemon, child: Daemon, length: Bytes) -> Iterator[Round]:
    with talking(seed.socket) as seed_stub, talking(child.socket) as stub:
        for number in range(TASKS):
            done = download(stub, origin.url(f"memory-{number}", length))
            if done.from_peers != length:
                raise ProcessFailed(f"{format_size(done.from_origin)} came from the origin, past the seed peer")
            delete(stub, done.task_id)
            delete(seed_stub, done.task_id)
            sizes = {"seed MiB": resident(seed.pid) / MiB, "child MiB": resident(child.pid) / MiB}
            if number % 10 == 9:
                setup.say(f"task {number + 1}: " + ", ".join(f"{who} {size:.1f}" for who, size in sizes.items()))
            yield {**sizes, "GiB/s": length / done.wall / GiB}


async def _children(setup: Setup, origin: Origin, parent: Daemon) -> Round:
    """Memory of a parent in the midst of a download, alone and then with all its children."""
    url = origin.url("slow", GiB, rate=_SLOW)
    with _downloading(parent, url) as task_id, ExitStack() as stack:
        await asyncio.to_thread(until_quiet, parent.pid)
        alone = resident(parent.pid) / MiB
        wires = [stack.enter_context(_connected(parent, number)) for number in range(CHILDREN)]
        async with AsyncExitStack() as channels:
            waiting = []
            for number in range(CHILDREN):
                channel = await channels.enter_async_context(open_channel(f"127.0.0.1:{parent.ports['upload']}"))
                request = dfdaemon_pb2.SyncPiecesRequest(host_id=f"child-{number}", task_id=task_id)
                request.interested_piece_numbers.extend(range(GiB // (4 * MiB)))
                waiting.append(asyncio.create_task(_wait(channel, request), name=f"child {number}"))
                await asyncio.sleep(1 / _A_SECOND)
            await asyncio.to_thread(until_quiet, parent.pid)
            measured = {"alone MiB": alone, "children MiB": resident(parent.pid) / MiB}
            setup.say(", ".join(f"{what} {value:.1f}" for what, value in measured.items()))
            ended = [task for task in waiting if task.done()]
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        if ended or not all(map(_is_open, wires)):
            gone = CHILDREN - sum(map(_is_open, wires))
            why = next((str(task.exception()) for task in ended if task.exception()), "ended")
            raise ProcessFailed(f"{len(ended)} streams ({why}) and {gone} connections of children were ended")
    return measured


async def _wait(channel: grpc.aio.Channel, request: dfdaemon_pb2.SyncPiecesRequest) -> None:
    async for _ in DfdaemonUploadStub(channel).SyncPieces(request):
        pass


@contextmanager
def _downloading(daemon: Daemon, url: str) -> Iterator[str]:
    """A download that goes on during the block; gives its task's id."""
    started, told = threading.Event(), []

    with talking(daemon.socket) as stub:
        call = asked(stub, url)

        def follow() -> None:
            with suppress(grpc.RpcError):
                for response in call:
                    told.append(response.task_id)
                    started.set()

        thread = threading.Thread(target=follow, name="slow download", daemon=True)
        thread.start()
        if not started.wait(_PATIENCE):
            raise ProcessFailed("the slow download did not start")
        try:
            yield told[0]
        finally:
            call.cancel()
            thread.join(_PATIENCE)


@contextmanager
def _connected(daemon: Daemon, number: int) -> Iterator[socket.socket]:
    own = (f"127.0.1.{1 + number % _ADDRESSES}", 0)
    with socket.create_connection(("127.0.0.1", daemon.ports["pieces"]), _PATIENCE, source_address=own) as wire:
        yield wire


def _is_open(wire: socket.socket) -> bool:
    wire.setblocking(False)
    try:
        return wire.recv(1, socket.MSG_PEEK) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def _allow_many_files() -> None:
    """A thousand children are two thousand descriptors; our processes inherit the limit."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
