"""Where tests run dfget: a directory to download into and a daemon that plays along."""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from dragonfly.cli.dfget.__main__ import main
from dragonfly.testing.fake_daemon import FakeDaemon
from dragonfly.wire.pb import common_pb2

URL = "http://origin.test/disk.img"
PATIENCE = 30.0


@dataclass(frozen=True)
class Ended:
    """How a run of dfget ended."""

    status: int
    out: str
    err: str

    @property
    def result(self) -> dict[str, object]:
        value: dict[str, object] = json.loads(self.out.splitlines()[-1])
        return value


@dataclass
class Desk:
    """A directory to download into, a daemon, and dfget in this process."""

    directory: Path
    daemon: FakeDaemon
    capture: pytest.CaptureFixture[str]

    @property
    def output(self) -> Path:
        return self.directory / "disk.img"

    def run(self, *arguments: str, output: str | None = None, url: str = URL) -> Ended:
        target = str(self.output) if output is None else output
        status = main([url, "-O", target, "-e", str(self.daemon.socket_path), *arguments])
        captured = self.capture.readouterr()
        return Ended(status, captured.out, captured.err)

    def command(self, *arguments: str, url: str = URL) -> list[str]:
        module = [sys.executable, "-m", "dragonfly.cli.dfget"]
        return [*module, url, "-O", str(self.output), "-e", str(self.daemon.socket_path), *arguments]

    @property
    def asked(self) -> common_pb2.Download:
        return self.daemon.downloads[-1]

    def left_over(self) -> list[str]:
        return sorted(path.name for path in self.directory.iterdir())


def wait_for(is_there: Callable[[], object]) -> None:
    """Until a process of its own has come so far."""
    end = time.monotonic() + PATIENCE
    while not is_there():
        assert time.monotonic() < end
        time.sleep(0.01)
