"""What a process used: CPU seconds and resident memory, by the kernel's own count."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil

from dragonfly.core.model.units import Bytes, Seconds


@dataclass(slots=True)
class Used:
    """Filled in when the block it was made for ends."""

    seconds: Seconds = 0.0
    cpu: dict[int, Seconds] = field(default_factory=dict)  # user + system, by process id
    busy_share: float = 0.0  # of all cores of the machine, whoever used them

    @property
    def all_cpu(self) -> Seconds:
        return sum(self.cpu.values())


@contextmanager
def using(pids: Sequence[int]) -> Iterator[Used]:
    """What these processes use during the block."""
    used = Used()
    before, busy, began = {pid: cpu_seconds(pid) for pid in pids}, psutil.cpu_times(), time.perf_counter()
    yield used
    used.seconds = time.perf_counter() - began
    used.cpu = {pid: cpu_seconds(pid) - earlier for pid, earlier in before.items()}
    used.busy_share = _busy(psutil.cpu_times()._asdict(), busy._asdict())


def cpu_seconds(pid: int) -> Seconds:
    """User + system so far, to 10 ms. Raises psutil.NoSuchProcess."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def resident(pid: int) -> Bytes:
    """Memory a process has to itself: resident, without pages of files it maps. Raises psutil.NoSuchProcess."""
    memory = psutil.Process(pid).memory_info()
    return int(memory.rss)


def cpu_of(command: Sequence[str]) -> tuple[Seconds, Seconds, int]:
    """Run a command to its end: wall seconds, CPU seconds (to the microsecond), exit status. Its output is lost."""
    null = os.open(os.devnull, os.O_RDWR)
    began = time.perf_counter()
    actions = [(os.POSIX_SPAWN_DUP2, null, target) for target in (0, 1, 2)]
    pid = os.posix_spawnp(command[0], list(command), os.environ, file_actions=actions)
    _, status, usage = os.wait4(pid, 0)
    os.close(null)
    return time.perf_counter() - began, usage.ru_utime + usage.ru_stime, os.waitstatus_to_exitcode(status)


def _busy(after: dict[str, float], before: dict[str, float]) -> float:
    grown = {name: after[name] - before[name] for name in after if not name.startswith("guest")}
    whole = sum(grown.values())
    return 1 - (grown["idle"] + grown.get("iowait", 0.0)) / whole if whole else 0.0
