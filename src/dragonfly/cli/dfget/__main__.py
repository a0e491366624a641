"""dfget: download a file or a directory through this host's dfdaemon.

    read the arguments -> check the output -> see that a daemon listens -> make the draft -> ask the daemon, who fills
    the draft, or sends the bytes, and tells of each piece -> publish the draft as the output

Whatever goes wrong becomes one plain sentence on stderr and an exit status; an old output is untouched, nothing is
left behind. Quick to start: gRPC is loaded after the arguments and the output have been found good, rich on a
terminal only.
"""

import os
import sys
from collections.abc import Sequence

from dragonfly.cli.dfget import report
from dragonfly.cli.dfget.arguments import Arguments, parse
from dragonfly.cli.dfget.one_file import OneFile
from dragonfly.cli.exit_codes import ExitStatus, exit_status, signal_status
from dragonfly.cli.plain_text import plain, say
from dragonfly.cli.stop_signals import Stopped, StopSignals
from dragonfly.errors import DragonflyError, InternalFailure


def main(argv: Sequence[str] | None = None) -> int:
    """Run dfget and return its exit status; `--help` and `--version` raise SystemExit."""
    given = sys.argv[1:] if argv is None else list(argv)
    wants_json = "--json" in given or "--json-progress" in given
    try:
        with StopSignals() as signals:
            return _download(parse(given, os.environ), signals)
    except Stopped as stopped:
        return _failed("Stopped", str(stopped), signal_status(stopped.number), wants_json)
    except DragonflyError as error:
        return _failed(error.code, str(error), exit_status(error), wants_json)
    except Exception as error:  # the user gets a sentence and a status even for a mistake of ours
        sentence = f"an internal error: {type(error).__name__}: {error}"
        return _failed(InternalFailure.__name__, sentence, ExitStatus.OTHER, wants_json)


def _download(arguments: Arguments, signals: StopSignals) -> int:
    report.say_all(arguments.notices)
    if arguments.console:
        from dragonfly.telemetry.logs import setup

        setup(arguments.log_level)
    if arguments.recursive:
        from dragonfly.cli.dfget.directory import Directory

        return Directory(arguments, signals).run()
    OneFile(arguments, signals).run()
    return ExitStatus.OK


def _failed(code: str, sentence: str, status: int, wants_json: bool) -> int:
    say(sentence)
    if wants_json:
        report.write_json({"error": code, "message": plain(sentence), "exit_status": int(status)})
    return status


if __name__ == "__main__":
    sys.exit(main())
