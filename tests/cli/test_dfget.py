"""dfget against a daemon that plays along or does not: what is asked, written and said, and what it ends with."""

import json
import os
import pty
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from dragonfly import __version__
from dragonfly.cli.dfget.__main__ import main
from dragonfly.cli.dfget.flags import FLAGS, REFUSED, Flag
from dragonfly.cli.dfget.output import Draft, check
from dragonfly.core.model.ids import DEFAULT_FILTERED_QUERY_PARAMS
from dragonfly.errors import (
    ContentDigestMismatch,
    DaemonUnreachable,
    DiskFull,
    DownloadForbidden,
    DragonflyError,
    InternalFailure,
    OutputExists,
    OutputUnwritable,
    ParentUnreachable,
    SchedulerUnreachable,
    SchemeUnsupported,
    SourceChanged,
    SourceForbidden,
    SourceNameUnknown,
    SourceNotFound,
    SourceTruncated,
    SourceUnavailable,
    SourceUnreachable,
)
from dragonfly.testing.fake_daemon import LOCAL, ORIGIN, PEERS, Play
from dragonfly.wire.pb import common_pb2
from tests.cli.desk import PATIENCE, URL, Desk, Ended

# --- a download that works


def test_a_download_leaves_the_output_one_line_of_summary_and_nothing_else(desk: Desk) -> None:
    desk.daemon.play = Play(content=b"0123456789", traffic=(PEERS, ORIGIN, LOCAL))
    ended = desk.run()
    assert ended.status == 0
    assert desk.output.read_bytes() == b"0123456789"
    assert desk.left_over() == ["disk.img"]
    assert ended.out == ""
    assert ended.err.startswith(f"{desk.output}: 10 B in ")
    assert ended.err.endswith("; 40 % from peers, 4 B from the origin, 2 B already here\n")


def test_no_progress_means_nothing_on_stderr(desk: Desk) -> None:
    assert desk.run("--no-progress") == Ended(0, "", "")


def test_json_tells_what_came_from_where(desk: Desk) -> None:
    desk.daemon.play = Play(content=b"0123456789", traffic=(PEERS, ORIGIN, LOCAL))
    result = desk.run("--json").result
    assert isinstance(result.pop("seconds"), float)
    assert result == {
        "url": URL, "output": str(desk.output), "task_id": "t" * 64, "peer_id": "peer", "content_length": 10,
        "bytes_from_peers": 4, "bytes_from_origin": 4, "bytes_from_local": 2,
    }  # fmt: skip


def test_an_empty_file_is_a_download_too(desk: Desk) -> None:
    desk.daemon.play = Play(content=b"")
    assert desk.run().status == 0
    assert desk.output.read_bytes() == b""


def test_a_finished_task_without_told_pieces_counts_as_local(desk: Desk) -> None:
    desk.daemon.play = Play(content=b"0123456789", is_finished=True, tells_pieces=False)
    assert desk.run("--json").result["bytes_from_local"] == 10


def test_the_daemons_notice_is_said_without_its_escapes(desk: Desk) -> None:
    desk.daemon.play = Play(notice="no scheduler\x1b[31m answers\n")
    assert "dfget: no scheduler\\x1b[31m answers\\n\n" in desk.run().err


def test_the_output_has_the_callers_mode(desk: Desk) -> None:
    before = os.umask(0o027)
    try:
        desk.run()
    finally:
        os.umask(before)
    assert stat.S_IMODE(desk.output.stat().st_mode) == 0o640


def test_the_daemon_may_put_a_hard_link_in_the_drafts_place(desk: Desk, tmp_path: Path) -> None:
    stored = tmp_path / "stored"
    stored.write_bytes(b"content")

    def link(output: Path, content: bytes) -> None:
        output.unlink()
        output.hardlink_to(stored)

    desk.daemon.play = Play(fills=link)
    assert desk.run("--force-hard-link").status == 0
    assert desk.output.samefile(stored)
    assert desk.asked.force_hard_link


def test_progress_is_told_as_json_lines(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dragonfly.cli.dfget.one_file._JSON_PROGRESS_EVERY", 0.0)
    desk.daemon.play = Play(content=b"0123456789")
    *told, last = map(json.loads, desk.run("--json-progress").out.splitlines())
    assert [line["progress"]["bytes_from_peers"] for line in told] == [0, 4, 8, 10]
    assert last["content_length"] == 10


# --- what the daemon is asked for


def test_a_plain_download_asks_for_the_defaults(desk: Desk) -> None:
    desk.run()
    asked = desk.asked
    assert (asked.url, asked.type, asked.priority) == (URL, common_pb2.TaskType.STANDARD, common_pb2.Priority.LEVEL6)
    assert tuple(asked.filtered_query_params) == DEFAULT_FILTERED_QUERY_PARAMS
    assert (asked.tag, asked.application, dict(asked.request_header)) == ("", "", {})
    assert asked.timeout.seconds == 7200
    assert asked.overwrite
    assert not any((asked.force_hard_link, asked.disable_back_to_source, asked.need_piece_content, asked.prefetch))
    told = {field.name for field, _ in asked.ListFields()}
    assert not told & {"digest", "piece_length", "content_for_calculating_task_id", "range"}


def test_every_flag_arrives(desk: Desk) -> None:
    desk.run(
        "--digest", f"SHA256:{'AB' * 32}", "-p", "3", "--piece-length", "8MiB", "--application", "app",
        "--tag", "nightly",
        "-H", "Authorization: Bearer a:b ", "-H", "X-Empty:", "--filtered-query-param", "a", "--filtered-query-param=b",
        "--disable-back-to-source", "--content-for-calculating-task-id", "mine", "--timeout", "1m 30s",
    )  # fmt: skip
    asked = desk.asked
    assert asked.digest == f"sha256:{'ab' * 32}"
    assert (asked.priority, asked.piece_length, asked.application, asked.tag) == (3, 8 << 20, "app", "nightly")
    assert dict(asked.request_header) == {"Authorization": "Bearer a:b", "X-Empty": ""}
    assert list(asked.filtered_query_params) == ["a", "b"]
    assert asked.disable_back_to_source
    assert asked.content_for_calculating_task_id == "mine"
    assert asked.timeout.seconds == 90
    assert 80 < desk.daemon.deadlines[-1] <= 90


def test_variables_stand_in_for_flags_and_flags_win(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"TAG": "from variable", "APPLICATION": "app", "PRIORITY": "2", "TIMEOUT": "10s",
                        "DISABLE_BACK_TO_SOURCE": "true", "OVERWRITE": "1", "PIECE_LENGTH": "", "NO_PROGRESS": "on",
                        "FORCE_HARD_LINK": "false"}.items():  # fmt: skip
        monkeypatch.setenv(f"DFGET_{name}", value)
    desk.output.write_bytes(b"old")
    assert desk.run("--tag", "from flag") == Ended(0, "", "")
    assert (desk.asked.tag, desk.asked.application, desk.asked.priority) == ("from flag", "app", 2)
    assert desk.asked.timeout.seconds == 10
    assert desk.asked.disable_back_to_source
    assert not desk.asked.force_hard_link
    assert not desk.asked.HasField("piece_length")


def test_the_draft_lies_beside_the_output_under_a_resolved_absolute_path(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    (desk.directory / "real").mkdir()
    (desk.directory / "alias").symlink_to("real")
    monkeypatch.chdir(desk.directory)
    assert desk.run(output="alias/disk.img").status == 0
    draft = Path(desk.asked.output_path)
    assert draft.parent == (desk.directory / "real").resolve()
    assert draft.name.startswith(".disk.img.")
    assert draft.name.endswith(".dfget")


# --- what is refused before anything is connected to

WRONG = {
    "no url": ([], "the following arguments are required: URL"),
    "no output": ([URL], "--output is missing"),
    "relative url": (["disk.img", "-O", "x"], "not a usable URL: 'disk.img'"),
    "line break in the url": (["http://a/\nb", "-O", "x"], "not a usable URL: 'http://a/\\nb'"),
    "url that is not text": (["http://a/\udcff", "-O", "x"], "it is not UTF-8 text"),
    "empty output": ([URL, "-O", ""], "--output: the path is empty"),
    "NUL in the output": ([URL, "-O", "a\0b"], "--output: the path contains a NUL"),
    "timeout without unit": ([URL, "-O", "x", "--timeout", "5"], "--timeout: not a usable duration: '5'"),
    "no time at all": ([URL, "-O", "x", "--timeout", "0s"], "--timeout: 0s is not between"),
    "endless timeout": ([URL, "-O", "x", "--timeout", "1000w"], "1000w is not between 0 s and 10 years"),
    "digest without algorithm": ([URL, "-O", "x", "--digest", "abc"], "--digest: not a usable digest: 'abc'"),
    "short digest": ([URL, "-O", "x", "--digest", "sha256:abc"], "sha256 has 64 hex digits"),
    "unknown digest": ([URL, "-O", "x", "--digest", "md5:" + "a" * 32], "--digest: not a usable digest"),
    "digest not for content": ([URL, "-O", "x", "--digest", "blake3:" + "a" * 64], "blake3 is not one of sha256"),
    "priority": ([URL, "-O", "x", "-p", "7"], "--priority: '7' is not one of 0, 1,"),
    "small pieces": ([URL, "-O", "x", "--piece-length", "1MiB"], "--piece-length: a piece length of 1048576 bytes"),
    "header without colon": ([URL, "-O", "x", "-H", "Secret"], "--header: want"),
    "header with a bad name": ([URL, "-O", "x", "-H", "A b: c"], "--header: want"),
    "header with a line break": ([URL, "-O", "x", "-H", "A: secret\r\nB: d"], "--header: the value of A contains a"),
    "header name with a line break": ([URL, "-O", "x", "-H", "A\nB: c"], "--header: want"),
    "header that is not text": ([URL, "-O", "x", "-H", "A: \udcff"], "--header: it is not UTF-8 text"),
    "header twice": ([URL, "-O", "x", "-H", "A: b", "-H", "a: c"], "--header: a is given twice"),
    "tag that is not text": ([URL, "-O", "x", "--tag", "\udcff"], "--tag: it is not UTF-8 text"),
    "long socket path": ([URL, "-O", "x", "-e", "/" + "s" * 200], "is longer than a socket's path can be (107 bytes)"),
    "log level": ([URL, "-O", "x", "-l", "loud"], "--log-level: 'loud' is not one of trace"),
    "unknown flag": ([URL, "-O", "x", "--frobnicate"], "unrecognized arguments: --frobnicate"),
    "abbreviated flag": ([URL, "-O", "x", "--overw"], "unrecognized arguments: --overw"),
}


@pytest.mark.parametrize(("arguments", "sentence"), WRONG.values(), ids=WRONG.keys())
def test_wrong_arguments_are_told_in_one_sentence(desk: Desk, arguments: list[str], sentence: str) -> None:
    assert main(arguments) == 2
    captured = desk.capture.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("dfget: ")
    assert captured.err.count("\n") == 1
    assert sentence in captured.err
    assert "secret" not in captured.err.lower()
    assert desk.daemon.downloads == []


@pytest.mark.parametrize("flag", REFUSED, ids=[flag.name for flag in REFUSED])
def test_a_flag_we_do_not_have_yet_is_refused_by_name(desk: Desk, flag: Flag, monkeypatch: pytest.MonkeyPatch) -> None:
    name = flag.name
    value = [] if flag.is_switch else ["5"]
    assert desk.run(f"--{name}", *value) == Ended(2, "", f"dfget: --{name} is not supported yet\n")
    if flag.has_variable:
        monkeypatch.setenv(flag.variable, "true")
        sentence = f"dfget: --{name} ({flag.variable} is set) is not supported yet\n"
        assert desk.run() == Ended(2, "", sentence)


WITHOUT_VARIABLE = {
    "output", "recursive", "digest", "header", "filtered_query_param", "include_files", "endpoint",
    "json", "json_progress", "range", "prefetch",
}  # fmt: skip


def test_every_flag_has_a_variable_but_those_of_one_download() -> None:
    assert {flag.field for flag in FLAGS if not flag.has_variable} == WITHOUT_VARIABLE
    assert next(flag.variable for flag in FLAGS if flag.name == "hf-base-url") == "DFGET_HF_BASE_URL"


def test_a_wrong_variable_is_named(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DFGET_OVERWRITE", "maybe")
    assert desk.run().err == "dfget: DFGET_OVERWRITE: 'maybe' is neither true nor false\n"


def test_help_and_version_go_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    for argument, text in (("--help", "dfget URL -O PATH [options]"), ("-V", f"dfget {__version__}\n")):
        with pytest.raises(SystemExit) as ended:
            main([argument])
        assert ended.value.code == 0
        assert text in capsys.readouterr().out


# --- the output


def test_an_output_that_exists_is_refused(desk: Desk) -> None:
    desk.output.write_bytes(b"old")
    ended = desk.run()
    assert ended.status == 7
    assert ended.err == f"dfget: the output exists already: {desk.output} (use --overwrite to replace it)\n"
    assert desk.output.read_bytes() == b"old"
    assert desk.daemon.downloads == []


def test_overwrite_replaces_a_file(desk: Desk) -> None:
    desk.output.write_bytes(b"old")
    assert desk.run("--overwrite").status == 0
    assert desk.output.read_bytes() == b"content"


def test_overwrite_keeps_the_old_file_until_the_new_one_is_whole(desk: Desk) -> None:
    desk.output.write_bytes(b"old")
    seen: list[bytes] = []
    desk.daemon.play = Play(meanwhile=lambda _: seen.append(desk.output.read_bytes()))
    assert desk.run("--overwrite").status == 0
    assert seen == [b"old"]


@pytest.mark.parametrize("play", [
    Play(error=SourceNotFound(url=URL, status=404)), Play(error=ContentDigestMismatch(got="a", expected="b")),
    Play(content_length=8), Play(status=grpc.StatusCode.UNAVAILABLE),
], ids=["origin", "digest", "length", "daemon dies"])  # fmt: skip
def test_a_failed_overwrite_keeps_the_old_file(desk: Desk, play: Play) -> None:
    desk.output.write_bytes(b"old")
    desk.daemon.play = play
    assert desk.run("--overwrite").status != 0
    assert desk.output.read_bytes() == b"old"
    assert desk.left_over() == ["disk.img"]


def test_a_directory_is_no_output(desk: Desk) -> None:
    desk.output.mkdir()
    for output in (str(desk.output), str(desk.directory) + "/new/", str(desk.directory), "..", "/"):
        for more in ([], ["--overwrite"]):
            ended = desk.run(*more, output=output)
            assert (ended.status, ended.err) == (7, f"dfget: the output is a directory: {output}\n")


def test_a_missing_directory_is_named(desk: Desk) -> None:
    ended = desk.run(output=str(desk.directory / "missing" / "disk.img"))
    assert ended.err == f"dfget: the output's directory does not exist: {desk.directory / 'missing'}\n"
    assert ended.status == 7


def test_a_file_cannot_be_the_outputs_directory(desk: Desk) -> None:
    (desk.directory / "file").touch()
    assert desk.run(output=str(desk.directory / "file" / "disk.img")).status == 7


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_without_permission_is_refused_before_connecting(desk: Desk) -> None:
    desk.directory.chmod(0o555)
    assert "no permission to write" in desk.run().err
    assert desk.daemon.downloads == []


def test_a_name_too_long_is_told(desk: Desk) -> None:
    """Attack 19."""
    ended = desk.run(output=str(desk.directory / ("n" * 256)))
    assert ended.status == 7
    assert "File name too long" in ended.err


def test_the_longest_and_oddest_names_work(desk: Desk) -> None:
    """Attack 19."""
    for name in ("n" * 255, "é" * 127, "with space", "-dash", "line\nbreak", os.fsdecode(b"\xff\xfe")):
        assert desk.run(output=str(desk.directory / name)).status == 0, name
        assert (desk.directory / name).read_bytes() == b"content"
    assert len(desk.left_over()) == 6


def test_a_directory_whose_name_is_not_text_is_refused(desk: Desk) -> None:
    odd = desk.directory / os.fsdecode(b"\xff")
    odd.mkdir()
    ended = desk.run(output=str(odd / "disk.img"))
    assert ended.status == 7
    assert "its directory's name is not UTF-8" in ended.err


@pytest.mark.parametrize("target", ["there", "nowhere"])
def test_a_symbolic_link_counts_as_existing_even_where_it_leads_nowhere(desk: Desk, target: str) -> None:
    (desk.directory / "there").write_bytes(b"other")
    desk.output.symlink_to(target)
    assert "exists already" in desk.run().err
    assert desk.output.is_symlink()


def test_overwrite_replaces_a_symbolic_link_and_not_what_it_leads_to(desk: Desk, tmp_path: Path) -> None:
    """Attack 19."""
    (tmp_path / "precious").write_bytes(b"precious")
    desk.output.symlink_to(tmp_path / "precious")
    assert desk.run("--overwrite").status == 0
    assert not desk.output.is_symlink()
    assert (tmp_path / "precious").read_bytes() == b"precious"


def test_a_device_or_pipe_is_never_replaced(desk: Desk) -> None:
    """Attack 19."""
    os.mkfifo(desk.output)
    ended = desk.run("--overwrite")
    assert ended.status == 7
    assert "it is not a regular file" in ended.err
    assert stat.S_ISFIFO(desk.output.lstat().st_mode)


def test_an_output_that_appears_meanwhile_is_kept(desk: Desk) -> None:
    desk.daemon.play = Play(meanwhile=lambda _: desk.output.write_bytes(b"appeared"))
    ended = desk.run()
    assert (ended.status, desk.output.read_bytes()) == (7, b"appeared")
    assert "the output exists already" in ended.err
    assert desk.left_over() == ["disk.img"]


def test_a_directory_that_appears_meanwhile_is_kept(desk: Desk) -> None:
    desk.daemon.play = Play(meanwhile=lambda _: desk.output.mkdir())
    ended = desk.run("--overwrite")
    assert (ended.status, ended.err) == (7, f"dfget: the output is a directory: {desk.output}\n")
    assert desk.output.is_dir()


def test_a_draft_of_another_length_is_wrong_content(desk: Desk) -> None:
    desk.daemon.play = Play(content=b"short", content_length=500)
    ended = desk.run()
    assert (ended.status, ended.err) == (6, "dfget: the output has 5 bytes, expected 500\n")
    assert desk.left_over() == []


def test_something_else_in_the_drafts_place_is_not_published(desk: Desk) -> None:
    """Attack 19."""

    def swap(output: Path, content: bytes) -> None:
        output.unlink()
        output.symlink_to("/etc/hostname")

    desk.daemon.play = Play(fills=swap)
    assert "something else was put in its place" in desk.run().err
    assert desk.left_over() == []


def test_a_draft_that_vanished_is_told(desk: Desk) -> None:
    desk.daemon.play = Play(meanwhile=lambda download: os.unlink(download.output_path))
    assert desk.run().status == 7


def test_without_hard_links_the_name_is_claimed_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", refused)  # as FAT answers
    draft = Draft(check(str(tmp_path / "disk.img"), overwrite=False), overwrite=False)
    draft.create()
    draft.path.write_bytes(b"content")
    draft.publish(7)
    assert [path.name for path in tmp_path.iterdir()] == ["disk.img"]
    again = replace_draft(tmp_path / "disk.img")
    with pytest.raises(OutputExists):
        again.publish(7)
    assert (tmp_path / "disk.img").read_bytes() == b"content"


def replace_draft(output: Path) -> Draft:
    """A filled draft for an output that is there already, as if it had appeared after the check."""
    draft = Draft(output, overwrite=False)
    draft.create()
    draft.path.write_bytes(b"another")
    return draft


# --- what fails, and what it ends with

FAILURES: dict[int, list[DragonflyError]] = {
    1: [InternalFailure(reason="no")],
    2: [SchemeUnsupported(scheme="gopher", url="gopher://x", known="http, https")],
    3: [SourceNotFound(url=URL, status=404)],
    4: [SourceForbidden(url=URL, status=403), DownloadForbidden(reason="blocked")],
    5: [SourceUnreachable(url=URL, reason="refused"), SourceUnavailable(url=URL, status=503),
        SourceNameUnknown(host="origin.test", url=URL), SchedulerUnreachable(address="127.0.0.1:1", reason="refused"),
        ParentUnreachable(address="127.0.0.1:1", reason="refused"),
        DaemonUnreachable(endpoint="another", reason="gone")],
    6: [ContentDigestMismatch(got="a", expected="b"), SourceChanged(url=URL, reason="another length"),
        SourceTruncated(url=URL, received=1, expected=2)],
    7: [DiskFull(path="/var", needed=2, free=1)],
}  # fmt: skip


@pytest.mark.parametrize(
    ("status", "error"), [(status, error) for status, errors in FAILURES.items() for error in errors], ids=str
)
def test_what_the_daemon_reports_is_said_and_becomes_a_status(desk: Desk, status: int, error: DragonflyError) -> None:
    desk.daemon.play = Play(error=error)
    ended = desk.run("--json")
    assert ended.status == status
    assert ended.err == f"dfget: {error}\n"
    assert ended.result == {"error": error.code, "message": str(error), "exit_status": status}
    assert desk.left_over() == []


def test_a_failure_says_nothing_on_stdout_without_json(desk: Desk) -> None:
    desk.daemon.play = Play(error=SourceNotFound(url=URL, status=404))
    assert desk.run().out == ""


def test_a_daemons_complaint_of_the_draft_names_the_output(desk: Desk) -> None:
    desk.daemon.play = Play(fails=lambda download: OutputUnwritable(path=download.output_path, reason="it says so"))
    assert desk.run().err == f"dfget: the output cannot be written: {desk.output} (it says so)\n"


def test_escapes_in_an_origins_words_do_not_reach_the_terminal(desk: Desk) -> None:
    desk.daemon.play = Play(error=SourceUnreachable(url=URL, reason="\x1b]0;owned\x07\r\nfake line"))
    ended = desk.run()
    assert "\x1b" not in ended.err
    assert ended.err.count("\n") == 1


def test_no_socket_is_told_at_once(desk: Desk, tmp_path: Path) -> None:
    ended = desk.run("-e", str(tmp_path / "absent.sock"))
    sentence = f"dfget: no dfdaemon answers at {tmp_path / 'absent.sock'}: there is no such socket\n"
    assert (ended.status, ended.err) == (5, sentence)
    assert desk.left_over() == []


def test_a_socket_nobody_listens_on_is_told_at_once(desk: Desk, tmp_path: Path) -> None:
    path = tmp_path / "dead.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    ended = desk.run("-e", str(path))
    assert (ended.status, ended.err) == (5, f"dfget: no dfdaemon answers at {path}: nobody listens on this socket\n")


def test_a_file_that_is_no_socket_is_told(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert desk.run("-e", str(tmp_path / "file")).status == 5


@contextmanager
def silent_listener(path: Path) -> Iterator[None]:
    """Accepts, as the kernel does for a stopped process, and never says a word."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        yield


def test_a_daemon_that_accepts_and_never_speaks_is_given_up(desk: Desk, tmp_path: Path) -> None:
    with silent_listener(tmp_path / "silent.sock"):
        ended = desk.run("-e", str(tmp_path / "silent.sock"), "--timeout", "20s")
    assert ended.status == 5
    assert "the connection broke or was not answered" in ended.err
    assert desk.left_over() == []


def test_the_timeout_holds_for_a_daemon_that_never_speaks(desk: Desk, tmp_path: Path) -> None:
    with silent_listener(tmp_path / "silent.sock"):
        ended = desk.run("-e", str(tmp_path / "silent.sock"), "--timeout", "300ms")
    assert (ended.status, ended.err) == (8, "dfget: not done within 0.3 s\n")


def test_the_timeout_holds_for_a_download_that_stalls_after_its_start(desk: Desk) -> None:
    desk.daemon.play = Play(hangs=True)
    ended = desk.run("--timeout", "500ms")
    assert (ended.status, ended.err) == (8, "dfget: not done within 0.5 s\n")
    assert desk.left_over() == []
    assert desk.daemon.has_left.wait(PATIENCE)


def test_a_daemon_that_dies_during_the_download_is_a_network_failure(desk: Desk) -> None:
    desk.daemon.play = Play(status=grpc.StatusCode.UNAVAILABLE)
    assert desk.run().status == 5


def test_a_daemon_that_ends_without_having_begun_is_wrong(desk: Desk) -> None:
    desk.daemon.play = Play(begins=False)
    ended = desk.run()
    assert ended.status == 1
    assert "ended the download without having begun it" in ended.err
    assert desk.left_over() == []


def test_a_mistake_of_ours_is_a_sentence_too(desk: Desk) -> None:
    desk.daemon.play = replace(Play(), traffic=(99,))  # type: ignore[arg-type]  # what no daemon of ours would say
    ended = desk.run()
    assert ended.status == 1
    assert ended.err.startswith("dfget: an internal error: ")
    assert ended.err.count("\n") == 1


# --- as a process


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_signal_leaves_nothing_behind(desk: Desk, number: signal.Signals, status: int) -> None:
    desk.output.write_bytes(b"old")
    desk.daemon.play = Play(hangs=True)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(desk.command("--overwrite", "--json"), text=True, **pipes) as process:  # type: ignore[call-overload]  # pipes
        assert desk.daemon.is_playing.wait(PATIENCE)
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == status
    assert err == f"dfget: stopped by {number.name}\n"
    assert json.loads(out) == {"error": "Stopped", "message": f"stopped by {number.name}", "exit_status": status}
    assert desk.left_over() == ["disk.img"]
    assert desk.output.read_bytes() == b"old"
    assert desk.daemon.has_left.wait(PATIENCE), "the daemon learns that nobody wants the download any more"


def test_a_signal_the_parent_ignores_stays_ignored(desk: Desk) -> None:
    desk.daemon.play = Play(hangs=True)
    script = f"trap '' HUP; exec {subprocess.list2cmdline(desk.command())}"  # as nohup does
    with subprocess.Popen(["sh", "-c", script], text=True, stderr=subprocess.PIPE) as process:
        assert desk.daemon.is_playing.wait(PATIENCE)
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (143, "dfget: stopped by SIGTERM\n")


def test_a_process_downloads_and_says_so(desk: Desk) -> None:
    ended = subprocess.run(desk.command(), capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (ended.returncode, ended.stdout) == (0, "")
    assert ended.stderr.startswith(f"{desk.output}: 7 B in ")


def test_a_closed_stdout_and_stderr_do_not_spoil_a_download(desk: Desk) -> None:
    command = subprocess.list2cmdline(desk.command("--json"))
    ended = subprocess.run(["sh", "-c", f"exec {command} >&- 2>&-"], timeout=PATIENCE, check=False)
    assert ended.returncode == 0
    assert desk.output.read_bytes() == b"content"


def test_non_utf8_arguments_are_refused_without_a_traceback(desk: Desk) -> None:
    command = [*(os.fsencode(word) for word in desk.command()), b"-H", b"X-Odd: \xff\xfe"]
    ended = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=False)
    assert (ended.returncode, ended.stderr) == (2, b"dfget: --header: it is not UTF-8 text\n")


def test_neither_grpc_nor_rich_is_loaded_for_a_wrong_command_line() -> None:
    code = (
        "import sys; from dragonfly.cli.dfget.__main__ import main; status = main(['http://x/y', '-O', '/missing/x']);"
        "print(status, sorted({'grpc', 'rich', 'google.protobuf', 'asyncio', 'aiohttp'} & set(sys.modules)))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert ended.stdout == "7 []\n"


def test_a_terminal_gets_a_bar_that_is_gone_at_the_end(desk: Desk) -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "160"}
    process = subprocess.Popen(desk.command(), stderr=theirs, stdout=subprocess.DEVNULL, env=environment)
    os.close(theirs)
    shown = _all_of(ours)
    assert process.wait(PATIENCE) == 0
    assert "7 B of 7 B" in shown
    assert "disk.img: 7 B in" in shown.splitlines()[-1]


def _all_of(descriptor: int) -> str:
    """What a terminal is sent until its other side is closed, which Linux tells by EIO."""
    parts: list[bytes] = []
    with open(descriptor, "rb", buffering=0) as terminal:
        try:
            while part := terminal.read(65536):
                parts.append(part)
        except OSError:
            pass
    return b"".join(parts).decode()
