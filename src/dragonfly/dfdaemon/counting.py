"""What happens in this daemon, counted for operators: the seam between its shells and the metrics page."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from dragonfly.core.model.task import TaskKind
from dragonfly.core.model.units import Bytes, Seconds
from dragonfly.dfdaemon.request import DownloadRequest
from dragonfly.dfdaemon.updates import LengthKnown, PieceArrived, Update
from dragonfly.telemetry.metrics import Call, DaemonMetrics

_CALLS = {
    "StatTask": Call.STAT_TASK,
    "StatLocalTask": Call.STAT_LOCAL_TASK,
    "ListLocalTasks": Call.LIST_LOCAL_TASKS,
    "ListTaskEntries": Call.LIST_TASK_ENTRIES,
    "DeleteTask": Call.DELETE_TASK,
    "DeleteLocalTask": Call.DELETE_LOCAL_TASK,
}


class CountedDownload:
    """One caller's download as it goes on."""

    def __init__(self, metrics: DaemonMetrics) -> None:
        self._metrics, self._began = metrics, time.monotonic()
        self._has_bytes = False
        self.length: Bytes = 0

    @property
    def seconds(self) -> Seconds:
        """Since it was asked for."""
        return time.monotonic() - self._began

    def joined(self, *, is_stored: bool) -> None:
        """It has a flight; `is_stored` where nothing has to be fetched for it."""
        (self._metrics.cache_hit if is_stored else self._metrics.cache_missed)(TaskKind.STANDARD)

    def saw(self, update: Update) -> None:
        match update:
            case PieceArrived(piece):
                self.length += piece.length
                if not self._has_bytes:
                    self._has_bytes = True
                    self._metrics.first_byte_came(TaskKind.STANDARD, self.seconds)
            case LengthKnown(content_length):
                self.length = content_length
            case _:
                pass


@contextmanager
def counted(metrics: DaemonMetrics, wanted: DownloadRequest) -> Iterator[CountedDownload]:
    """Count a download from here to the end of the block; an error that leaves the block, a hang-up too, fails it."""
    tag, application = wanted.wire.tag, wanted.principal.application
    task = metrics.download_started(TaskKind.STANDARD, tag=tag, application=application, priority=wanted.priority)
    download = CountedDownload(metrics)
    try:
        yield download
    except BaseException:
        task.failed()
        raise
    task.finished(download.length, download.seconds)


class CallCounter:
    """Counts the calls the reference counts."""

    def __init__(self, metrics: DaemonMetrics) -> None:
        self._metrics = metrics

    def __call__(self, method: str, failed: bool) -> None:
        """`method` as gRPC spells it, `/package.Service/Name`."""
        if call := _CALLS.get(method.rpartition("/")[2]):
            self._metrics.called(call, TaskKind.STANDARD, failed=failed)
