"""What a daemon counts, under the names the reference's dashboards know, and the page it is scraped from.

Told by methods named after what happened, from any thread. Nothing here is global: each `DaemonMetrics` has registries
of its own, one for what a reset sets back to nothing (counters, histograms), one for what is so now (gauges, process).

Tags and applications are chosen by callers, and each new one would cost memory here and in every Prometheus for ever.
The first `MAX_LABEL_SETS` combinations of labels that a daemon meets stand under their own names, later ones and texts
above `MAX_LABEL_LENGTH` under "other".
"""

import platform
from bisect import bisect_right
from collections.abc import Iterator
from enum import StrEnum
from itertools import chain
from math import isinf
from threading import Lock
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import Metric, Sample

from dragonfly.core.model.piece import TrafficType
from dragonfly.core.model.task import Priority, TaskKind
from dragonfly.core.model.units import Bytes, GiB, MiB, Seconds

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

MAX_LABEL_SETS: Final = 200
MAX_LABEL_LENGTH: Final = 128
OTHER: Final = "other"

_PREFIX = "dragonfly_client_"
_BUCKETS = tuple(float(1 << power) for power in range(24))  # milliseconds, up to 2.3 hours; the reference's

_SIZE_BOUNDS: tuple[Bytes, ...] = (
    *(MiB * count for count in (1, 4, 8, 16, 32, 64, 128, 256, 512)),
    *(GiB * count for count in (1, 4, 8, 16, 32, 64, 128, 256, 512, 1024)),
)

_TASK = ("type", "tag", "app")
_DOWNLOAD = (*_TASK, "priority")
_REQUEST = ("scheme", "method")
_SIZE = ("task_type", "task_size_level")

# The reference's counters, by name without prefix. Data plane facts, section 10.
_COUNTERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "upload_task_total": ("Uploads begun.", _TASK),
    "upload_task_failure_total": ("Uploads that failed.", _TASK),
    "download_task_total": ("Downloads begun.", _DOWNLOAD),
    "download_task_failure_total": ("Downloads that failed.", _DOWNLOAD),
    "prefetch_task_total": ("Prefetches begun.", _DOWNLOAD),
    "prefetch_task_failure_total": ("Prefetches that failed.", _DOWNLOAD),
    "upload_traffic": ("Bytes of pieces sent to peers.", ()),
    "download_traffic": ("Bytes of pieces taken, by where they came from.", ("type",)),
    "backend_request_total": ("Requests to origins.", _REQUEST),
    "backend_request_failure_total": ("Requests to origins that failed.", _REQUEST),
    "proxy_request_total": ("Requests to the proxy.", ()),
    "proxy_request_failure_total": ("Requests to the proxy that failed.", ()),
    "proxy_request_via_dfdaemon_total": ("Requests to the proxy answered through peers.", ()),
    "update_task_total": ("Calls to update a task.", ("type",)),
    "update_task_failure_total": ("Calls to update a task that failed.", ("type",)),
    "stat_task_total": ("Calls to describe a task.", ("type",)),
    "stat_task_failure_total": ("Calls to describe a task that failed.", ("type",)),
    "stat_local_task_total": ("Calls to describe a task stored here.", ("type",)),
    "stat_local_task_failure_total": ("Calls to describe a task stored here that failed.", ("type",)),
    "list_local_tasks_total": ("Calls to list the tasks stored here.", ("type",)),
    "list_tasks_failure_total": ("Calls to list the tasks stored here that failed.", ("type",)),
    "list_task_entries_total": ("Calls to list a directory at an origin.", ("type",)),
    "list_task_entries_failure_total": ("Calls to list a directory at an origin that failed.", ("type",)),
    "delete_task_total": ("Calls to delete a task.", ("type",)),
    "delete_task_failure_total": ("Calls to delete a task that failed.", ("type",)),
    "delete_local_task_total": ("Calls to delete a task stored here.", ("type",)),
    "delete_local_task_failure_total": ("Calls to delete a task stored here that failed.", ("type",)),
    "delete_host_total": ("Times this host took its leave of a scheduler.", ()),
    "delete_host_failure_total": ("Times this host could not take its leave.", ()),
    "download_task_blocked_total": ("Downloads refused because they are blocked.", ("type",)),
    "upload_task_blocked_total": ("Uploads refused because they are blocked.", ("type",)),
    # Ours.
    "cache_hit_total": ("Downloads of tasks that were stored here already.", ("type",)),
    "cache_miss_total": ("Downloads of tasks that were not stored here yet.", ("type",)),
    "evicted_task_total": ("Tasks deleted to make room or because they were old.", ("reason",)),
    "evicted_bytes_total": ("Bytes those tasks held.", ("reason",)),
    "broken_task_total": ("Tasks deleted because a piece on the disk was not what was written any more.", ()),
}

_DURATIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "upload_task_duration_milliseconds": ("How long uploads took.", _SIZE),
    "download_task_duration_milliseconds": ("How long downloads took.", _SIZE),
    "backend_request_duration_milliseconds": ("How long origins took to answer.", _REQUEST),
    # Ours.
    "piece_duration_milliseconds": ("How long a piece took, by where it came from.", ("source",)),
    "first_byte_duration_milliseconds": ("How long downloads waited for their first byte.", ("type",)),
}

_GAUGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "version": ("This program.", ("git_version", "git_commit", "platform", "build_time")),
    "concurrent_upload_task_total": ("Uploads under way.", _TASK),
    "concurrent_download_task_total": ("Downloads under way.", _DOWNLOAD),
    "concurrent_upload_piece_total": ("Pieces being sent to peers.", ()),
    "disk_space_total": ("Bytes of the disk that holds the storage.", ()),
    "disk_usage_space_total": ("Bytes in use on the disk that holds the storage.", ()),
}

# Counters whose names end otherwise; the client library gives every counter a _total.
_WITHOUT_TOTAL = frozenset({f"{_PREFIX}upload_traffic", f"{_PREFIX}download_traffic"})


class Call(StrEnum):
    """Calls about tasks that are counted by outcome."""

    UPDATE_TASK = "update_task"
    STAT_TASK = "stat_task"
    STAT_LOCAL_TASK = "stat_local_task"
    LIST_LOCAL_TASKS = "list_local_tasks"
    LIST_TASK_ENTRIES = "list_task_entries"
    DELETE_TASK = "delete_task"
    DELETE_LOCAL_TASK = "delete_local_task"

    @property
    def failures(self) -> str:
        """The counter of its failures; one is named otherwise by the reference."""
        noun = "list_tasks" if self is Call.LIST_LOCAL_TASKS else self.value
        return f"{noun}_failure_total"


def size_level(length: Bytes | None) -> int:
    """0 for nothing or an unknown length, then 1 (below 1 MiB) to 19 (below 1 TiB), 20 above. As the reference."""
    return bisect_right(_SIZE_BOUNDS, length) + 1 if length else 0


class _LabelSets:
    """The first `MAX_LABEL_SETS` label sets; what comes later keeps only those labels that cannot take any value."""

    def __init__(self, free: tuple[int, ...]) -> None:
        """`free` are the positions of labels whose values callers choose."""
        self._free = free
        self._known: set[tuple[str, ...]] = set()
        self._lock = Lock()

    def admitted(self, labels: tuple[str, ...]) -> tuple[str, ...]:
        """`labels`, or what they are counted as."""
        if labels in self._known:
            return labels
        if all(len(labels[position]) <= MAX_LABEL_LENGTH for position in self._free):
            with self._lock:
                if len(self._known) < MAX_LABEL_SETS:
                    self._known.add(labels)
                    return labels
        return tuple(OTHER if position in self._free else label for position, label in enumerate(labels))


class _Counted:
    """What is counted since the start or the last reset."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.counters = {
            name: Counter(_PREFIX + name, text, labels, registry=self.registry)
            for name, (text, labels) in _COUNTERS.items()
        }
        self.durations = {
            name: Histogram(_PREFIX + name, text, labels, registry=self.registry, buckets=_BUCKETS)
            for name, (text, labels) in _DURATIONS.items()
        }
        # Looked up once, for what happens with every piece.
        self.upload_traffic = self.counters["upload_traffic"]
        traffic, durations = self.counters["download_traffic"], self.durations["piece_duration_milliseconds"]
        self.pieces = {kind: (traffic.labels(kind.name), durations.labels(kind.name)) for kind in TrafficType}


class TaskUnderWay:
    """A download or an upload that has begun; how it ends is told once, later words are ignored."""

    __slots__ = ("_is_over", "_kind", "_labels", "_metrics", "_noun")

    def __init__(self, metrics: "DaemonMetrics", noun: str, kind: TaskKind, labels: tuple[str, ...]) -> None:
        self._metrics = metrics
        self._noun = noun
        self._kind = kind
        self._labels = labels
        self._is_over = False

    def finished(self, length: Bytes | None, seconds: Seconds) -> None:
        """All `length` bytes that were asked for moved, in `seconds`."""
        if self._end():
            name = f"{self._noun}_task_duration_milliseconds"
            self._metrics.observed(name, (str(int(self._kind)), str(size_level(length))), seconds)

    def failed(self) -> None:
        if self._end():
            self._metrics.counted(f"{self._noun}_task_failure_total", self._labels)

    def _end(self) -> bool:
        if self._is_over:
            return False
        self._is_over = True
        self._metrics.gauges[f"concurrent_{self._noun}_task_total"].labels(*self._labels).dec()
        return True


class DaemonMetrics:
    """Everything one daemon counts. Thread-safe."""

    def __init__(self, *, version: str, commit: str = "", build_time: str = "") -> None:
        self._levels = CollectorRegistry()
        ProcessCollector(registry=self._levels)
        self.gauges = {
            name: Gauge(_PREFIX + name, text, labels, registry=self._levels) for name, (text, labels) in _GAUGES.items()
        }
        system = f"{platform.system().lower()}-{platform.machine()}"
        self.gauges["version"].labels(version, commit, system, build_time).set(1)
        self._downloads, self._uploads = _LabelSets((1, 2)), _LabelSets((1, 2))
        self._requests = _LabelSets((0, 1))
        self._counted = _Counted()

    # --- tasks

    def download_started(
        self, kind: TaskKind, *, tag: str = "", application: str = "", priority: Priority = Priority.LEVEL0
    ) -> TaskUnderWay:
        """A download begins; its end is told to what this returns."""
        labels = self._downloads.admitted((str(int(kind)), tag, application, str(int(priority))))
        return self._started("download", kind, labels)

    def upload_started(self, kind: TaskKind, *, tag: str = "", application: str = "") -> TaskUnderWay:
        """A file is imported or written through to an origin; its end is told to what this returns."""
        return self._started("upload", kind, self._uploads.admitted((str(int(kind)), tag, application)))

    def prefetch_started(
        self, kind: TaskKind, *, tag: str = "", application: str = "", priority: Priority = Priority.LEVEL0
    ) -> None:
        labels = (str(int(kind)), tag, application, str(int(priority)))
        self.counted("prefetch_task_total", self._downloads.admitted(labels))

    def prefetch_failed(
        self, kind: TaskKind, *, tag: str = "", application: str = "", priority: Priority = Priority.LEVEL0
    ) -> None:
        labels = (str(int(kind)), tag, application, str(int(priority)))
        self.counted("prefetch_task_failure_total", self._downloads.admitted(labels))

    def first_byte_came(self, kind: TaskKind, seconds: Seconds) -> None:
        """The first byte of a download can be delivered, `seconds` after it was asked for."""
        self.observed("first_byte_duration_milliseconds", (str(int(kind)),), seconds)

    def cache_hit(self, kind: TaskKind) -> None:
        """A download was asked for that is stored here whole."""
        self.counted("cache_hit_total", (str(int(kind)),))

    def cache_missed(self, kind: TaskKind) -> None:
        """A download was asked for of which pieces have to be fetched."""
        self.counted("cache_miss_total", (str(int(kind)),))

    def download_blocked(self, kind: TaskKind) -> None:
        self.counted("download_task_blocked_total", (str(int(kind)),))

    def upload_blocked(self, kind: TaskKind) -> None:
        self.counted("upload_task_blocked_total", (str(int(kind)),))

    def evicted(self, reason: str, length: Bytes) -> None:
        """A task of `length` bytes was deleted; `reason` is one of the few words that eviction knows."""
        self.counted("evicted_task_total", (reason,))
        self.counted("evicted_bytes_total", (reason,), length)

    def broke(self) -> None:
        """A task was deleted because a piece of it changed on the disk."""
        self.counted("broken_task_total")

    # --- pieces: the hot paths

    def piece_fetched(self, traffic: TrafficType, length: Bytes, cost: Seconds) -> None:
        """A piece was taken whole from there, in `cost` seconds."""
        counter, duration = self._counted.pieces[traffic]
        counter.inc(length)
        duration.observe(cost * 1000)

    def piece_uploaded(self, length: Bytes) -> None:
        """A piece of that length was sent whole."""
        self._counted.upload_traffic.inc(length)

    def pieces_being_sent(self, count: int) -> None:
        """So many are being sent to children now."""
        self.gauges["concurrent_upload_piece_total"].set(count)

    # --- origins, the proxy, calls

    def origin_requested(self, scheme: str, method: str, seconds: Seconds, *, failed: bool = False) -> None:
        """An origin was asked once, each retry counting anew, and answered or failed after `seconds`."""
        labels = self._requests.admitted((scheme, method))
        self.counted("backend_request_total", labels)
        if failed:
            self.counted("backend_request_failure_total", labels)
        else:
            self.observed("backend_request_duration_milliseconds", labels, seconds)

    def proxy_requested(self, *, via_dfdaemon: bool) -> None:
        """The proxy was asked for something; `via_dfdaemon` if it answers through peers."""
        self.counted("proxy_request_total")
        if via_dfdaemon:
            self.counted("proxy_request_via_dfdaemon_total")

    def proxy_failed(self) -> None:
        self.counted("proxy_request_failure_total")

    def called(self, call: Call, kind: TaskKind, *, failed: bool = False) -> None:
        """A call about a task was answered."""
        self.counted(f"{call}_total", (str(int(kind)),))
        if failed:
            self.counted(call.failures, (str(int(kind)),))

    def host_deleted(self, *, failed: bool = False) -> None:
        """This host took its leave of a scheduler, or tried to."""
        self.counted("delete_host_total")
        if failed:
            self.counted("delete_host_failure_total")

    def disk(self, total: Bytes, used: Bytes) -> None:
        """The disk that holds the storage, as it is now."""
        self.gauges["disk_space_total"].set(total)
        self.gauges["disk_usage_space_total"].set(used)

    # --- the page

    def scrape(self) -> bytes:
        """Everything, in Prometheus' text form."""
        return exposition(self._counted.registry, self._levels)

    def reset(self) -> None:
        """Count from nothing again. What is so now (gauges, the process) stays."""
        self._counted = _Counted()

    def counted(self, name: str, labels: tuple[str, ...] = (), count: int = 1) -> None:
        """Add to the counter of this name, without prefix; `labels` in the order of its row."""
        counter = self._counted.counters[name]
        (counter.labels(*labels) if labels else counter).inc(count)

    def observed(self, name: str, labels: tuple[str, ...], seconds: Seconds) -> None:
        """Note a duration in the histogram of this name, without prefix."""
        self._counted.durations[name].labels(*labels).observe(seconds * 1000)

    def _started(self, noun: str, kind: TaskKind, labels: tuple[str, ...]) -> TaskUnderWay:
        self.counted(f"{noun}_task_total", labels)
        self.gauges[f"concurrent_{noun}_task_total"].labels(*labels).inc()
        return TaskUnderWay(self, noun, kind, labels)


def process_page() -> bytes:
    """The page of a service that counts nothing itself: what the process uses."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    return exposition(registry)


def exposition(*registries: CollectorRegistry) -> bytes:
    """All metrics that have values, in Prometheus' text form 0.0.4, numbers spelled as the reference spells them.

    The client library's own writer would rename counters that do not end in _total, add a gauge with the time of
    creation to each series, and spell bucket bounds so that sums over a mixed fleet fall apart.
    """
    metrics = chain.from_iterable(registry.collect() for registry in registries)
    return "".join(chain.from_iterable(map(_lines, metrics))).encode(errors="replace")


def _lines(metric: Metric) -> Iterator[str]:
    samples = [sample for sample in metric.samples if sample.name != f"{metric.name}_created"]
    if not samples:
        return
    is_counter = metric.type == "counter"
    name = f"{metric.name}_total" if is_counter and metric.name not in _WITHOUT_TOTAL else metric.name
    yield f"# HELP {name} {metric.documentation}\n"
    yield f"# TYPE {name} {metric.type}\n"
    for sample in samples:
        yield f"{name if is_counter else sample.name}{_labels(sample)} {_number(sample.value)}\n"


def _labels(sample: Sample) -> str:
    pairs = (f'{label}="{_escaped(label, value)}"' for label, value in sample.labels.items())
    return f"{{{','.join(pairs)}}}" if sample.labels else ""


def _escaped(label: str, value: str) -> str:
    if label == "le":
        return _number(float(value))
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _number(value: float) -> str:
    if isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if float(value).is_integer() else repr(value)
