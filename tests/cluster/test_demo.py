"""The demo as a user runs it: from the root of the repository, as a process."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
PATIENCE = 100.0


def started(directory: Path, size: str) -> "subprocess.Popen[str]":
    """The demo, with all its files below `directory`."""
    environment = {**os.environ, "DEMO_SIZE": size, "TMPDIR": str(directory), "COLUMNS": "120"}
    return subprocess.Popen(
        [sys.executable, "-m", "demo"],
        cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def left_over(directory: Path) -> list[str]:
    """Files, and processes that have to do with them."""
    files = [str(path) for path in directory.iterdir()]
    processes = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    return files + [" ".join(command) for command in processes if str(directory) in " ".join(command)]


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_four_peers_have_the_whole_file_and_the_origin_sent_it_about_once(tmp_path: Path) -> None:
    with started(tmp_path, "16MiB") as process:
        out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (0, ""), out
    assert re.search(r"every copy is right +sha256 [0-9a-f]{64}\n", out)
    share = re.search(r"for 4 copies of 16\.0 MiB: ([0-9.]+) files", out)
    assert share is not None
    assert 1.0 <= float(share[1]) < 2.0
    assert left_over(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_demo_that_is_stopped_leaves_no_process_and_no_file(
    tmp_path: Path, number: signal.Signals, status: int
) -> None:
    with started(tmp_path, "512MiB") as process:
        assert process.stdout is not None
        while "plain downloads" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(number)
        _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (status, f"demo: stopped by {number.name}\n")
    assert left_over(tmp_path) == []


@pytest.mark.slow
def test_what_a_killed_demo_left_is_removed_by_the_next(tmp_path: Path) -> None:
    with started(tmp_path, "512MiB") as process:
        assert process.stdout is not None
        while "plain downloads" not in process.stdout.readline():
            assert process.poll() is None
        process.kill()
    give_up = time.monotonic() + PATIENCE
    while left_over(tmp_path) != (files := [str(path) for path in tmp_path.iterdir()]):
        assert time.monotonic() < give_up, left_over(tmp_path)
        time.sleep(0.05)
    assert files != []
    with started(tmp_path, "1000TiB") as process:
        process.communicate(timeout=PATIENCE)
    assert left_over(tmp_path) == []


@pytest.mark.slow
def test_a_demo_without_room_says_so_before_it_writes_anything(tmp_path: Path) -> None:
    with started(tmp_path, "1000TiB") as process:
        out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (1, "")
    assert err.startswith("demo: no room: the demo needs ")
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_size_that_is_none_is_told(tmp_path: Path) -> None:
    with started(tmp_path, "big") as process:
        _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (1, "demo: not a usable size: 'big' (for example 4MiB)\n")
