"""`dragonfly up`: a whole cluster on this machine, until Ctrl-C.

Order of things: own the data directory, a directory for sockets and a block of loopback addresses; plan; write the
settings files; start manager, scheduler, then the peers; tell the addresses; watch. The end undoes it in reverse.
"""

import asyncio
import json
import os
import random
import signal
import stat
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import yaml

from dragonfly.cli.up.block import HeldBlock, hold_block
from dragonfly.cli.up.plan import Member, Plan, Wish, plan
from dragonfly.cli.up.private_directory import DirectoryLock, PrivateDirectory, remove_orphans, short_base
from dragonfly.cli.up.settings import Kind, shares
from dragonfly.cli.up.supervisor import Supervisor
from dragonfly.errors import OutputParentMissing, OutputUnwritable, StorageUnusable
from dragonfly.net.lifecycle import StopRequest, die_with_parent

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP)
_BLOCK_FILE = "block"  # in a data directory that stays: peers keep their addresses, and with them their identity


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """The options of `dragonfly up`."""

    peers: int
    seed_peers: int
    data_dir: Path | None
    ready_file: Path | None
    overrides: tuple[tuple[str, str], ...]
    log_level: str


def run_up(order: Order) -> int:
    """Run the cluster and return the exit status: 0, or 128 + the signal that came before all of it served.

    Raises DragonflyError when it cannot be run.
    """
    overrides = shares(order.overrides)
    stop = StopRequest(_SIGNALS)
    die_with_parent()
    return asyncio.run(_up(order, overrides, stop))


async def _up(order: Order, overrides: Mapping[Kind, Mapping[str, str]], stop: StopRequest) -> int:
    """Own, plan and write everything, run it, and undo it, whatever happens."""
    with ExitStack() as stack:
        data_dir = _data_directory(order, stack)
        if order.ready_file is not None:
            _remove_ready_file(order.ready_file)  # one that stands there tells of a cluster that was killed
            stack.callback(_remove_ready_file, order.ready_file)
        wish = Wish(
            peers=order.peers,
            seed_peers=order.seed_peers,
            data_dir=data_dir,
            socket_dir=_socket_directory(stack),
            overrides=overrides,
        )
        block = _hold(wish, stack)
        planned = plan(wish, block.prefix, block.ports)
        _write_settings(planned, data_dir, block)
        return await _run(planned, order, stop)


async def _run(planned: Plan, order: Order, stop: StopRequest) -> int:
    """Start, tell, watch, and stop once `stop` is set."""
    waves = [planned.of(Kind.MANAGER), planned.of(Kind.SCHEDULER), planned.of(Kind.SEED_PEER, Kind.PEER)]
    supervisor = Supervisor(waves, partial(_command, order.log_level), say)
    serving = asyncio.Event()
    working = asyncio.create_task(_work(supervisor, planned, order, serving), name="cluster")
    stopping = asyncio.create_task(stop.wait(), name="stop requested")
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            await working
        say("stopping")
    finally:
        for task in (working, stopping):
            task.cancel()
        await asyncio.gather(working, stopping, return_exceptions=True)
        try:
            if order.ready_file is not None:
                _remove_ready_file(order.ready_file)  # first of all: from here on nobody should come
        finally:
            await supervisor.stop()
    return 0 if serving.is_set() else stop.exit_status


async def _work(supervisor: Supervisor, planned: Plan, order: Order, serving: asyncio.Event) -> None:
    """Never returns; `serving` is set once all of it serves and its addresses are told."""
    for warning in planned.warnings:
        say(warning)
    logs = planned.members[0].directory.parent
    kept = "" if order.data_dir else "; they are removed at the end (--data-dir keeps them)"
    say(f"starting {len(planned.members)} services, their data and logs in {logs}{kept}")
    await supervisor.start()
    if order.ready_file is not None:
        _write_ready_file(order.ready_file, planned)
    say(_summary(planned))
    serving.set()
    await supervisor.watch()


def _command(log_level: str, member: Member) -> list[str]:
    """What runs a member; its log goes where the supervisor lets its output go."""
    service = [sys.executable, "-m", "dragonfly.cli.daemons", member.service]
    return [*service, "--config", str(member.settings_file), "--console", "--log-level", log_level]


def _data_directory(order: Order, stack: ExitStack) -> Path:
    if order.data_dir is None:
        base = Path(tempfile.gettempdir())
        remove_orphans(base)
        temporary = PrivateDirectory(base)
        stack.callback(temporary.remove)
        return temporary.path
    directory = order.data_dir.absolute()
    stack.callback(DirectoryLock(directory).release)
    return directory


def _socket_directory(stack: ExitStack) -> Path:
    base = short_base()
    remove_orphans(base)
    directory = PrivateDirectory(base)
    stack.callback(directory.remove)
    return directory.path


def _hold(wish: Wish, stack: ExitStack) -> HeldBlock:
    """A block for this cluster: the one its data directory had before, if it is free."""
    preferred = None
    with suppress(OSError):
        words = (wish.data_dir / _BLOCK_FILE).read_text().split()
        preferred = words[0] if words and words[0].startswith("127.") else None
    block = hold_block(lambda prefix, ports: plan(wish, prefix, ports).addresses(), random.Random(), preferred)
    stack.callback(block.release)
    return block


def _write_settings(planned: Plan, data_dir: Path, block: HeldBlock) -> None:
    try:
        (data_dir / _BLOCK_FILE).write_text(f"{block.prefix}\n")
        for member in planned.members:
            member.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            member.settings_file.write_text(yaml.safe_dump(member.tree, sort_keys=False, allow_unicode=True))
    except OSError as error:
        raise StorageUnusable(path=error.filename or data_dir, reason=error.strerror) from error


def _write_ready_file(path: Path, planned: Plan) -> None:
    """All of it or nothing: whoever sees the file can read it."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_text(json.dumps(planned.ready_document(), indent=2) + "\n")
        unfinished.replace(path)
    except OSError as error:
        with suppress(OSError):
            unfinished.unlink()
        raise OutputUnwritable(path=path, reason=error.strerror) from error


def _remove_ready_file(path: Path) -> None:
    """Remove it if it is there. Raises OutputError where it cannot be one of ours, or there is no place for one."""
    if not path.absolute().parent.is_dir():
        raise OutputParentMissing(path=path)
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.getuid():
            raise OutputUnwritable(path=path, reason="what is there is not a ready file of ours")
        path.unlink()
    except FileNotFoundError:
        return
    except OSError as error:
        raise OutputUnwritable(path=path, reason=error.strerror) from error


def _summary(planned: Plan) -> str:
    """Every address, a service a line, and what to do with them."""
    width = max(len(member.name) for member in planned.members)
    lines = [
        f"{member.name:<{width}}  " + "  ".join(f"{what} {where}" for what, where in member.endpoints.items())
        for member in planned.members
    ]
    peers = planned.of(Kind.PEER, Kind.SEED_PEER)
    example = [f"try: dfget --endpoint {peers[-1].endpoints['socket']} URL -O FILE"] if peers else []
    return "\n".join([*lines, *example, "all of it serves; Ctrl-C stops it"])


def say(sentence: str) -> None:
    """To whoever watches; a terminal that is gone is no reason to stop."""
    try:
        print(sentence, flush=True)
    except OSError:
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - stands in until the process ends
