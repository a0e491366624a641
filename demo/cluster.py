"""The cluster: `dragonfly up` as a process, and what is known of it from outside."""

import json
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self

import psutil

from demo.failure import DemoFailed
from demo.processes import running
from dragonfly.core.model.units import Bytes, Seconds

_PATIENCE: Seconds = 300.0  # `up` gives up by itself, and says why
_LOOK_AGAIN: Seconds = 0.02
_SERVICES = ("manager", "scheduler", "dfdaemon")


class Cluster:
    """A manager, a scheduler, a seed peer and some peers, with their data in `directory`; a context manager."""

    def __init__(self, directory: Path, peers: int) -> None:
        self._directory, self._peers = directory, peers
        self._ready_file = directory / "ready.json"
        self._stack = ExitStack()
        self._process: subprocess.Popen[bytes] | None = None
        self._document: dict[str, Any] = {}
        self.ready_seconds: Seconds = 0.0  # from the command to every service serving

    def __enter__(self) -> Self:
        self._directory.mkdir()
        command = [sys.executable, "-m", "dragonfly.cli.daemons", "up", "--peers", str(self._peers)]
        command += ["--ready-file", str(self._ready_file), "--data-dir", str(self._directory / "data")]
        with ExitStack() as stack:
            log = stack.enter_context(self._log_file.open("wb"))
            begin = time.monotonic()
            self._process = stack.enter_context(running(command, stdout=log, stderr=subprocess.STDOUT))
            self._await_ready(self._process, begin + _PATIENCE)
            self.ready_seconds = time.monotonic() - begin
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def sockets(self) -> list[str]:
        """Where each peer's dfdaemon listens for dfget."""
        return [peer["socket"] for peer in self._document["peers"]]

    def memory(self) -> dict[str, Bytes]:
        """Resident memory of each daemon now, by name; a daemon's settings lie in a directory of its name."""
        assert self._process is not None
        found = {}
        for child in psutil.Process(self._process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                command = child.cmdline()
                if "--config" in command and any(service in command for service in _SERVICES):
                    name = Path(command[command.index("--config") + 1]).parent.name
                    found[name] = child.memory_info().rss
        return found

    @property
    def _log_file(self) -> Path:
        return self._directory / "up.log"

    def _await_ready(self, process: subprocess.Popen[bytes], deadline: Seconds) -> None:
        while not self._ready_file.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                last = self._log_file.read_text(errors="replace").strip()[-2000:]
                raise DemoFailed(f"the cluster did not start: {last or 'it said nothing'}")
            time.sleep(_LOOK_AGAIN)
        self._document = json.loads(self._ready_file.read_text())
