"""The model of progress: bytes by where they came from, and a rate, on a clock the test moves."""

import io

import pytest

from dragonfly.cli.progress import Bar, Progress, Traffic, split, summary
from dragonfly.core.model.units import GiB, MiB


def begun(content_length: int = 100, now: float = 0.0) -> Progress:
    progress = Progress()
    progress.started(content_length, now)
    return progress


def test_bytes_are_counted_by_where_they_came_from() -> None:
    progress = begun()
    progress.piece_finished(0, 50, Traffic.PEERS, 1.0)
    progress.piece_finished(1, 30, Traffic.ORIGIN, 2.0)
    progress.piece_finished(2, 20, Traffic.LOCAL, 3.0)
    assert [progress.of(way) for way in (Traffic.PEERS, Traffic.ORIGIN, Traffic.LOCAL)] == [50, 30, 20]
    assert (progress.done, progress.transferred) == (100, 80)


def test_a_piece_told_twice_counts_once() -> None:
    progress = begun()
    progress.piece_finished(7, 50, Traffic.PEERS, 1.0)
    progress.piece_finished(7, 50, Traffic.ORIGIN, 2.0)
    assert progress.done == 50


def test_the_rate_is_that_of_the_last_seconds() -> None:
    progress = begun(10_000)
    for second in range(1, 11):
        progress.piece_finished(second, 10, Traffic.PEERS, float(second))
    assert progress.rate(10.0) == 10.0
    for second in range(11, 21):
        progress.piece_finished(second, 500, Traffic.PEERS, float(second))
    assert progress.rate(20.0) == 500.0


def test_the_rate_falls_when_nothing_comes_any_more() -> None:
    progress = begun()
    progress.piece_finished(0, 50, Traffic.PEERS, 1.0)
    assert progress.rate(1.0) == 50.0
    assert progress.rate(2.0) == 25.0
    assert progress.rate(60.0) == 0.0


def test_there_is_no_rate_before_the_first_piece_nor_at_the_very_moment_of_the_start() -> None:
    assert Progress().rate(5.0) == 0.0
    progress = begun()
    assert progress.rate(0.0) == 0.0
    progress.piece_finished(0, 50, Traffic.PEERS, 0.0)
    assert progress.rate(0.0) == 0.0


def test_what_was_here_before_makes_no_rate() -> None:
    progress = begun()
    progress.piece_finished(0, 50, Traffic.LOCAL, 1.0)
    assert progress.rate(1.0) == 0.0


def test_the_samples_of_a_long_download_do_not_pile_up() -> None:
    progress = begun(10**9)
    for number in range(10_000):
        progress.piece_finished(number, 1, Traffic.PEERS, number * 0.1)
    assert len(progress._samples) < 60


def test_the_time_left_follows_from_the_rate() -> None:
    progress = begun()
    assert progress.seconds_left(1.0) is None
    progress.piece_finished(0, 50, Traffic.PEERS, 1.0)
    assert progress.seconds_left(1.0) == 1.0
    assert Progress().seconds_left(1.0) is None


def test_a_task_that_was_whole_before_is_all_local_though_no_piece_was_told() -> None:
    progress = Progress()
    progress.started(100, 0.0, is_finished=True)
    progress.piece_finished(0, 40, Traffic.LOCAL, 0.1)
    progress.ended()
    assert progress.of(Traffic.LOCAL) == 100
    assert split(progress) == "all of it was on this host already"


def test_the_summary_tells_size_time_rate_and_origin() -> None:
    progress = begun(GiB)
    progress.piece_finished(0, 768 * MiB, Traffic.PEERS, 1.0)
    progress.piece_finished(1, 256 * MiB, Traffic.ORIGIN, 4.0)
    expected = "disk.img: 1.0 GiB in 4.0 s, 256.0 MiB/s; 75 % from peers, 256.0 MiB from the origin"
    assert summary("disk.img", progress, 4.0) == expected


def test_a_hundred_percent_from_peers_means_every_byte() -> None:
    progress = begun(1000)
    progress.piece_finished(0, 999, Traffic.PEERS, 1.0)
    progress.piece_finished(1, 1, Traffic.ORIGIN, 1.0)
    assert split(progress) == "99 % from peers, 1 B from the origin"


def test_an_empty_file_has_a_summary_too() -> None:
    assert summary("empty", begun(0), 0.0) == "empty: 0 B in 0.0 s"


def test_the_part_that_was_here_is_told_beside_the_rest() -> None:
    progress = begun(100)
    progress.piece_finished(0, 50, Traffic.PEERS, 1.0)
    progress.piece_finished(1, 50, Traffic.LOCAL, 1.0)
    assert split(progress) == "50 % from peers, 0 B from the origin, 50 B already here"


def test_the_bar_shows_name_and_figures_and_takes_a_name_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "160")
    progress = begun(4 * MiB)
    with Bar("[red]disk.img", progress, lambda: 1.0) as bar:
        progress.piece_finished(0, 3 * MiB, Traffic.PEERS, 1.0)
        bar.moved()
    shown = screen.getvalue()
    assert "[red]disk.img" in shown
    assert "3.0 MiB of 4.0 MiB" in shown
    assert "100 % from peers" in shown
