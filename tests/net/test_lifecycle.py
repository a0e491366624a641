"""Starting and stopping a service in a process of its own."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest

PROGRAM = """
import asyncio, sys
from dragonfly.errors import ServiceError
from dragonfly.net.lifecycle import run

class Chatty:
    async def start(self):
        if "refuse" in sys.argv:
            raise ServiceError(reason="the address is taken")
        print("started", flush=True)
        if "hang" in sys.argv:
            await asyncio.sleep(3600)
    async def stop(self):
        print("stopped", flush=True)

sys.exit(run(Chatty()))
"""


def start(*arguments: str, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
@pytest.mark.parametrize("mode", ["serve", "hang"])
def test_signal_ends_a_service_gracefully_even_while_it_starts(number: signal.Signals, mode: str) -> None:
    with start(mode) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        process.send_signal(number)
        output, errors = process.communicate(timeout=20)
    assert (process.returncode, output, errors) == (0, "stopped\n", "")


def test_failed_start_is_one_sentence_and_status_one() -> None:
    with start("refuse") as process:
        output, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (1, "the address is taken\n")
    assert output == "stopped\n"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells a child of its parent's death")
def test_service_ends_with_the_supervisor_that_was_killed() -> None:
    supervisor = f"""
import os, subprocess, sys
os.environ["DRAGONFLY_PARENT_PID"] = str(os.getpid())
child = subprocess.Popen([sys.executable, "-c", {PROGRAM!r}])
child.wait()
"""
    with subprocess.Popen([sys.executable, "-c", supervisor], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        process.kill()
        assert process.stdout.read() == "stopped\n"


def test_supervisor_that_died_before_we_looked_ends_us_too() -> None:
    with start(DRAGONFLY_PARENT_PID="1") as process:
        process.communicate(timeout=20)
    assert process.returncode in (0, -signal.SIGTERM)
