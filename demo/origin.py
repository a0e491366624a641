"""The origin: an ordinary HTTP server in a process of its own, with a limit, and with counters of its own."""

import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Self
from urllib.request import ProxyHandler, build_opener

from demo.failure import DemoFailed
from demo.processes import running
from dragonfly.core.model.units import Bytes, Seconds
from dragonfly.testing.origin import COUNTERS_PATH

_PATIENCE: Seconds = 10.0
_direct = build_opener(ProxyHandler({}))  # loopback, whatever proxy the environment names


class Origin:
    """Serves a directory at `limit` bytes a second for all clients together; a context manager."""

    def __init__(self, directory: Path, limit: str) -> None:
        self._command = [sys.executable, "-m", "dragonfly.testing.origin", str(directory), "--limit", limit]
        self._stack = ExitStack()
        self._address = ""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            process = stack.enter_context(running(self._command, stdout=subprocess.PIPE, stderr=None))
            assert process.stdout is not None
            self._address = process.stdout.readline().decode().strip().rstrip("/")
            if not self._address:
                raise DemoFailed("the origin did not start")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def url(self, name: str) -> str:
        """Where a file is."""
        return f"{self._address}/{name}"

    def served(self, name: str) -> Bytes:
        """How many bytes of a file were sent so far, by the origin's own count."""
        with _direct.open(self._address + COUNTERS_PATH, timeout=_PATIENCE) as answer:
            return int(json.load(answer)["body_bytes"].get(f"/{name}", 0))
