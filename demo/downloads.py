"""Several downloads at once, each a process, watched while they run."""

import json
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from demo.failure import DemoFailed
from demo.processes import running
from dragonfly.core.model.units import Bytes, MiB, Seconds, format_size

_DRAW_EVERY: Seconds = 0.1
_SLOWEST = 5 * MiB  # bytes a second of one download, below which the demo does not wait any longer
_PATIENCE: Seconds = 120.0  # beside that


@dataclass(frozen=True, slots=True)
class Job:
    """One download: its name on the screen, the file it writes, and its command."""

    name: str
    output: Path
    command: Sequence[str]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How long one download took from its command to its end, and what it told last (dfget's JSON, or nothing)."""

    name: str
    seconds: Seconds
    told: dict[str, Any]


@dataclass(slots=True)
class _Download:
    """A running job; a thread of its own reads what it tells, so that its end is noticed when it comes."""

    job: Job
    process: subprocess.Popen[bytes]
    begin: Seconds
    seconds: Seconds = 0.0
    told: dict[str, Any] = field(default_factory=dict)
    complaint: str = ""
    threads: list[threading.Thread] = field(default_factory=list)

    def watch(self) -> None:
        """Begin to listen."""
        for listen in (self._read, self._read_complaint):
            thread = threading.Thread(target=listen, name=self.job.name, daemon=True)
            thread.start()
            self.threads.append(thread)

    @property
    def is_running(self) -> bool:
        return any(thread.is_alive() for thread in self.threads)

    @property
    def done(self) -> Bytes:
        """Bytes that are there: as dfget tells it, or else as long as the file is."""
        figures = self.told.get("progress", self.told)
        if figures:
            return sum(figures.get(f"bytes_from_{way}", 0) for way in ("peers", "origin", "local"))
        return self.job.output.stat().st_size if self.job.output.exists() else 0

    @property
    def rate(self) -> str:
        """Since the beginning, in words."""
        seconds = self.seconds or time.monotonic() - self.begin
        return f"{format_size(self.done / max(seconds, 1e-3))}/s"

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.told = json.loads(line)
        self.process.wait()
        self.seconds = time.monotonic() - self.begin

    def _read_complaint(self) -> None:
        assert self.process.stderr is not None
        self.complaint = self.process.stderr.read().decode(errors="replace").strip()


def run_at_once(console: Console, jobs: Sequence[Job], size: Bytes) -> list[Outcome]:
    """Start all jobs, show them, and return once all have ended well. Raises DemoFailed for one that has not."""
    deadline = time.monotonic() + _PATIENCE + size * len(jobs) / _SLOWEST
    with ExitStack() as stack:
        downloads = [_started(job, stack) for job in jobs]
        bars = stack.enter_context(_bars(console))
        tasks = {bars.add_task(download.job.name, total=size, rate=""): download for download in downloads}
        while any(download.is_running for download in downloads):
            for task, download in tasks.items():
                bars.update(task, completed=download.done, rate=download.rate)
            if time.monotonic() > deadline:
                raise DemoFailed("the downloads take too long; the demo gives up")
            time.sleep(_DRAW_EVERY)
        for task, download in tasks.items():
            bars.update(task, completed=download.done, rate=download.rate)
    return [_outcome(download) for download in downloads]


def _started(job: Job, stack: ExitStack) -> _Download:
    begin = time.monotonic()
    process = stack.enter_context(running(job.command, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
    download = _Download(job, process, begin)
    download.watch()
    return download


def _outcome(download: _Download) -> Outcome:
    status = download.process.returncode
    if status != 0:
        raise DemoFailed(f"{download.job.name} ended with status {status}: {download.complaint or 'it said nothing'}")
    return Outcome(download.job.name, download.seconds, download.told)


def _bars(console: Console) -> Progress:
    name = TextColumn("  {task.description}")
    rate = TextColumn("{task.fields[rate]}")
    return Progress(name, BarColumn(), DownloadColumn(binary_units=True), rate, console=console)
