"""Scenarios from outside: what their rounds come to, what they need, and the processes they are made of."""

import importlib
from pathlib import Path
from types import ModuleType
from urllib.request import Request, urlopen

import pytest

from bench import many_files, memory, one_hop, shaped_swarm, small_file, upload
from bench.__main__ import SCENARIOS
from bench.one_hop import touch
from bench.place import Place, place, touch_memory
from bench.processes import cpu_of, using
from bench.rounds import Figure
from bench.setup import PACKAGES, Setup, Skipped, require
from bench.swarm import Origin

HOP = {
    "iperf3 GiB/s": 4.0,
    "crc32 GiB/s": 3.2,
    "curl -o GiB/s": 2.0,
    "curl in place GiB/s": 2.5,
    "dfget GiB/s": 2.0,
    "crc32 CPU s/GiB": 0.6,
    "crc32 seed CPU s/GiB": 0.2,
    "crc32 child CPU s/GiB": 0.4,
    "curl -o CPU s/GiB": 0.6,
    "curl in place CPU s/GiB": 0.5,
    "dfget CPU s/GiB": 0.9,
    "crc32 machine busy": 1.0,
}


def by_name(figures: list[Figure]) -> dict[str, Figure]:
    return {figure.name: figure for figure in figures}


def test_one_hop_is_told_beside_iperf3_and_curl() -> None:
    told = by_name(one_hop.figures([HOP]))

    assert told["rate / iperf3"].value == 0.8
    assert told["rate / curl -o"].value == 1.6
    assert not any(figure.is_missed for figure in told.values())


def test_blake3_has_its_own_line_beside_the_iperf3_of_its_own_rounds() -> None:
    with_blake3 = {"iperf3 GiB/s": 2.0, "blake3 GiB/s": 1.0, "blake3 CPU s/GiB": 0.9}

    told = by_name(one_hop.figures([HOP, with_blake3]))

    assert told["rate with blake3 / iperf3"].value == 0.5
    assert told["rate with blake3 / iperf3"].is_missed
    assert "rate with blake3 / iperf3" not in by_name(one_hop.figures([HOP]))


def test_memory_that_fills_caches_first_is_no_growth_but_a_leak_is() -> None:
    once = {"idle MiB": 75.0, "children MiB": 130.0, "moved GiB": 64.0}
    tasks = [{"seed MiB": 80.0 + min(n, 15), "child MiB": 80.0 + 0.2 * n} for n in range(100)]

    told = by_name(memory.figures([*tasks, once]))

    assert not told["seed: growth over 100 tasks"].is_missed
    assert told["child: growth over 100 tasks"].value == pytest.approx(20.0)
    assert told["child: growth over 100 tasks"].is_missed


def test_the_terms_of_the_bound_stand_beside_the_swarm_they_bound() -> None:
    measured = {"last / bound": 1.2, "origin / file": 1.0, "last s": 12.0, "first s": 11.0, "bound s": 10.0}
    measured |= {"machine busy": 0.9, "CPU s/GiB delivered": 1.0, "bound: depth s": 0.12}

    told = by_name(shaped_swarm.figures([measured]))

    assert told["bound: depth"].value == 0.12
    assert not told["last finisher / bound"].is_missed


def test_upload_has_lines_for_each_number_of_connections() -> None:
    measured = {}
    for count in upload.CONNECTIONS:
        measured |= {f"ours {count} GiB/s": 4.0, f"bare {count} GiB/s": 5.0}
        measured |= {f"ours {count} CPU s/GiB": 0.1, f"bare {count} CPU s/GiB": 0.08}

    told = by_name(upload.figures([measured]))

    assert [told[f"rate / bare sendfile, {over}"].value for over in ("1 connection", "4 connections")] == [0.8, 0.8]


def test_small_and_many_files_read_their_own_rounds() -> None:
    small = {"warm channel ms": 15.0, "cold channel ms": 25.0, "stored already ms": 5.0}
    small |= {"dfget CPU ms": 150.0, "dfget ms": 200.0}
    many = {"files/s": 299.0, "CPU ms": 3.0, "dfget CPU ms": 1.0, "machine busy": 1.0}

    assert by_name(small_file.figures([small]))["in the daemon, channel opened first"].is_missed
    assert by_name(many_files.figures([many]))["files a second"].is_missed


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.NAME)
def test_every_scenario_has_what_make_bench_asks_of_it(scenario: ModuleType) -> None:
    assert scenario.NAME.replace("-", "_") == scenario.__name__.removeprefix("bench.")
    assert scenario.TITLE
    assert scenario.ABOUT
    assert set(scenario.NEEDS) <= set(PACKAGES)
    assert callable(scenario.run)


def test_a_missing_program_is_named_with_the_package_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.setup.search_path", lambda: "/nowhere")

    with pytest.raises(Skipped, match=r"no iperf3 here \(Debian: apt-get install iperf3\)"):
        require(("iperf3",))


def test_too_little_room_is_a_reason_to_skip(tmp_path: Path) -> None:
    setup = Setup(place=Place(tmp_path, is_memory=False), size=None, memory_size=None, rounds=None, say=print)

    setup.room_for(0)
    with pytest.raises(Skipped, match="BENCH_SIZE"):
        setup.room_for(1 << 60)


def test_a_place_is_gone_with_its_block_and_what_is_in_it() -> None:
    with place("test") as found:
        (found.directory / "file").write_bytes(b"content")

    assert not found.directory.exists()


def test_touched_memory_is_free_again(tmp_path: Path) -> None:
    touch_memory(tmp_path, 8 << 20)

    assert list(tmp_path.iterdir()) == []


def test_the_user_says_where_with_tmpdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)

    with place("test") as found:
        assert found.directory.parent == tmp_path
        assert not found.is_memory


def test_the_origin_serves_ranges_of_any_file_and_counts_what_it_sent() -> None:
    with Origin() as origin:
        url = origin.url("big", 1 << 40)
        first = _get(url, "bytes=0-99")
        again = _get(url, f"bytes={64 << 20}-{(64 << 20) + 99}")
        whole = _get(origin.url("small", 10), None)

        assert len(first) == 100
        assert first == again  # the same 64 MiB again and again
        assert whole == first[:10]
        assert origin.sent() == 210


def _get(url: str, span: str | None) -> bytes:
    headers = {} if span is None else {"Range": span}
    with urlopen(Request(url, headers=headers), timeout=10) as answer:
        body: bytes = answer.read()
        return body


def test_touching_a_file_keeps_what_is_in_it(tmp_path: Path) -> None:
    file = tmp_path / "file"
    content = bytes(range(256)) * 40_000
    file.write_bytes(content)

    touch(file)

    assert file.read_bytes() == content


def test_a_command_is_measured_with_its_status() -> None:
    seconds, cpu, status = cpu_of(["sh", "-c", "exit 3"])

    assert status == 3
    assert seconds > 0
    assert cpu >= 0


def test_cpu_is_counted_for_the_block_alone() -> None:
    import os

    with using([os.getpid()]) as used:
        for _ in range(3_000_000):
            pass

    assert 0.01 <= used.all_cpu <= used.seconds + 0.05
    assert 0 <= used.busy_share <= 1


def test_every_module_of_the_benchmark_can_be_imported() -> None:
    names = [path.stem for path in Path(one_hop.__file__).parent.glob("[a-z]*.py")]

    assert all(importlib.import_module(f"bench.{name}") for name in names)
