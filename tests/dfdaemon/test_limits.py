"""The daemon's limits, as bulk threads and the upload server meet them."""

import threading
import time
from collections import Counter
from collections.abc import Callable

import pytest

from dragonfly.core.model.units import Bytes, KiB, MiB, Seconds
from dragonfly.core.transfer.bandwidth import Grant
from dragonfly.dfdaemon.limits import UNLIMITED, WAIT_SLICE, BandwidthLimits, Pace
from dragonfly.errors import DownloadCancelled

GOING: Callable[[], bool] = lambda: False  # noqa: E731


class Clock:
    """A clock that sleepers move."""

    def __init__(self) -> None:
        self.now = 100.0
        self.longest_sleep = 0.0

    def __call__(self) -> Seconds:
        return self.now

    def sleep(self, seconds: Seconds) -> None:
        self.now += seconds
        self.longest_sleep = max(self.longest_sleep, seconds)


def limits(clock: Clock, **rates: Bytes) -> BandwidthLimits:
    return BandwidthLimits(**rates, clock=clock, sleep=clock.sleep)


def paced(pace: Pace | None) -> Pace:
    assert pace is not None
    return pace


def seconds_for(clock: Clock, pace: Pace, count: Bytes) -> Seconds:
    began = clock.now
    for _ in range(count // pace.portion):
        pace(pace.portion)
    return clock.now - began


@pytest.mark.parametrize("rate", [100 * KiB, 10 * MiB, 10**10])
def test_a_transfer_takes_as_long_as_its_limit_says(rate: Bytes) -> None:
    clock = Clock()
    pace = paced(limits(clock, download=rate).pace_of("task", from_source=False, stopped=GOING))
    assert seconds_for(clock, pace, 10 * rate) == pytest.approx(10.0, rel=0.01)


def test_even_one_long_receive_waits_for_all_of_it() -> None:
    clock = Clock()
    pace = paced(limits(clock, download=MiB).pace_of("task", from_source=False, stopped=GOING))
    began = clock.now
    pace(5 * MiB)
    assert clock.now - began == pytest.approx(5.0, rel=0.02)


@pytest.mark.parametrize(
    ("from_source", "is_prefetch", "expected"),
    [(False, False, 4 * MiB), (True, False, 2 * MiB), (False, True, MiB), (True, True, MiB)],
)
def test_each_sort_of_download_passes_its_own_limits(from_source: bool, is_prefetch: bool, expected: Bytes) -> None:
    clock = Clock()
    daemon = limits(clock, download=4 * MiB, back_to_source=2 * MiB, prefetch=MiB)
    pace = paced(daemon.pace_of("task", from_source=from_source, is_prefetch=is_prefetch, stopped=GOING))
    assert seconds_for(clock, pace, 10 * expected) == pytest.approx(10.0, rel=0.02)


def test_what_comes_from_the_origin_counts_for_all_downloads() -> None:
    clock = Clock()
    daemon = limits(clock, download=MiB, back_to_source=2 * MiB)
    from_source = paced(daemon.pace_of("a", from_source=True, stopped=GOING))
    from_parent = paced(daemon.pace_of("b", from_source=False, stopped=GOING))
    began = clock.now
    for _ in range(500):
        from_source(10_000)
        from_parent(10_000)
    assert clock.now - began == pytest.approx(1000 * 10_000 / MiB, rel=0.02)


def test_nothing_is_in_the_way_where_nothing_limits() -> None:
    daemon = BandwidthLimits(back_to_source=MiB)
    assert daemon.pace_of("task", from_source=False, stopped=GOING) is None
    assert daemon.pace_of("task", from_source=True, stopped=GOING) is not None
    assert daemon.upload.is_unlimited
    assert daemon.upload.grant("task", 64 * MiB) == Grant(64 * MiB)


def test_the_default_of_the_settings_is_no_limit() -> None:
    assert UNLIMITED == 50 * 10**9
    assert BandwidthLimits().pace_of("task", from_source=True, is_prefetch=True, stopped=GOING) is None


def test_an_upload_is_granted_or_told_when_to_ask_again() -> None:
    clock = Clock()
    upload = limits(clock, upload=100_000).upload
    assert upload.grant("task", MiB) == Grant(5000)
    refused = upload.grant("task", MiB)
    assert (refused.count, refused.retry_in) == (0, pytest.approx(0.010, rel=0.01))
    clock.now += refused.retry_in
    assert upload.grant("task", MiB).count >= 1000


def test_a_stopped_download_ends_its_wait_soon_and_takes_nothing() -> None:
    clock = Clock()
    daemon = limits(clock, download=KiB)
    stop_at = clock.now + 3.0
    pace = paced(daemon.pace_of("task", from_source=False, stopped=lambda: clock.now >= stop_at))
    with pytest.raises(DownloadCancelled):
        pace(MiB)
    assert clock.now <= stop_at + WAIT_SLICE
    assert clock.longest_sleep <= WAIT_SLICE
    clock.now += 0.5  # the stopped one loses its place, and half a KiB comes
    after = daemon.downloads(from_source=False, is_prefetch=False).grant("other", MiB)
    assert after == Grant(KiB), "others have what the stopped one had taken"


def test_a_short_receive_gives_back_what_it_did_not_bring() -> None:
    clock = Clock()
    pace = paced(limits(clock, download=MiB).pace_of("task", from_source=False, stopped=GOING))
    began = clock.now
    for _ in range(1000):  # a slow parent brings a tenth of what is asked for
        pace(10_000)
        pace.unused(9_000)
    assert clock.now - began == pytest.approx(1000 * 1000 / MiB, rel=0.05)


def test_limits_change_while_transfers_run() -> None:
    clock = Clock()
    daemon = limits(clock, download=MiB, upload=MiB)
    pace = paced(daemon.pace_of("task", from_source=False, stopped=GOING))
    seconds_for(clock, pace, MiB)
    daemon.change(download=10 * MiB)
    assert seconds_for(clock, pace, 10 * MiB) == pytest.approx(1.0, rel=0.05)
    daemon.change(download=UNLIMITED, upload=UNLIMITED)
    before = clock.now
    pace(100 * MiB)
    assert clock.now == before
    assert daemon.upload.is_unlimited
    daemon.change(prefetch=MiB)
    assert daemon.pace_of("task", from_source=False, is_prefetch=True, stopped=GOING) is not None


@pytest.mark.slow
@pytest.mark.parametrize("rate", [200 * KiB, 20 * MiB])
def test_threads_never_pass_the_limit_in_real_time(rate: Bytes) -> None:
    """Attack 45: whoever the bytes come from. How fair it is, and that nothing is wasted, laws show without a clock."""
    daemon = BandwidthLimits(download=rate)
    ended = threading.Event()
    moved: Counter[str] = Counter()
    lock = threading.Lock()

    def transfer(task: str, from_source: bool) -> None:
        pace = paced(daemon.pace_of(task, from_source=from_source, stopped=ended.is_set))
        try:
            while not ended.is_set():
                pace(pace.portion)
                with lock:
                    moved[task] += pace.portion
        except DownloadCancelled:
            pass

    threads = [
        threading.Thread(target=transfer, args=(task, from_source))
        for task, count in {"few": 1, "some": 3, "many": 8}.items()
        for from_source in [False, True] * count
    ]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    time.sleep(2.0)  # the real clock is what is tested
    ended.set()
    seconds = time.monotonic() - began
    for thread in threads:
        thread.join()
    assert 0 < moved.total() <= 1.05 * seconds * rate + 0.05 * rate
