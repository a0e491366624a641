"""What a daemon counts, read as Prometheus reads it."""

import re
import subprocess
import sys
import threading

import pytest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from dragonfly.core.model.piece import TrafficType
from dragonfly.core.model.task import Priority, TaskKind
from dragonfly.core.model.units import GiB, KiB, MiB
from dragonfly.telemetry.metrics import (
    MAX_LABEL_LENGTH,
    MAX_LABEL_SETS,
    OTHER,
    Call,
    DaemonMetrics,
    process_page,
    size_level,
)

P = "dragonfly_client_"

# The reference's table, from the facts of the data plane, section 10: name -> (type, labels).
TASK, DOWNLOAD, BY_TYPE = {"type", "tag", "app"}, {"type", "tag", "app", "priority"}, {"type"}
DURATION, REQUEST = {"task_type", "task_size_level"}, {"scheme", "method"}
REFERENCE: dict[str, tuple[str, set[str]]] = {
    "version": ("gauge", {"git_version", "git_commit", "platform", "build_time"}),
    "upload_task_total": ("counter", TASK),
    "upload_task_failure_total": ("counter", TASK),
    "concurrent_upload_task_total": ("gauge", TASK),
    "upload_task_duration_milliseconds": ("histogram", DURATION),
    "download_task_total": ("counter", DOWNLOAD),
    "download_task_failure_total": ("counter", DOWNLOAD),
    "prefetch_task_total": ("counter", DOWNLOAD),
    "prefetch_task_failure_total": ("counter", DOWNLOAD),
    "concurrent_download_task_total": ("gauge", DOWNLOAD),
    "download_task_duration_milliseconds": ("histogram", DURATION),
    "concurrent_upload_piece_total": ("gauge", set()),
    "upload_traffic": ("counter", set()),
    "download_traffic": ("counter", BY_TYPE),
    "backend_request_total": ("counter", REQUEST),
    "backend_request_failure_total": ("counter", REQUEST),
    "backend_request_duration_milliseconds": ("histogram", REQUEST),
    "proxy_request_total": ("counter", set()),
    "proxy_request_failure_total": ("counter", set()),
    "proxy_request_via_dfdaemon_total": ("counter", set()),
    "update_task_total": ("counter", BY_TYPE),
    "update_task_failure_total": ("counter", BY_TYPE),
    "stat_task_total": ("counter", BY_TYPE),
    "stat_task_failure_total": ("counter", BY_TYPE),
    "stat_local_task_total": ("counter", BY_TYPE),
    "stat_local_task_failure_total": ("counter", BY_TYPE),
    "list_local_tasks_total": ("counter", BY_TYPE),
    "list_tasks_failure_total": ("counter", BY_TYPE),
    "list_task_entries_total": ("counter", BY_TYPE),
    "list_task_entries_failure_total": ("counter", BY_TYPE),
    "delete_task_total": ("counter", BY_TYPE),
    "delete_task_failure_total": ("counter", BY_TYPE),
    "delete_local_task_total": ("counter", BY_TYPE),
    "delete_local_task_failure_total": ("counter", BY_TYPE),
    "delete_host_total": ("counter", set()),
    "delete_host_failure_total": ("counter", set()),
    "disk_space_total": ("gauge", set()),
    "disk_usage_space_total": ("gauge", set()),
    "download_task_blocked_total": ("counter", BY_TYPE),
    "upload_task_blocked_total": ("counter", BY_TYPE),
}
OURS: dict[str, tuple[str, set[str]]] = {
    "piece_duration_milliseconds": ("histogram", {"source"}),
    "first_byte_duration_milliseconds": ("histogram", BY_TYPE),
    "cache_hit_total": ("counter", BY_TYPE),
    "cache_miss_total": ("counter", BY_TYPE),
    "evicted_task_total": ("counter", {"reason"}),
    "evicted_bytes_total": ("counter", {"reason"}),
    "broken_task_total": ("counter", set()),
}


def fresh() -> DaemonMetrics:
    return DaemonMetrics(version="1.2.3", commit="abc", build_time="today")


def families(page: bytes) -> dict[str, Metric]:
    return {metric.name: metric for metric in text_string_to_metric_families(page.decode())}


def types(page: bytes) -> dict[str, str]:
    """Names and types as they stand on the page: the parser takes _total off."""
    words = (line.split(" ") for line in page.decode().splitlines() if line.startswith("# TYPE "))
    return {name: kind for _, _, name, kind in words}


def names_of(page: bytes) -> set[str]:
    """Names of series as they stand on the page."""
    return {re.split("[{ ]", line)[0] for line in page.decode().splitlines() if not line.startswith("#")}


def value(metrics: DaemonMetrics, name: str, **labels: str) -> float | None:
    """Of one series; the parser adds _total to counters that come without."""
    for metric in families(metrics.scrape()).values():
        for sample in metric.samples:
            if sample.name in (P + name, f"{P}{name}_total") and sample.labels == labels:
                return sample.value
    return None


def with_everything_happened() -> DaemonMetrics:
    metrics = fresh()
    kind = TaskKind.STANDARD
    for started in (metrics.download_started, metrics.upload_started):
        started(kind, tag="t", application="a").finished(3 * MiB, 0.5)
        started(kind).failed()
    metrics.prefetch_started(kind)
    metrics.prefetch_failed(kind)
    metrics.first_byte_came(kind, 0.01)
    metrics.cache_hit(kind)
    metrics.cache_missed(kind)
    metrics.download_blocked(kind)
    metrics.upload_blocked(kind)
    metrics.evicted("ttl", 5 * MiB)
    metrics.broke()
    metrics.piece_fetched(TrafficType.REMOTE_PEER, 4 * MiB, 0.02)
    metrics.piece_uploaded(4 * MiB)
    metrics.pieces_being_sent(1)
    metrics.origin_requested("https", "GET", 0.1)
    metrics.origin_requested("https", "GET", 0.1, failed=True)
    metrics.proxy_requested(via_dfdaemon=True)
    metrics.proxy_failed()
    for call in Call:
        metrics.called(call, kind, failed=True)
    metrics.host_deleted(failed=True)
    metrics.disk(100 * GiB, 40 * GiB)
    return metrics


def test_every_metric_of_the_reference_is_there_under_its_name_type_and_labels() -> None:
    page = with_everything_happened().scrape()
    expected = {P + name: kind for name, (kind, _) in (REFERENCE | OURS).items()}
    assert {name: kind for name, kind in types(page).items() if name.startswith(P)} == expected
    spelled = set[str]()
    for name, (kind, labels) in (REFERENCE | OURS).items():
        metric = families(page)[(P + name).removesuffix("_total") if kind == "counter" else P + name]
        assert metric.type == kind
        assert {frozenset(sample.labels) - {"le"} for sample in metric.samples} == {frozenset(labels)}, name
        spelled |= {P + name + end for end in (("_bucket", "_sum", "_count") if kind == "histogram" else ("",))}
    assert {name for name in names_of(page) if name.startswith(P)} == spelled


def test_no_series_is_on_the_page_twice_and_none_tells_when_it_was_created() -> None:
    lines = [line for line in with_everything_happened().scrape().decode().splitlines() if not line.startswith("#")]
    series = [line.rpartition(" ")[0] for line in lines]
    assert len(series) == len(set(series))
    assert not [line for line in lines if "_created" in line]


def test_the_process_and_the_version_stand_beside_the_counters() -> None:
    page = families(fresh().scrape())
    assert page["process_resident_memory_bytes"].samples[0].value > MiB
    assert {"process_cpu_seconds", "process_open_fds"} <= page.keys()
    labels = page[P + "version"].samples[0].labels
    assert (labels["git_version"], labels["git_commit"], labels["build_time"]) == ("1.2.3", "abc", "today")
    assert families(process_page()).keys() == {name for name in page if name.startswith("process_")}


def test_two_daemons_in_one_process_count_apart() -> None:
    one, other = fresh(), fresh()
    one.cache_hit(TaskKind.STANDARD)
    assert value(one, "cache_hit_total", type="0") == 1
    assert value(other, "cache_hit_total", type="0") is None


@pytest.mark.parametrize("noun", ["download", "upload"])
def test_a_task_is_under_way_until_its_end_is_told_once(noun: str) -> None:
    metrics = fresh()
    labels = {"type": "1", "tag": "t", "app": "a"} | ({"priority": "0"} if noun == "download" else {})
    start = metrics.download_started if noun == "download" else metrics.upload_started
    tasks = [start(TaskKind.PERSISTENT, tag="t", application="a") for _ in range(3)]
    assert value(metrics, f"{noun}_task_total", **labels) == 3
    assert value(metrics, f"concurrent_{noun}_task_total", **labels) == 3
    tasks[0].finished(20 * MiB, 1.5)
    tasks[1].failed()
    for task in tasks[:2]:
        task.failed()
        task.finished(1, 1)
    assert value(metrics, f"concurrent_{noun}_task_total", **labels) == 1
    assert value(metrics, f"{noun}_task_failure_total", **labels) == 1
    name = f"{noun}_task_duration_milliseconds"
    assert value(metrics, f"{name}_sum", task_type="1", task_size_level="5") == 1500
    assert value(metrics, f"{name}_count", task_type="1", task_size_level="5") == 1


def test_priorities_stand_apart() -> None:
    metrics = fresh()
    metrics.download_started(TaskKind.STANDARD, priority=Priority.LEVEL3)
    assert value(metrics, "download_task_total", type="0", tag="", app="", priority="3") == 1


@pytest.mark.parametrize("traffic", TrafficType)
def test_a_piece_counts_where_it_came_from(traffic: TrafficType) -> None:
    metrics = fresh()
    metrics.piece_fetched(traffic, 4 * MiB, 0.003)
    metrics.piece_fetched(traffic, MiB, 0.005)
    assert value(metrics, "download_traffic", type=traffic.name) == 5 * MiB
    assert value(metrics, "piece_duration_milliseconds_sum", source=traffic.name) == 8
    assert value(metrics, "piece_duration_milliseconds_bucket", source=traffic.name, le="4") == 1
    assert value(metrics, "piece_duration_milliseconds_bucket", source=traffic.name, le="8") == 2


def test_pieces_that_were_sent_count_as_traffic_and_those_being_sent_as_they_are_now() -> None:
    metrics = fresh()
    metrics.piece_uploaded(100)
    metrics.pieces_being_sent(2)
    metrics.pieces_being_sent(1)
    assert value(metrics, "concurrent_upload_piece_total") == 1
    assert value(metrics, "upload_traffic") == 100


def test_buckets_are_the_powers_of_two_of_a_millisecond_spelled_as_the_reference_does() -> None:
    page = with_everything_happened().scrape()
    metric = families(page)[P + "piece_duration_milliseconds"]
    buckets = [
        sample.labels["le"]
        for sample in metric.samples
        if sample.name.endswith("_bucket") and sample.labels["source"] == "REMOTE_PEER"
    ]
    assert buckets == [*(str(1 << power) for power in range(24)), "+Inf"]


@pytest.mark.parametrize(
    ("length", "level"),
    [
        (None, 0),
        (0, 0),
        (1, 1),
        (MiB - 1, 1),
        (MiB, 2),
        (4 * MiB, 3),
        (512 * MiB, 10),
        (GiB - 1, 10),
        (GiB, 11),
        (4 * GiB, 12),
        (1024 * GiB - 1, 19),
        (1024 * GiB, 20),
        (1 << 62, 20),
    ],
)
def test_sizes_fall_into_the_levels_of_the_reference(length: int | None, level: int) -> None:
    assert size_level(length) == level


def test_a_request_to_an_origin_that_fails_counts_as_both_and_has_no_duration() -> None:
    metrics = fresh()
    metrics.origin_requested("https", "GET", 0.25)
    metrics.origin_requested("https", "GET", 60.0, failed=True)
    labels = {"scheme": "https", "method": "GET"}
    assert value(metrics, "backend_request_total", **labels) == 2
    assert value(metrics, "backend_request_failure_total", **labels) == 1
    assert value(metrics, "backend_request_duration_milliseconds_sum", **labels) == 250


def test_what_eviction_freed_can_be_told_by_reason() -> None:
    metrics = fresh()
    metrics.evicted("ttl", 3 * KiB)
    metrics.evicted("ttl", KiB)
    metrics.evicted("disk", MiB)
    assert value(metrics, "evicted_task_total", reason="ttl") == 2
    assert value(metrics, "evicted_bytes_total", reason="ttl") == 4 * KiB
    assert value(metrics, "evicted_bytes_total", reason="disk") == MiB


def test_callers_cannot_make_series_without_end() -> None:
    metrics = fresh()
    for number in range(3 * MAX_LABEL_SETS):
        metrics.download_started(TaskKind.STANDARD, tag=f"tag-{number}").finished(1, 0.1)
        metrics.origin_requested(f"scheme-{number}", "GET", 0.1)
    page = families(metrics.scrape())
    assert len(page[P + "download_task"].samples) == MAX_LABEL_SETS + 1
    assert len(page[P + "concurrent_download_task_total"].samples) == MAX_LABEL_SETS + 1
    assert len(page[P + "backend_request"].samples) == MAX_LABEL_SETS + 1
    others = {"type": "0", "tag": OTHER, "app": OTHER, "priority": "0"}
    assert value(metrics, "download_task_total", **others) == 2 * MAX_LABEL_SETS
    metrics.download_started(TaskKind.STANDARD, tag="tag-0")
    assert value(metrics, "download_task_total", **(others | {"tag": "tag-0", "app": ""})) == 2, "the first ones stay"


def test_a_long_tag_is_not_remembered() -> None:
    metrics = fresh()
    metrics.download_started(TaskKind.STANDARD, tag="x" * (MAX_LABEL_LENGTH + 1), application="a")
    assert value(metrics, "download_task_total", type="0", tag=OTHER, app=OTHER, priority="0") == 1


@pytest.mark.parametrize(
    "tag", ['say "hi"', "back\\slash", "two\nlines", "\\n", "café", 'a"} 5\nfake 1', "\x00\r", "{}"]
)
def test_any_text_may_be_a_tag(tag: str) -> None:
    metrics = fresh()
    metrics.download_started(TaskKind.STANDARD, tag=tag)
    assert value(metrics, "download_task_total", type="0", tag=tag, app="", priority="0") == 1
    assert "fake" not in families(metrics.scrape())


def test_a_text_that_is_no_unicode_does_not_break_the_page() -> None:
    metrics = fresh()
    metrics.download_started(TaskKind.STANDARD, tag="\udcff")
    assert value(metrics, "download_task_total", type="0", tag="?", app="", priority="0") == 1


def test_a_reset_counts_from_nothing_and_leaves_what_is_so_now() -> None:
    metrics = with_everything_happened()
    running = metrics.download_started(TaskKind.STANDARD)
    metrics.reset()
    assert value(metrics, "download_traffic", type="REMOTE_PEER") == 0
    assert value(metrics, "download_task_total", type="0", tag="", app="", priority="0") is None
    assert value(metrics, "disk_space_total") == 100 * GiB
    assert value(metrics, "concurrent_download_task_total", type="0", tag="", app="", priority="0") == 1
    running.finished(MiB, 1.0)
    metrics.piece_fetched(TrafficType.REMOTE_PEER, 7, 0.1)
    assert value(metrics, "concurrent_download_task_total", type="0", tag="", app="", priority="0") == 0
    assert value(metrics, "download_task_duration_milliseconds_count", task_type="0", task_size_level="2") == 1
    assert value(metrics, "download_traffic", type="REMOTE_PEER") == 7


def test_threads_count_without_losing_anything() -> None:
    metrics = fresh()

    def work(number: int) -> None:
        for each in range(500):
            metrics.piece_fetched(TrafficType.REMOTE_PEER, 3, 0.001)
            metrics.download_started(TaskKind.STANDARD, tag=f"{number}-{each}").finished(1, 0.1)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        families(metrics.scrape())  # a page in the middle of it can be read
    page = families(metrics.scrape())
    assert value(metrics, "download_traffic", type="REMOTE_PEER") == 4 * 500 * 3
    assert sum(sample.value for sample in page[P + "download_task"].samples) == 4 * 500
    assert len(page[P + "download_task"].samples) == MAX_LABEL_SETS + 1
    assert not any(sample.value for sample in page[P + "concurrent_download_task_total"].samples)


def test_dfget_never_loads_the_client_library() -> None:
    program = "import sys, dragonfly.cli.dfget.__main__; sys.exit('prometheus_client' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
