"""dfctl against a daemon that stores what a test says."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dragonfly import __version__
from dragonfly.cli.dfctl.__main__ import main
from dragonfly.testing.fake_daemon import FakeDaemon
from dragonfly.wire.pb.dfdaemon_pb2 import StatLocalTaskResponse
from tests.cli.desk import PATIENCE, Ended

Dfctl = Callable[..., Ended]


def stored(task_id: str, created: int = 1_700_000_000, **more: object) -> StatLocalTaskResponse:
    task = StatLocalTaskResponse(
        task_id=task_id, url="http://origin.test/disk.img", piece_length=4 << 20, content_length=10 << 20,
        stored_length=8 << 20, uploaded_count=3, tag="nightly", **more,  # type: ignore[arg-type]
    )  # fmt: skip
    task.created_at.FromSeconds(created)
    task.updated_at.FromSeconds(created + 60)
    return task


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDaemon]:
    monkeypatch.setenv("TZ", "UTC")
    with FakeDaemon(tmp_path / "daemon.sock") as daemon:
        daemon.tasks = {
            name: stored(name, created) for name, created in (("b" * 64, 1_700_000_100), ("a" * 64, 1_700_000_000))
        }
        yield daemon


@pytest.fixture
def dfctl(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> Dfctl:
    def run(*arguments: str, endpoint: bool = True) -> Ended:
        status = main([*arguments, *(["-e", str(daemon.socket_path)] if endpoint else [])])
        captured = capsys.readouterr()
        return Ended(status, captured.out, captured.err)

    return run


def test_tasks_are_listed_oldest_first_in_columns(dfctl: Dfctl) -> None:
    ended = dfctl("task", "ls")
    heading, first, second = ended.out.splitlines()
    assert (ended.status, ended.err) == (0, "")
    assert heading.split("  ")[0] == "ID"
    assert [cell.strip() for cell in first.split("  ") if cell] == [
        "a" * 64, "http://origin.test/disk.img", "4.0 MiB", "10.0 MiB", "8.0 MiB", "2023-11-14 22:13:20", "-",
        "2023-11-14 22:14:20",
    ]  # fmt: skip
    assert second.startswith("b" * 64)
    assert first.index("4.0 MiB") == heading.index("PIECE LENGTH")


def test_an_empty_host_has_a_heading_only(dfctl: Dfctl, daemon: FakeDaemon) -> None:
    daemon.tasks.clear()
    assert dfctl("task", "ls").out.count("\n") == 1
    assert json.loads(dfctl("task", "ls", "--json").out) == []


def test_json_tells_every_field(dfctl: Dfctl) -> None:
    tasks = json.loads(dfctl("task", "ls", "--json").out)
    assert [task["task_id"][0] for task in tasks] == ["a", "b"]
    expected = {
        "task_id": "a" * 64, "url": "http://origin.test/disk.img", "tag": "nightly", "application": "",
        "piece_length": 4 << 20, "content_length": 10 << 20, "stored_length": 8 << 20, "uploading_pieces": 0,
        "uploaded_pieces": 3, "created_at": "2023-11-14T22:13:20+00:00", "finished_at": None, "failed_at": None,
        "updated_at": "2023-11-14T22:14:20+00:00",
    }  # fmt: skip
    assert tasks[0] == expected
    assert json.loads(dfctl("task", "stat", "a" * 64, "--json").out) == expected


def test_one_task_is_told_line_by_line(dfctl: Dfctl) -> None:
    lines = dict(line.split(maxsplit=1) for line in dfctl("task", "stat", "a" * 64).out.splitlines())
    assert (lines["ID"], lines["TAG"], lines["UPLOADED"], lines["FINISHED"]) == ("a" * 64, "nightly", "3 pieces", "-")


def test_a_length_that_is_not_known_is_a_dash(dfctl: Dfctl, daemon: FakeDaemon) -> None:
    daemon.tasks["a" * 64].ClearField("content_length")
    assert "CONTENT LENGTH  -\n" in dfctl("task", "stat", "a" * 64).out


def test_escapes_in_a_url_do_not_reach_the_terminal(dfctl: Dfctl, daemon: FakeDaemon) -> None:
    daemon.tasks["a" * 64].url = "http://x/\x1b]0;owned\x07"
    assert "\x1b" not in dfctl("task", "ls").out + dfctl("task", "stat", "a" * 64).out


def test_tasks_are_removed_from_this_host_or_everywhere(dfctl: Dfctl, daemon: FakeDaemon) -> None:
    assert dfctl("task", "rm", "a" * 64) == Ended(0, "", "")
    assert dfctl("task", "rm", "--everywhere", "b" * 64) == Ended(0, "", "")
    assert daemon.deleted == [("DeleteLocalTask", "a" * 64), ("DeleteTask", "b" * 64)]
    assert daemon.tasks == {}


def test_a_task_that_cannot_be_removed_holds_up_no_other(dfctl: Dfctl, daemon: FakeDaemon) -> None:
    ended = dfctl("task", "rm", "a" * 64, "c" * 64, "b" * 64)
    assert ended == Ended(3, "", f"dfctl: task {'c' * 64} is not stored here\n")
    assert daemon.tasks == {}


def test_an_unknown_task_is_told(dfctl: Dfctl) -> None:
    assert dfctl("task", "stat", "x") == Ended(3, "", "dfctl: task x is not stored here\n")


def test_no_daemon_is_told(dfctl: Dfctl, tmp_path: Path) -> None:
    ended = dfctl("task", "ls", "-e", str(tmp_path / "absent"), endpoint=False)
    assert ended == Ended(5, "", f"dfctl: no dfdaemon answers at {tmp_path / 'absent'}: there is no such socket\n")


WRONG = {
    "no id": ["task", "rm"], "unknown command": ["task", "frob"], "unknown option": ["task", "ls", "--frob"],
    "timeout": ["task", "ls", "--timeout", "5"], "id that is no text": ["task", "stat", "\udcff"],
    "long socket": ["task", "ls", "-e", "/" + "s" * 200],
}  # fmt: skip


@pytest.mark.parametrize("arguments", WRONG.values(), ids=WRONG.keys())
def test_wrong_usage_is_one_sentence(dfctl: Dfctl, arguments: list[str]) -> None:
    ended = dfctl(*arguments, endpoint=False)
    assert (ended.status, ended.out) == (2, "")
    assert ended.err.startswith("dfctl: ")
    assert ended.err.count("\n") == 1


REFUSED = {
    "dfctl task preheat": ["task", "preheat", "http://x/y", "--scheduler-endpoint", "z"],
    "dfctl persistent-task": ["persistent-task", "ls"], "dfctl persistent-cache-task": ["persistent-cache-task", "ls"],
}  # fmt: skip


@pytest.mark.parametrize(("name", "arguments"), REFUSED.items(), ids=REFUSED.keys())
def test_what_is_not_there_yet_is_refused_by_name(dfctl: Dfctl, name: str, arguments: list[str]) -> None:
    assert dfctl(*arguments, endpoint=False) == Ended(2, "", f"dfctl: {name} is not supported yet\n")


def test_help_and_version(dfctl: Dfctl) -> None:
    assert "See and remove what this host's dfdaemon stores." in dfctl("--help", endpoint=False).out
    assert dfctl("-V", endpoint=False).out == f"dfctl {__version__}\n"
    assert dfctl(endpoint=False).status == 2


def test_a_terminal_gets_a_table_and_a_pipe_does_not_load_rich(daemon: FakeDaemon) -> None:
    command = [sys.executable, "-m", "dragonfly.cli.dfctl", "task", "ls", "-e", str(daemon.socket_path)]
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "200"}
    process = subprocess.Popen(command, stdout=theirs, env=environment)
    os.close(theirs)
    assert process.wait(PATIENCE) == 0
    assert "─" in os.read(ours, 65536).decode()
    os.close(ours)
    code = (
        f"import sys; from dragonfly.cli.dfctl.__main__ import main;main({command[3:]!r}); print('rich' in sys.modules)"
    )
    piped = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert piped.stdout.splitlines()[-1] == "False"
