"""What was measured on."""

import os
import platform
from datetime import UTC, datetime
from pathlib import Path

import psutil

from dragonfly.core.model.units import format_size


def describe() -> str:
    """One line: processor, cores, memory, kernel, Python, load of others just before, and the date."""
    facts = [
        f"{_processor()}, {os.cpu_count()} cores, {format_size(psutil.virtual_memory().total)}",
        f"{platform.system()} {platform.release()}",
        f"{platform.python_implementation()} {platform.python_version()}",
        f"load before {os.getloadavg()[0]:.1f}",
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
    ]
    return "; ".join(facts)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
