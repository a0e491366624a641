"""A scheduler, a seed peer and peers, each the process a user would start, on loopback or in network namespaces."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psutil
import yaml

from demo.processes import running, stop
from dragonfly.core.model.units import Bytes, Seconds

_PATIENCE: Seconds = 60.0
_PYTHON = sys.executable
_given: set[int] = set()


class ProcessFailed(Exception):
    """A process of ours did not do what it is for, in one sentence."""


@dataclass(frozen=True, slots=True)
class Where:
    """An address, and the network namespace it is in; None is the one we are in."""

    ip: str = "127.0.0.1"
    namespace: str | None = None

    def command(self, command: Sequence[str]) -> list[str]:
        """The command, run there. `ip netns exec` becomes the command: the process id stays."""
        return ["ip", "netns", "exec", self.namespace, *command] if self.namespace else list(command)


@dataclass(frozen=True, slots=True)
class Daemon:
    """One dfdaemon that serves."""

    name: str
    directory: Path
    socket: Path
    process: subprocess.Popen[bytes]
    ports: Mapping[str, int]

    @property
    def pid(self) -> int:
        return self.process.pid

    def content_file(self, length: Bytes) -> Path:
        """The newest content file of this length. Raises FileNotFoundError where there is none."""
        files = [path for path in (self.directory / "storage").rglob("*") if path.is_file()]
        found = [path for path in files if path.stat().st_size == length]
        if not found:
            raise FileNotFoundError(f"{self.name} stores no file of {length} bytes")
        return max(found, key=lambda path: path.stat().st_ctime_ns)


class Swarm:
    """Processes that end with the block; started one after the other by `daemon`, ready after `until_known`."""

    def __init__(self, directory: Path, where: Where | None = None) -> None:
        self._directory, self._where = directory, where or Where()
        self._stack = ExitStack()
        self._dynconfig = directory / "dynconfig.yaml"
        self.daemons: list[Daemon] = []
        self.scheduler_pid = 0
        self._scheduler = ""

    def __enter__(self) -> Self:
        self._directory.mkdir(parents=True, exist_ok=True)
        ip, port = self._where.ip, free_port()
        server = {"listenIP": ip, "advertiseIP": ip, "port": port}
        tree = {
            "server": server,
            "metrics": {"enable": False},
            "dynConfig": {"path": str(self._directory / "none.yaml")},
        }
        command = [*_dragonfly("scheduler"), "--config", str(_written(self._directory / "scheduler.yaml", tree))]
        self.scheduler_pid = self._start("scheduler", self._where.command(command)).pid
        self._scheduler = f"{ip}:{port}"
        self._dynconfig.write_text(yaml.safe_dump({"scheduler": {"addrs": [self._scheduler]}}))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def daemon(
        self, name: str, where: Where | None = None, *, is_seed: bool = False, settings: Mapping[str, str] | None = None
    ) -> Daemon:
        """Start one; `settings` as `--set` takes them."""
        where = where or self._where
        directory = self._directory / name
        directory.mkdir()
        ports = {what: free_port() for what in ("upload", "pieces", "health", "metrics")}
        tree: dict[str, Any] = {
            "host": {"hostname": name, "ip": where.ip},
            "download": {"server": {"socketPath": str(directory / "d.sock")}},
            "upload": {"server": {"ip": where.ip, "port": ports["upload"]}},
            "storage": {"dir": str(directory / "storage"), "server": {"ip": where.ip, "tcpPort": ports["pieces"]}},
            "health": {"server": {"ip": where.ip, "port": ports["health"]}},
            "metrics": {"server": {"ip": where.ip, "port": ports["metrics"]}},
            "seedPeer": {"enable": is_seed},
            "dynconfig": {"path": str(self._dynconfig), "refreshInterval": "1s"},
            "scheduler": {"announceInterval": "1s"},
            "gc": {"policy": {"diskHighThresholdPercent": 99, "diskLowThresholdPercent": 98}},
        }
        command = [*_dragonfly("dfdaemon"), "--config", str(_written(directory / "dfdaemon.yaml", tree))]
        command += [part for key, value in (settings or {}).items() for part in ("--set", f"{key}={value}")]
        process = self._start(name, where.command(command))
        daemon = Daemon(name, directory, directory / "d.sock", process, ports)
        self.daemons.append(daemon)
        return daemon

    def stop(self, daemon: Daemon) -> None:
        """End one, and forget it."""
        stop(daemon.process)
        self.daemons.remove(daemon)

    def until_known(self) -> None:
        """Return once the scheduler knows all the daemons. Raises ProcessFailed where that takes too long."""
        command = [_PYTHON, "-m", "bench.announced", self._scheduler, str(len(self.daemons)), str(_PATIENCE)]
        done = subprocess.run(self._where.command(command), check=False, capture_output=True, text=True)
        if done.returncode != 0:
            last = "".join(
                self._last_words(daemon.name) for daemon in self.daemons if daemon.process.poll() is not None
            )
            raise ProcessFailed(f"the swarm did not start: {done.stderr.strip()}{last}")

    def _last_words(self, name: str) -> str:
        lines = (self._directory / f"{name}.log").read_text(errors="replace").strip().splitlines()
        return f"; {name} ended: {' '.join(lines[-3:])}"

    def _start(self, name: str, command: list[str]) -> subprocess.Popen[bytes]:
        log = self._stack.enter_context((self._directory / f"{name}.log").open("wb"))
        return self._stack.enter_context(running(command, stdout=log, stderr=subprocess.STDOUT))


class Origin:
    """bench.endless_origin as a process; a context manager."""

    def __init__(self, where: Where | None = None) -> None:
        self._where = where or Where()
        self._stack = ExitStack()
        self._address = ""

    def __enter__(self) -> Self:
        command = self._where.command([_PYTHON, "-m", "bench.endless_origin", "--ip", self._where.ip])
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0)
        self._stack.callback(stop, self._process)
        self._address = self._line()
        if not self._address:
            raise ProcessFailed("the origin did not start")
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._stack.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def url(self, name: str, length: Bytes, *, rate: Bytes | None = None) -> str:
        """A file of this length, under a name of the caller's choice."""
        return f"{self._address}/{length}/{name}" + (f"?rate={rate}" if rate else "")

    def sent(self) -> Bytes:
        """Bytes of all files until now."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"sent\n")
        self._process.stdin.flush()
        return sum(json.loads(self._line()).values())

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().decode().strip()


def free_port() -> int:
    """A port nobody listens on now, and that was not given away before."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port: int = listener.getsockname()[1]
        if port not in _given:
            _given.add(port)
            return port


def until_quiet(pid: int, *, quiet: Seconds = 0.3) -> None:
    """Return once a process has used next to no CPU for a while."""
    process = psutil.Process(pid)
    before = sum(process.cpu_times()[:2])
    while True:
        time.sleep(quiet)
        now = sum(process.cpu_times()[:2])
        if now - before <= 0.1 * quiet:
            return
        before = now


def dfget(url: str, output: Path, daemon: Daemon, *more: str) -> list[str]:
    """The command line of a download by this daemon."""
    arguments = [url, "-O", str(output), "-e", str(daemon.socket), "--no-progress", *more]
    return [_PYTHON, "-m", "dragonfly.cli.dfget", *arguments]


def _dragonfly(service: str) -> list[str]:
    return [_PYTHON, "-m", "dragonfly.cli.daemons", service, "--console"]


def _written(path: Path, tree: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(tree))
    path.chmod(0o600)
    return path
