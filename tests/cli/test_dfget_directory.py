"""dfget on directories: which files are fetched, where they go, and what one failure means for the others."""

import json
import os
import pty
import signal
import subprocess
from pathlib import Path

import pytest

from dragonfly.errors import (
    DaemonUnreachable,
    SourceForbidden,
    SourceNotFound,
    SourceUnavailable,
    UnsupportedFeature,
)
from dragonfly.testing.fake_daemon import PEERS, Play
from dragonfly.wire.pb import common_pb2
from dragonfly.wire.pb.dfdaemon_pb2 import Entry
from tests.cli.desk import PATIENCE, Desk, Ended, wait_for

URL = "s3://bucket/models/"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dragonfly.cli.dfget.directory.RETRY_AFTER", (0.0, 0.0))


def put(desk: Desk, *paths: str, content: bytes = b"content") -> None:
    """Let the origin have these files in one directory listing."""
    entries = [Entry(url=URL + path, content_length=len(content)) for path in paths]
    desk.daemon.directories[URL] = [*desk.daemon.directories.get(URL, []), *entries]


def fetch(desk: Desk, *arguments: str, url: str = URL) -> Ended:
    return desk.run("--recursive", *arguments, output=str(desk.directory / "out"), url=url)


def files(desk: Desk) -> dict[str, bytes]:
    root = desk.directory / "out"
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def asked_for(desk: Desk) -> list[str]:
    return sorted(download.url.removeprefix(URL) for download in desk.daemon.downloads)


# --- a download that works


def test_a_directory_is_downloaded_with_all_beneath_it(desk: Desk) -> None:
    put(desk, "a", "sub/b", "sub/deeper/c%20d")
    ended = fetch(desk)
    assert files(desk) == {"a": b"content", "sub/b": b"content", "sub/deeper/c d": b"content"}
    assert (ended.status, ended.out) == (0, "")
    assert ended.err.startswith(f"{desk.directory / 'out'}: 3 files, 21 B in ")
    assert ended.err.endswith("; 100 % from peers, 0 B from the origin\n")


def test_directories_are_asked_for_level_by_level(desk: Desk) -> None:
    desk.daemon.directories = {
        URL: [Entry(url=URL + "a/", is_dir=True), Entry(url=URL + "x", content_length=7)],
        URL + "a/": [Entry(url=URL + "a/b", is_dir=True), Entry(url=URL + "empty/", is_dir=True)],
        URL + "a/b/": [Entry(url=URL + "a/b/y", content_length=7)],
        URL + "empty/": [],
    }
    assert fetch(desk, "--storage-region", "eu", "-H", "A: b").status == 0
    assert sorted(files(desk)) == ["a/b/y", "x"]
    assert (desk.directory / "out" / "empty").is_dir()
    assert {listing.object_storage.region for listing in desk.daemon.listings} == {"eu"}
    assert {listing.request_header["A"] for listing in desk.daemon.listings} == {"b"}
    assert len({listing.task_id for listing in desk.daemon.listings}) == 4


def test_a_missing_slash_is_put_at_the_end_of_the_path(desk: Desk) -> None:
    put(desk, "a")
    assert fetch(desk, url=URL.rstrip("/")).status == 0
    desk.daemon.directories["http://origin.test/d/?x=1"] = []
    fetch(desk, url="http://origin.test/d?x=1")
    assert [listing.url for listing in desk.daemon.listings] == [URL, "http://origin.test/d/?x=1"]


def test_a_slash_at_the_end_means_a_directory_unless_it_is_a_web_page(desk: Desk) -> None:
    put(desk, "a")
    desk.run(output=str(desk.directory / "out"), url=URL)
    assert files(desk) == {"a": b"content"}
    assert desk.run(url="http://origin.test/").status == 0
    assert desk.output.read_bytes() == b"content"


def test_the_content_may_come_through_the_socket(desk: Desk) -> None:
    put(desk, "a", "sub/b")
    assert fetch(desk, "--transfer-from-dfdaemon").status == 0
    assert files(desk) == {"a": b"content", "sub/b": b"content"}
    assert all(download.need_piece_content and not download.output_path for download in desk.daemon.downloads)


def test_only_included_files_are_fetched(desk: Desk) -> None:
    put(desk, "a.txt", "a.bin", "sub/b.txt", "docs/x", "docs/y/z")
    assert fetch(desk, "-I", "*.txt", "--include-files", "docs/").status == 0
    assert sorted(files(desk)) == ["a.txt", "docs/x", "docs/y/z"]


def test_an_empty_directory_is_told_and_no_failure(desk: Desk) -> None:
    put(desk)
    ended = fetch(desk)
    assert (ended.status, f"dfget: there is no file to download in {URL}\n" in ended.err) == (0, True)


def test_json_tells_files_and_bytes(desk: Desk) -> None:
    put(desk, "a", "b")
    result = fetch(desk, "--json").result
    assert isinstance(result.pop("seconds"), float)
    assert result == {
        "url": URL, "output": str(desk.directory / "out"), "files": 2, "files_skipped": 0, "files_missing": 0,
        "bytes_from_peers": 14, "bytes_from_origin": 0, "bytes_from_local": 0, "failures": [], "exit_status": 0,
    }  # fmt: skip


def test_progress_of_all_files_is_told_as_json_lines(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dragonfly.cli.dfget.directory._JSON_PROGRESS_EVERY", 0.0)
    put(desk, "a", "b")
    *told, last = map(json.loads, fetch(desk, "--json-progress", "--max-concurrent-requests", "1").out.splitlines())
    shown = [(line["progress"]["files"], line["progress"]["bytes_from_peers"]) for line in told]
    assert shown == [(0, 4), (0, 7), (1, 7), (1, 11), (1, 14), (2, 14)]
    assert last["files"] == 2


def test_no_more_files_than_allowed_are_fetched_at_once(desk: Desk) -> None:
    most = []

    def watch(download: common_pb2.Download) -> None:
        most.append(len(list(desk.directory.joinpath("out").glob(".*.dfget"))))

    put(desk, *(str(number) for number in range(20)))
    desk.daemon.play = Play(meanwhile=watch)
    assert fetch(desk, "--max-concurrent-requests", "3").status == 0
    assert len(files(desk)) == 20
    assert max(most) <= 3


# --- again


def test_files_that_are_there_are_not_fetched_again(desk: Desk) -> None:
    put(desk, "a", "sub/b")
    fetch(desk)
    put(desk, "c")
    ended = fetch(desk)
    assert asked_for(desk) == ["a", "c", "sub/b"]
    assert (ended.status, ended.err.endswith("; 2 were here already\n")) == (0, True)
    assert fetch(desk, "--overwrite").status == 0
    assert len(desk.daemon.downloads) == 6


def test_a_file_whose_length_the_listing_does_not_tell_is_skipped_when_it_is_here(desk: Desk) -> None:
    desk.daemon.directories = {URL: [Entry(url=URL + "x", length_unknown=True)]}
    (desk.directory / "out").mkdir()
    (desk.directory / "out" / "x").write_bytes(b"finished before")
    assert fetch(desk).status == 0
    assert files(desk) == {"x": b"finished before"}
    assert not desk.daemon.downloads


def test_a_file_of_another_length_is_kept_without_overwrite(desk: Desk) -> None:
    put(desk, "a", "b")
    (desk.directory / "out").mkdir()
    (desk.directory / "out" / "a").write_bytes(b"mine")
    ended = fetch(desk)
    assert ended.status == 7
    assert f"the output exists already: {desk.directory / 'out' / 'a'}" in ended.err
    assert files(desk) == {"a": b"mine", "b": b"content"}
    assert fetch(desk, "--overwrite").status == 0
    assert files(desk) == {"a": b"content", "b": b"content"}


def test_a_download_that_broke_off_goes_on(desk: Desk) -> None:
    put(desk, "a", "b", "c")
    desk.daemon.plays = {URL + "b": iter([Play(error=SourceForbidden(url="b", status=403)), Play()])}
    assert fetch(desk).status == 4
    assert fetch(desk).status == 0
    assert asked_for(desk) == ["a", "b", "b", "c"]
    assert sorted(files(desk)) == ["a", "b", "c"]


# --- failures


def test_one_failure_does_not_cancel_the_others_and_each_is_one_line(desk: Desk) -> None:
    put(desk, "a", "b", "c", "d")
    gone, denied = SourceNotFound(url="b", status=404), SourceForbidden(url="c", status=403)
    desk.daemon.plays = {URL + "b": Play(error=gone), URL + "c": Play(error=denied)}
    ended = fetch(desk, "--json")
    out = desk.directory / "out"
    assert sorted(files(desk)) == ["a", "d"]
    lines = ended.err.splitlines()
    assert sorted(lines[:2]) == [f"dfget: {out / 'b'}: {gone}", f"dfget: {out / 'c'}: {denied}"]
    assert lines[2].endswith("; 2 failed")
    assert len(lines) == 3
    assert ended.status == ended.result["exit_status"] == 4
    assert ended.result["files_missing"] == 2
    assert {
        "file": str(out / "b"), "error": "SourceNotFound", "message": str(gone), "exit_status": 3,
    } in ended.result["failures"]  # type: ignore[operator]  # fmt: skip


def test_what_may_pass_is_tried_three_times(desk: Desk) -> None:
    put(desk, "a", "b")
    away = Play(error=SourceUnavailable(url="a", status=503))
    desk.daemon.plays = {URL + "a": iter([away, away, Play()]), URL + "b": iter([away, away, away])}
    assert fetch(desk).status == 5
    assert asked_for(desk) == ["a", "a", "a", "b", "b", "b"]
    assert files(desk) == {"a": b"content"}


def test_a_failure_leaves_no_draft(desk: Desk) -> None:
    put(desk, "a", "b")
    desk.daemon.play = Play(content_length=8)
    assert fetch(desk).status == 6
    assert files(desk) == {}


def test_a_daemon_that_goes_away_ends_the_download(desk: Desk) -> None:
    put(desk, *(str(number) for number in range(50)))
    desk.daemon.play = Play(error=DaemonUnreachable(endpoint="x", reason="gone"))
    ended = fetch(desk)
    assert ended.status == 5
    assert "50 of 50 files are missing" in ended.err
    assert len(desk.daemon.downloads) < 20


def test_more_files_than_allowed_are_refused_before_the_first(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    put(desk, *(str(number) for number in range(101)))
    ended = fetch(desk)
    assert (ended.status, desk.daemon.downloads) == (2, [])
    assert ended.err == "dfget: there are more than 100 files; --max-files allows more\n"
    monkeypatch.setenv("DFGET_MAX_FILES", "101")
    assert fetch(desk).status == 0


def test_a_scheme_without_directories_is_told(desk: Desk) -> None:
    desk.daemon.listing_error = UnsupportedFeature(feature="listing http URLs")
    ended = fetch(desk, url="http://origin.test/d/")
    assert (ended.status, ended.err) == (2, "dfget: listing http URLs is not supported yet\n")


def test_a_directory_that_is_not_there_is_told(desk: Desk) -> None:
    assert fetch(desk).status == 3
    assert desk.left_over() == [], "a directory that was made for it is taken away"


def test_the_timeout_holds_while_the_daemon_lists(desk: Desk) -> None:
    desk.daemon.play = Play(hangs=True)
    ended = fetch(desk, "--timeout", "300ms")
    assert (ended.status, ended.err) == (8, "dfget: not done within 0.3 s\n")


def test_the_timeout_holds_while_files_are_fetched(desk: Desk) -> None:
    put(desk, "a", "b", "c")
    desk.daemon.plays = {URL + "b": Play(hangs=True)}
    ended = fetch(desk, "--timeout", "700ms")
    assert ended.status == 8
    assert "dfget: not done within 0.7 s: 1 of 3 files are missing\n" in ended.err
    assert sorted(files(desk)) == ["a", "c"]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_leaves_whole_files_and_nothing_else(desk: Desk, number: signal.Signals, status: int) -> None:
    put(desk, "a", "b", "c")
    desk.daemon.plays = {URL + "b": Play(hangs=True), URL + "c": Play(hangs=True)}
    command = desk.command("-r", "--json", url=URL)
    command[command.index("-O") + 1] = str(desk.directory / "out")
    with subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        wait_for(lambda: sorted(files(desk)) and (desk.directory / "out" / "a").exists())
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == status
    assert err == f"dfget: stopped by {number.name}\n"
    assert json.loads(out)["exit_status"] == status
    assert files(desk) == {"a": b"content"}


def test_a_signal_ends_the_listing_too(desk: Desk) -> None:
    desk.daemon.play = Play(hangs=True)
    with subprocess.Popen(desk.command("-r", url=URL), text=True, stderr=subprocess.PIPE) as process:
        assert desk.daemon.is_playing.wait(PATIENCE)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (130, "dfget: stopped by SIGINT\n")


def test_a_terminal_gets_one_bar_for_all_files(desk: Desk) -> None:
    put(desk, "a", "b")
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "160"}
    process = subprocess.Popen(desk.command("-r", url=URL), stderr=theirs, env=environment)
    os.close(theirs)
    assert process.wait(PATIENCE) == 0
    shown = os.read(ours, 1 << 20).decode()
    os.close(ours)
    assert "14 B of 14 B" in shown
    assert "disk.img: 2 files, 14 B in" in shown.splitlines()[-1]


# --- where files may go


def test_an_output_that_is_a_file_is_refused(desk: Desk) -> None:
    (desk.directory / "out").touch()
    ended = fetch(desk)
    assert (ended.status, "it is not a directory" in ended.err) == (7, True)


def test_only_the_last_directory_of_the_output_is_made(desk: Desk) -> None:
    ended = desk.run("-r", output=str(desk.directory / "no" / "out"), url=URL)
    assert (ended.status, "the output's directory does not exist" in ended.err) == (7, True)


def test_a_name_that_leads_out_is_one_failure(desk: Desk, tmp_path: Path) -> None:
    """Attacks 19 and 22."""
    put(desk, "../../escaped", "%2e%2e/escaped", "..%2fescaped", "good")
    ended = fetch(desk)
    assert ended.status == 1
    assert ended.err.count("its listing ") == 3
    assert files(desk) == {"good": b"content"}
    assert not list(tmp_path.rglob("*escaped*"))


def test_each_name_that_is_unfit_for_a_file_is_one_line_and_one_missing_file(desk: Desk) -> None:
    """Attacks 19 and 22: what such a name could do here is left to no file system and no terminal."""
    put(desk, "a%5Cb", "a%00b", "a%0Ab", "a%1B[2Jb", "sub%5C/x", "good")
    ended = fetch(desk, "--json")
    assert (ended.status, files(desk)) == (1, {"good": b"content"})
    lines = [line for line in ended.err.splitlines() if "a name that is not fit for a file" in line]
    assert len(lines) == ended.result["files_missing"] == len(ended.result["failures"]) == 5  # type: ignore[arg-type]


@pytest.mark.parametrize("transfer", [[], ["--transfer-from-dfdaemon"]], ids=["direct", "transfer"])
@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]], ids=["", "overwrite"])
def test_a_symbolic_link_in_the_tree_leads_nothing_out(
    desk: Desk, tmp_path: Path, transfer: list[str], overwrite: list[str]
) -> None:
    """Attack 19."""
    outside, out = tmp_path / "outside", desk.directory / "out"
    outside.mkdir()
    out.mkdir()
    (outside / "passwd").write_bytes(b"precious")
    (out / "sub").symlink_to(outside)
    (out / "link").symlink_to(outside / "passwd")
    put(desk, "sub/passwd", "sub/new", "link", "good")
    ended = fetch(desk, *transfer, *overwrite)
    assert ended.status == 7
    assert "a file or a symbolic link is in the way" in ended.err
    assert {path.name: path.read_bytes() for path in outside.iterdir()} == {"passwd": b"precious"}
    assert (out / "good").read_bytes() == b"content"
    assert (out / "link").is_symlink() == (not overwrite), "a link in a file's place is replaced, not followed"


def test_a_symbolic_link_that_appears_meanwhile_leads_nothing_out(desk: Desk, tmp_path: Path) -> None:
    """Attack 19."""
    outside = tmp_path / "outside"
    outside.mkdir()
    put(desk, "sub/x")
    desk.daemon.play = Play(meanwhile=lambda _: (desk.directory / "out" / "sub").symlink_to(outside))
    assert fetch(desk).status == 7
    assert list(outside.iterdir()) == []


def test_a_file_where_a_directory_belongs_fails_alone(desk: Desk) -> None:
    put(desk, "a", "a/b", "good")
    ended = fetch(desk, "--max-concurrent-requests", "1")
    assert ended.status == 7
    assert files(desk) == {"a": b"content", "good": b"content"}


def test_the_output_itself_may_be_a_symbolic_link(desk: Desk) -> None:
    (desk.directory / "real").mkdir()
    (desk.directory / "out").symlink_to("real")
    put(desk, "a")
    assert fetch(desk).status == 0
    assert (desk.directory / "real" / "a").read_bytes() == b"content"


# --- what goes with directories and what does not


@pytest.mark.parametrize("flags", [["--range", "0-1"], ["--digest", "crc32:1"],
                                   ["--content-for-calculating-task-id", "x"]])  # fmt: skip
def test_flags_of_one_file_are_refused(desk: Desk, flags: list[str]) -> None:
    ended = fetch(desk, *flags)
    assert ended.status == 2
    assert f"{flags[0]} is of one file" in ended.err


def test_every_file_is_asked_for_with_the_flags(desk: Desk) -> None:
    put(desk, "a", "b")
    fetch(desk, "--tag", "nightly", "-H", "A: b", "--storage-access-key-id", "me", "-p", "3")
    for download in desk.daemon.downloads:
        assert (download.tag, dict(download.request_header), download.priority) == ("nightly", {"A": "b"}, 3)
        assert download.object_storage.access_key_id == "me"
        assert Path(download.output_path).parent == desk.directory / "out"


def test_a_mistake_in_one_file_is_a_failure_of_that_file(desk: Desk) -> None:
    put(desk, "a", "b")
    desk.daemon.plays = {URL + "a": Play(traffic=(99,))}  # type: ignore[arg-type]  # what no daemon of ours would say
    desk.daemon.play = Play(traffic=(PEERS,))
    ended = fetch(desk)
    assert (ended.status, files(desk)) == (1, {"b": b"content"})
    assert "an internal error" in ended.err


def test_files_have_the_callers_mode(desk: Desk) -> None:
    put(desk, "a")
    before = os.umask(0o027)
    try:
        fetch(desk)
    finally:
        os.umask(before)
    assert (desk.directory / "out" / "a").stat().st_mode & 0o777 == 0o640
