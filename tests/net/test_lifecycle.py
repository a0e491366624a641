"""Starting and stopping a service in a process of its own."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest

DEADLINE = 60.0  # seconds; far above what any of it takes on a busy machine

PROGRAM = """
import asyncio, atexit, logging, os, signal, sys
from dragonfly.errors import ServiceError
from dragonfly.net.lifecycle import run

def interrupt():
    os.kill(os.getpid(), signal.SIGINT)

class Spoken(logging.Handler):  # says that it serves, which run() only logs
    def emit(self, record):
        if record.getMessage() == "serving":
            print("serving", flush=True)
            if "repeat" in sys.argv:
                interrupt()

logging.basicConfig(level="INFO", handlers=[Spoken()])
if "ignore" in sys.argv:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
if "repeat" in sys.argv:
    atexit.register(interrupt)

class Chatty:
    async def start(self):
        if "refuse" in sys.argv:
            raise ServiceError(reason="the address is taken")
        print("started", flush=True)
        if "hang" in sys.argv:
            await asyncio.sleep(3600)
    async def stop(self):
        if "repeat" in sys.argv:
            interrupt()
        print("stopped", flush=True)

try:
    sys.exit(run(Chatty()))
except ServiceError as error:
    sys.exit(f"refused: {error}")
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
        if mode == "serve":
            assert process.stdout.readline() == "serving\n"
        process.send_signal(number)
        output, errors = process.communicate(timeout=DEADLINE)
    assert (process.returncode, output, errors) == (0 if mode == "serve" else 128 + number, "stopped\n", "")


def test_second_signal_changes_nothing_however_late_it_comes() -> None:
    with start("repeat") as process:
        output, errors = process.communicate(timeout=DEADLINE)
    assert (process.returncode, errors) == (0, "")
    assert output == "started\nserving\nstopped\n"


def test_ignored_signal_stays_ignored() -> None:
    with start("ignore") as process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == ["started\n", "serving\n"]
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=DEADLINE)
    assert process.returncode == 0


def test_failed_start_is_undone_and_raised() -> None:
    with start("refuse") as process:
        output, errors = process.communicate(timeout=DEADLINE)
    assert (process.returncode, errors) == (1, "refused: the address is taken\n")
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
        assert [process.stdout.readline() for _ in range(2)] == ["started\n", "serving\n"]
        process.kill()
        assert process.stdout.read() == "stopped\n"


def test_supervisor_that_died_before_we_looked_ends_us_too() -> None:
    with start(DRAGONFLY_PARENT_PID="1") as process:
        process.communicate(timeout=DEADLINE)
    assert process.returncode == 128 + signal.SIGTERM
