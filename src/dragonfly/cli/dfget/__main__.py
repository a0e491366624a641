"""dfget: download one file through this host's dfdaemon.

    read the arguments -> check the output -> see that a daemon listens -> make the draft -> ask the daemon, who fills
    the draft and tells of each piece -> publish the draft as the output

Whatever goes wrong becomes one plain sentence on stderr and an exit status; an old output is untouched, nothing is
left behind. Quick to start: gRPC is loaded after the arguments and the output have been found good, rich on a
terminal only.
"""

import json
import os
import socket
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from dragonfly.cli.dfget.arguments import Arguments, parse
from dragonfly.cli.dfget.output import Draft, check
from dragonfly.cli.exit_codes import ExitStatus, exit_status, signal_status
from dragonfly.cli.plain_text import plain, say
from dragonfly.cli.progress import Bar, Progress, Traffic, summary
from dragonfly.cli.stop_signals import Stopped, StopSignals
from dragonfly.core.model.units import Seconds
from dragonfly.errors import DaemonUnreachable, DeadlineExceeded, DragonflyError, InternalFailure

if TYPE_CHECKING:
    from dragonfly.wire.pb.dfdaemon_pb2 import DownloadTaskResponse

_CONNECT_TIMEOUT: Seconds = 3.0  # upstream: client connect timeout
_JSON_PROGRESS_EVERY: Seconds = 0.2


def main(argv: Sequence[str] | None = None) -> int:
    """Run dfget and return its exit status; `--help` and `--version` raise SystemExit."""
    given = sys.argv[1:] if argv is None else list(argv)
    wants_json = "--json" in given or "--json-progress" in given
    try:
        with StopSignals() as signals:
            _Download(parse(given, os.environ), signals).run()
    except Stopped as stopped:
        return _failed("Stopped", str(stopped), signal_status(stopped.number), wants_json)
    except DragonflyError as error:
        return _failed(error.code, str(error), exit_status(error), wants_json)
    except Exception as error:  # the user gets a sentence and a status even for a mistake of ours
        sentence = f"an internal error: {type(error).__name__}: {error}"
        return _failed(InternalFailure.__name__, sentence, ExitStatus.OTHER, wants_json)
    return ExitStatus.OK


def _failed(code: str, sentence: str, status: ExitStatus, wants_json: bool) -> int:
    say(sentence)
    if wants_json:
        _write_json({"error": code, "message": plain(sentence), "exit_status": int(status)})
    return status


class _Download:
    """One download from its arguments to its output."""

    def __init__(self, arguments: Arguments, signals: StopSignals) -> None:
        self._arguments, self._signals = arguments, signals
        self._begin = time.monotonic()
        self._progress = Progress()
        self._bar: Bar | None = None
        self._task_id = self._peer_id = ""
        self._told_at = self._begin  # when the last line of --json-progress was written

    def run(self) -> None:
        """Raises what went wrong; returns once the output is there."""
        arguments = self._arguments
        output = check(arguments.output, overwrite=arguments.overwrite)
        if arguments.console:
            from dragonfly.telemetry.logs import setup

            setup(arguments.log_level)
        _see_daemon(arguments.endpoint, min(_CONNECT_TIMEOUT, arguments.timeout))
        draft = Draft(output, overwrite=arguments.overwrite)
        try:
            draft.create()
            self._fill(draft.path)
            self._signals.ignore()
            draft.publish(self._progress.content_length or 0)
        except DragonflyError as error:  # the daemon names the file it was given; its user knows another
            error.args = (str(error).replace(str(draft.path), arguments.output),)
            raise
        finally:
            try:  # a signal may arrive with this very call, not after it
                self._signals.ignore()
            finally:
                draft.discard()
        self._tell_success()

    def _fill(self, draft: Path) -> None:
        """Have the daemon write the whole content into `draft`."""
        from dragonfly.cli.dfget.daemon_link import download_request, responses

        request = download_request(self._arguments, str(draft))
        with ExitStack() as stack:
            if self._shows_bar():
                name = plain(Path(self._arguments.output).name)
                self._bar = stack.enter_context(Bar(name, self._progress, time.monotonic))
            self._follow(stack.enter_context(closing(responses(self._arguments, request, self._seconds_left()))))
        if self._progress.content_length is None:
            raise InternalFailure(reason="the daemon ended the download without having begun it")
        self._progress.ended()

    def _follow(self, answers: Iterable["DownloadTaskResponse"]) -> None:
        for answer in answers:
            self._task_id, self._peer_id = answer.task_id, answer.peer_id
            now = time.monotonic()
            if answer.HasField("download_task_started_response"):
                started = answer.download_task_started_response
                self._progress.started(started.content_length, now, is_finished=started.is_finished)
                if started.notice:
                    say(started.notice)
            elif answer.HasField("download_piece_finished_response"):
                piece = answer.download_piece_finished_response.piece
                self._progress.piece_finished(piece.number, piece.length, Traffic(piece.traffic_type), now)
            self._show(now)

    def _shows_bar(self) -> bool:
        return not self._arguments.no_progress and sys.stderr is not None and sys.stderr.isatty()

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
            _write_json({"progress": {**self._figures(now), "bytes_per_second": round(self._progress.rate(now))}})

    def _tell_success(self) -> None:
        now, arguments = time.monotonic(), self._arguments
        if not arguments.no_progress and sys.stderr is not None:
            with suppress(OSError):
                print(plain(summary(arguments.output, self._progress, now - self._begin)), file=sys.stderr, flush=True)
        if arguments.json or arguments.json_progress:
            ids = {"task_id": self._task_id, "peer_id": self._peer_id}
            _write_json({"url": arguments.url, "output": arguments.output, **ids, **self._figures(now)})

    def _figures(self, now: Seconds) -> dict[str, object]:
        return {
            "content_length": self._progress.content_length,
            "seconds": round(now - self._begin, 3),
            "bytes_from_peers": self._progress.of(Traffic.PEERS),
            "bytes_from_origin": self._progress.of(Traffic.ORIGIN),
            "bytes_from_local": self._progress.of(Traffic.LOCAL),
        }


def _see_daemon(endpoint: str, timeout: Seconds) -> None:
    """Raise DaemonUnreachable at once where nobody listens; gRPC would try again and again and not say why."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(timeout)
        try:
            probe.connect(endpoint)
        except OSError as error:
            raise DaemonUnreachable(endpoint=endpoint, reason=_why_not(error)) from error


def _why_not(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such socket"
    if isinstance(error, ConnectionRefusedError):
        return "nobody listens on this socket"
    return error.strerror or str(error)


def _write_json(value: dict[str, object]) -> None:
    """One line; a stdout that is gone is not worth failing for, the output is what counts."""
    if sys.stdout is not None:
        with suppress(OSError):
            print(json.dumps(value), flush=True)


if __name__ == "__main__":
    sys.exit(main())
