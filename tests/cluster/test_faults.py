"""Processes that die in the middle of a transfer, in a real cluster of processes."""

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from dragonfly.core.model.units import MiB
from dragonfly.testing.origin import Origin

CONTENT = os.urandom(48 * MiB)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
LIMIT = 16 * MiB  # a second, so that a download takes three
DEADLINE = 60.0

pytestmark = pytest.mark.slow


class RunningCluster:
    """`dragonfly up` as a user starts it."""

    def __init__(self, directory: Path) -> None:
        ready = directory / "ready.json"
        command = [sys.executable, "-m", "dragonfly.cli.daemons", "up", "--peers", "3", "--ready-file", str(ready)]
        self.process = subprocess.Popen(
            [*command, "--data-dir", str(directory / "data")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.endpoints: dict[str, Any] = json.loads(_waited(lambda: ready.exists() and ready.read_text()))

    def pid_of(self, name: str) -> int:
        """The process of one member, known by the settings file it was started with."""
        for child in psutil.Process(self.process.pid).children():
            if any(f"/{name}/" in word for word in child.cmdline()):
                return int(child.pid)
        raise AssertionError(f"{name} does not run")

    def kill(self, name: str) -> None:
        os.kill(self.pid_of(name), signal.SIGKILL)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(DEADLINE)


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin(limit=LIMIT) as made:
        made.put("/file", CONTENT)
        yield made


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RunningCluster]:
    running = RunningCluster(tmp_path)
    yield running
    running.stop()


def _waited(look: Callable[[], Any]) -> Any:
    """What `look` finds once it finds something; AssertionError after the deadline."""
    until = time.monotonic() + DEADLINE
    pause = threading.Event()
    while time.monotonic() < until:
        if found := look():
            return found
        pause.wait(0.05)
    raise AssertionError("waited in vain")


def dfget(cluster: RunningCluster, peer: int, url: str, output: Path) -> "subprocess.Popen[str]":
    endpoint = cluster.endpoints["peers"][peer]["socket"]
    command = [sys.executable, "-m", "dragonfly.cli.dfget", url, "-O", str(output), "-e", endpoint]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def finish(download: "subprocess.Popen[str]") -> tuple[int, str]:
    _, errors = download.communicate(timeout=DEADLINE)
    return download.returncode, errors


def is_right(path: Path) -> bool:
    return hashlib.sha256(path.read_bytes()).hexdigest() == SHA256


def until_a_third_is_read(origin: Origin) -> None:
    _waited(lambda: origin.counters().total_body_bytes > len(CONTENT) // 3)


@pytest.mark.parametrize("victim", ["peer-3", "seed-peer-1", "scheduler", "manager"])
def test_others_finish_with_right_bytes_when_one_is_killed_midway(
    cluster: RunningCluster, origin: Origin, tmp_path: Path, victim: str
) -> None:
    outputs = [tmp_path / f"out-{number}" for number in range(3)]
    downloads = [dfget(cluster, number, origin.url("/file"), output) for number, output in enumerate(outputs)]
    until_a_third_is_read(origin)
    cluster.kill(victim)
    ended = [finish(download) for download in downloads]
    survivors = 2 if victim == "peer-3" else 3
    for (status, errors), output in list(zip(ended, outputs, strict=True))[:survivors]:
        assert status == 0, errors
        assert is_right(output)
    if victim == "scheduler":  # whose loss sends nobody to the origin
        assert origin.counters().total_body_bytes < 1.5 * len(CONTENT)
    if victim == "peer-3":
        assert ended[2][0] == 5
        assert not outputs[2].exists()


def test_killed_peer_comes_back_with_what_it_had(cluster: RunningCluster, origin: Origin, tmp_path: Path) -> None:
    first = dfget(cluster, 0, origin.url("/file"), tmp_path / "first")
    until_a_third_is_read(origin)
    before = cluster.pid_of("peer-1")
    cluster.kill("peer-1")
    assert finish(first)[0] == 5
    assert list(tmp_path.glob(".first*")) == []
    _waited(lambda: _runs_anew(cluster, before))
    second = dfget(cluster, 0, origin.url("/file"), tmp_path / "second")
    status, errors = finish(second)
    assert status == 0, errors
    assert is_right(tmp_path / "second")


def _runs_anew(cluster: RunningCluster, before: int) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(cluster.endpoints["peers"][0]["socket"])
            return cluster.pid_of("peer-1") != before
        except (AssertionError, OSError, psutil.NoSuchProcess):
            return False


def test_interrupted_dfget_leaves_nothing_and_keeps_the_old_file(
    cluster: RunningCluster, origin: Origin, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    output.write_text("old")
    endpoint = cluster.endpoints["peers"][0]["socket"]
    command = [sys.executable, "-m", "dragonfly.cli.dfget", origin.url("/file"), "-O", str(output), "--overwrite"]
    with subprocess.Popen([*command, "-e", endpoint], stderr=subprocess.DEVNULL) as download:
        until_a_third_is_read(origin)
        download.send_signal(signal.SIGINT)
        assert download.wait(DEADLINE) == 130
    assert output.read_text() == "old"
    assert list(tmp_path.glob(".out*")) == []


def test_frozen_scheduler_is_not_waited_for(cluster: RunningCluster, origin: Origin, tmp_path: Path) -> None:
    frozen = cluster.pid_of("scheduler")
    os.kill(frozen, signal.SIGSTOP)
    try:
        status, errors = finish(dfget(cluster, 0, origin.url("/file"), tmp_path / "out"))
    finally:
        os.kill(frozen, signal.SIGCONT)
    assert status == 0, errors
    assert "downloading from the origin" in errors
    assert is_right(tmp_path / "out")
