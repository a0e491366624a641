"""What every scenario is given, and how it says that it cannot run here."""

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.place import Place
from dragonfly.core.model.units import Bytes, format_size

PACKAGES: Mapping[str, str] = {
    "iperf3": "iperf3",
    "nginx": "nginx-light",
    "curl": "curl",
    "ip": "iproute2",
    "tc": "iproute2",
}
_SPARE: Bytes = 512 << 20


class Skipped(Exception):
    """Why a scenario was not measured, as the rest of a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """A place of the scenario's own, and what the user wished."""

    place: Place
    size: Bytes | None
    memory_size: Bytes | None
    rounds: int | None
    say: Callable[[str], None]

    @property
    def directory(self) -> Path:
        return self.place.directory

    def room_for(self, wanted: Bytes) -> None:
        """Raise Skipped unless there is so much room, in the file system and, where that is memory, in memory."""
        free = shutil.disk_usage(self.directory).free
        if self.place.is_memory:
            free = min(free, _available_memory())
        if free < wanted + _SPARE:
            room = f"it needs {format_size(wanted)} in {self.directory}, and {format_size(free)} are free"
            raise Skipped(f"{room}; set BENCH_SIZE to less, or TMPDIR to another place")


def require(programs: tuple[str, ...]) -> None:
    """Raise Skipped for a program that is not installed, with the Debian package that brings it."""
    for program in programs:
        if shutil.which(program, path=search_path()) is None:
            raise Skipped(f"there is no {program} here (Debian: apt-get install {PACKAGES[program]})")


def require_root() -> None:
    """Raise Skipped for anybody else: network namespaces are theirs alone."""
    if os.geteuid() != 0:
        raise Skipped("network namespaces need root")


def search_path() -> str:
    """Where programs are looked for; administrators' directories too."""
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


def _available_memory() -> Bytes:
    import psutil

    return int(psutil.virtual_memory().available)
