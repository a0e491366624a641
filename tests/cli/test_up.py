"""`dragonfly up` as people run it: real processes, real services."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from dragonfly.cli.up.command import Order, run_up
from dragonfly.cli.up.private_directory import DirectoryLock
from dragonfly.errors import StorageUnusable

DEADLINE = 90.0  # seconds; a cluster on a busy machine
UP = (sys.executable, "-m", "dragonfly.cli.daemons", "up")


class Up:
    """One running `dragonfly up`."""

    def __init__(self, directory: Path, runtime: Path, *options: str) -> None:
        self.ready_file = directory / "ready.json"
        self.output = directory / "output"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [*UP, "--ready-file", str(self.ready_file), *options],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "TMPDIR": str(directory), "XDG_RUNTIME_DIR": str(runtime)},
            )

    def ready(self) -> dict[str, Any]:
        """The ready document, once it is there."""
        eventually(lambda: self.ready_file.exists() or self.process.poll() is not None, self)
        assert self.process.poll() is None, self.said()
        document: dict[str, Any] = json.loads(self.ready_file.read_text())
        return document

    def said(self) -> str:
        return self.output.read_text()

    def stop(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(DEADLINE)

    def children(self) -> list[int]:
        return children_of(self.process.pid)


@pytest.fixture
def runtime() -> Iterator[Path]:
    """A directory of its own for sockets; pytest's are too long for them."""
    with tempfile.TemporaryDirectory(prefix="d", dir="/tmp") as path:
        yield Path(path)


@pytest.fixture
def up(tmp_path: Path, runtime: Path) -> Iterator[Callable[..., Up]]:
    started: list[Up] = []

    def start(*options: str, name: str = "one") -> Up:
        directory = tmp_path / name
        directory.mkdir(exist_ok=True)
        started.append(Up(directory, runtime, *options))
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            each.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                each.process.wait(30)
            each.process.kill()
            each.process.wait()


def eventually(condition: Callable[[], object], who: Up) -> None:
    give_up = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < give_up, who.said()
        time.sleep(0.05)


def children_of(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in listed.split()]


def is_alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")


def accepts(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError:
        return False
    return True


def addresses(document: dict[str, Any]) -> list[str]:
    services = [document["manager"], document["scheduler"], *document["seed_peers"], *document["peers"]]
    return [
        where for service in services for what, where in service.items() if what not in ("hostname", "ip", "socket")
    ]


def order(tmp_path: Path, **changes: Any) -> Order:
    plain = {
        "peers": 0,
        "seed_peers": 0,
        "data_dir": tmp_path / "data",
        "ready_file": None,
        "overrides": (),
        "log_level": "info",
    }
    return Order(**{**plain, **changes})


def refused(*options: str) -> str:
    done = subprocess.run([*UP, *options], capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert done.stderr.count("\n") == 1, done.stderr
    return f"{done.returncode} {done.stderr}"


def test_unknown_override_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    sentence = refused("--data-dir", str(tmp_path / "data"), "--set", "storage.kep=1")
    assert sentence == '2 dragonfly: --set: unknown key "storage.kep"; did you mean "storage.keep"?\n'
    assert list(tmp_path.iterdir()) == []


def test_wrong_override_is_refused(tmp_path: Path) -> None:
    sentence = refused("--data-dir", str(tmp_path / "data"), "--set", "storage.keep=perhaps")
    assert sentence.startswith("2 dragonfly: --set: storage.keep is ")


def test_ready_file_in_a_directory_that_is_missing_is_refused(tmp_path: Path) -> None:
    sentence = refused("--data-dir", str(tmp_path), "--ready-file", str(tmp_path / "no" / "ready.json"))
    assert sentence.startswith("1 dragonfly: the output's directory does not exist")


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_ready_file_that_cannot_be_ours_is_refused_and_stays(kind: str, tmp_path: Path) -> None:
    ready, other = tmp_path / "ready.json", tmp_path / "other"
    other.touch()
    ready.symlink_to(other) if kind == "link" else os.mkfifo(ready)
    sentence = refused("--data-dir", str(tmp_path / "data"), "--ready-file", str(ready))
    assert sentence.startswith(f"1 dragonfly: the output cannot be written: {ready} (what is there is not a ready file")
    assert ready.is_symlink() or ready.is_fifo()


def test_ready_file_of_a_killed_cluster_is_gone_even_if_nothing_can_be_started(tmp_path: Path) -> None:
    ready = tmp_path / "ready.json"
    ready.write_text("{}")
    refused("--data-dir", str(tmp_path / "data"), "--ready-file", str(ready), "--set", "storage.keep=perhaps")
    assert not ready.exists()


def test_ready_file_of_the_running_cluster_stays_when_a_second_one_is_refused(tmp_path: Path) -> None:
    lock, ready = DirectoryLock(tmp_path / "data"), tmp_path / "ready.json"
    ready.write_text("{}")
    assert "is in use" in refused("--data-dir", str(tmp_path / "data"), "--ready-file", str(ready))
    lock.release()
    assert ready.exists()


def test_data_directory_that_is_in_use_is_refused(tmp_path: Path) -> None:
    lock = DirectoryLock(tmp_path / "data")
    sentence = refused("--data-dir", str(tmp_path / "data"))
    lock.release()
    assert sentence == f"1 dragonfly: the data directory {tmp_path / 'data'} is in use by another `dragonfly up`\n"


def test_data_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageUnusable):
        run_up(order(tmp_path, data_dir=tmp_path / "file" / "data"))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_cluster_serves_and_ctrl_c_leaves_nothing_behind(up: Callable[..., Up], tmp_path: Path, runtime: Path) -> None:
    cluster = up("--peers", "2")
    document = cluster.ready()
    assert [peer["hostname"] for peer in document["peers"]] == ["peer-1", "peer-2"]
    assert all(map(accepts, addresses(document)))
    assert all(Path(peer["socket"]).is_socket() for peer in document["peers"] + document["seed_peers"])
    for address in addresses(document):
        assert address in cluster.said()
    started = cluster.children()
    assert len(started) == 5
    assert cluster.stop() == 0
    assert not any(map(is_alive, started))
    assert not any(map(accepts, addresses(document)))
    assert list(runtime.iterdir()) == []
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["output"]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_clusters_run_side_by_side(up: Callable[..., Up]) -> None:
    first, second = up("--peers", "1", name="first"), up("--peers", "1", name="second")
    assert not set(addresses(first.ready())) & set(addresses(second.ready()))
    assert first.stop() == second.stop(signal.SIGTERM) == 0


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_child_that_dies_is_named_and_back_on_the_same_address_within_five_seconds(up: Callable[..., Up]) -> None:
    cluster = up("--peers", "1", "--seed-peers", "0")
    document = cluster.ready()
    (peer,) = [pid for pid in cluster.children() if " dfdaemon " in command_line(pid)]
    os.kill(peer, signal.SIGKILL)
    killed_at = time.monotonic()
    eventually(lambda: "peer-1 serves again" in cluster.said(), cluster)
    assert time.monotonic() - killed_at < 5
    assert "peer-1 was killed by SIGKILL; starting it again" in cluster.said()
    assert all(map(accepts, addresses(document)))
    assert cluster.stop() == 0


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_children_end_when_up_is_killed(up: Callable[..., Up]) -> None:
    cluster = up("--peers", "1")
    document = cluster.ready()
    started = cluster.children()
    cluster.process.kill()
    eventually(lambda: not any(map(is_alive, started)), cluster)
    assert not any(map(accepts, addresses(document)))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_long_data_directory_works_and_stays_and_is_ours_alone(up: Callable[..., Up], tmp_path: Path) -> None:
    data = tmp_path / ("x" * 120) / "data"
    cluster = up("--peers", "1", "--data-dir", str(data))
    addresses_before = addresses(cluster.ready())
    assert "is in use by another `dragonfly up`" in refused("--data-dir", str(data))
    assert cluster.stop() == 0
    assert {"manager", "scheduler", "seed-peer-1", "peer-1"} <= {path.name for path in data.iterdir()}
    assert (data / "peer-1" / "dfdaemon.log").stat().st_size > 0
    again = up("--peers", "1", "--data-dir", str(data), name="again")
    assert addresses(again.ready()) == addresses_before
    assert again.stop() == 0


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_stale_ready_file_is_gone_before_the_new_one_is_true(up: Callable[..., Up], tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    stale = tmp_path / "one" / "ready.json"
    stale.write_text("{}")
    cluster = up("--peers", "0", "--seed-peers", "0")
    eventually(lambda: not stale.exists() or stale.read_text() != "{}", cluster)
    assert all(map(accepts, addresses(cluster.ready())))
    assert cluster.stop(signal.SIGHUP) == 0
    assert not stale.exists()


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stop_during_the_start_leaves_nothing(up: Callable[..., Up], tmp_path: Path, number: int) -> None:
    cluster = up("--peers", "2")
    eventually(lambda: cluster.children() or cluster.process.poll() is not None, cluster)
    started = cluster.children()
    assert cluster.stop(number) == 128 + number
    assert "Traceback" not in cluster.said()
    assert not any(map(is_alive, started))
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["output"]
