"""Processes that end with the demo: asked first, then killed; told by the kernel where the demo itself is killed."""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO

from dragonfly.core.model.units import Seconds
from dragonfly.net.lifecycle import PARENT_VARIABLE

_STOP_DEADLINE: Seconds = 30.0  # a cluster stops its members in order


@contextmanager
def running(
    command: Sequence[str], *, stdout: int | IO[bytes], stderr: int | None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process, alive at most as long as this block. It has a process group of its own: ^C is ours to pass on."""
    environment = {**os.environ, PARENT_VARIABLE: str(os.getpid())}
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, env=environment, process_group=0
    )
    try:
        yield process
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End it, whatever it is doing, and close our ends of its pipes."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_DEADLINE)
    process.kill()
    process.wait()
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
