"""The download of one file, or of a range of it."""

import time
from collections.abc import Iterable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

from dragonfly.cli.daemon_socket import CONNECT_TIMEOUT, see_daemon
from dragonfly.cli.dfget import report
from dragonfly.cli.dfget.account import Account
from dragonfly.cli.dfget.arguments import Arguments
from dragonfly.cli.dfget.output import Draft, check
from dragonfly.cli.plain_text import plain, say
from dragonfly.cli.progress import Bar, Progress, Traffic, summary
from dragonfly.cli.stop_signals import StopSignals
from dragonfly.core.model.units import Bytes, Seconds
from dragonfly.errors import DeadlineExceeded, DragonflyError

if TYPE_CHECKING:
    from dragonfly.cli.dfget.received import Received
    from dragonfly.wire.pb.dfdaemon_pb2 import DownloadTaskResponse

_JSON_PROGRESS_EVERY: Seconds = 0.2


class OneFile:
    """One download from its arguments to its output."""

    def __init__(self, arguments: Arguments, signals: StopSignals) -> None:
        self._arguments, self._signals = arguments, signals
        self._begin = time.monotonic()
        self._progress = Progress()
        self._account = Account(arguments.range)
        self._bar: Bar | None = None
        self._told_at = self._begin  # when the last line of --json-progress was written

    def run(self) -> None:
        """Raises what went wrong; returns once the output is there."""
        arguments = self._arguments
        output = check(arguments.output, overwrite=arguments.overwrite)
        see_daemon(arguments.endpoint, min(CONNECT_TIMEOUT, arguments.timeout))
        draft = Draft(output, overwrite=arguments.overwrite)
        try:
            draft.create()
            length = self._fill(draft.path)
            self._signals.ignore()
            draft.publish(length)
        except DragonflyError as error:  # the daemon names the file it was given; its user knows another
            error.args = (str(error).replace(str(draft.path), arguments.output),)
            raise
        finally:
            try:  # a signal may arrive with this very call, not after it
                self._signals.ignore()
            finally:
                draft.discard()
        self._tell_success()

    def _fill(self, draft: Path) -> Bytes:
        """Get the whole content into `draft`; returns its length."""
        from dragonfly.cli.dfget.daemon_link import download_request, responses

        with ExitStack() as stack:
            received = self._receive(stack, draft)
            self._account = Account(self._arguments.range, received)
            request = download_request(self._arguments, None if received else str(draft))
            if report.shows_bar(no_progress=self._arguments.no_progress):
                name = plain(Path(self._arguments.output).name)
                self._bar = stack.enter_context(Bar(name, self._progress, time.monotonic))
            self._follow(stack.enter_context(closing(responses(self._arguments, request, self._seconds_left()))))
            length = self._account.end()
            if received is not None and self._arguments.digest is not None:
                received.verify(self._arguments.digest, self._seconds_left)
        self._progress.ended()
        return length

    def _receive(self, stack: ExitStack, draft: Path) -> "Received | None":
        """Who writes what the daemon sends; None where the daemon writes."""
        if not self._arguments.transfer_from_dfdaemon:
            return None
        from dragonfly.cli.dfget.received import Received

        return stack.enter_context(closing(Received(draft, self._arguments.output)))

    def _follow(self, answers: Iterable["DownloadTaskResponse"]) -> None:
        account, progress = self._account, self._progress
        for answer in answers:
            piece, now = account.take(answer), time.monotonic()
            if piece is not None:
                progress.piece_finished(piece.number, piece.length, Traffic(piece.traffic_type), now)
            else:
                progress.started(account.length, now, is_finished=account.is_finished_before)
                if notice := answer.download_task_started_response.notice:
                    say(notice)
            self._show(now)
            del answer, piece  # with up to 64 MiB of content, before the next one is received

    def _seconds_left(self) -> Seconds:
        left = self._begin + self._arguments.timeout - time.monotonic()
        if left <= 0:
            raise DeadlineExceeded(seconds=f"{self._arguments.timeout:g}")
        return left

    def _show(self, now: Seconds) -> None:
        if self._bar is not None:
            self._bar.moved()
        if self._arguments.json_progress and now - self._told_at >= _JSON_PROGRESS_EVERY:
            self._told_at = now
            rate = round(self._progress.rate(now))
            report.write_json({"progress": {**self._figures(now), "bytes_per_second": rate}})

    def _tell_success(self) -> None:
        now, arguments = time.monotonic(), self._arguments
        if not arguments.no_progress:
            report.write_summary(summary(arguments.output, self._progress, now - self._begin))
        if arguments.json or arguments.json_progress:
            ids = {"task_id": self._account.task_id, "peer_id": self._account.peer_id}
            report.write_json({"url": arguments.url, "output": arguments.output, **ids, **self._figures(now)})

    def _figures(self, now: Seconds) -> dict[str, object]:
        return {
            "content_length": self._progress.content_length,
            "seconds": round(now - self._begin, 3),
            **report.traffic(self._progress),
        }
