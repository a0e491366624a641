"""Which exit status a command line tool ends with, so that a script knows what happened; see docs/exit-codes.md.

An error has the status of its nearest ancestor in the table, so a new error class has a sensible status at once.

Differs from upstream: there every failure is 1.
"""

from collections.abc import Iterable
from enum import IntEnum

from dragonfly.errors import (
    ContentDigestMismatch,
    ContentLengthMismatch,
    DaemonUnreachable,
    DeadlineExceeded,
    DownloadForbidden,
    DragonflyError,
    InvalidInput,
    ManagerUnreachable,
    OutputError,
    PeerError,
    PieceDigestMismatch,
    PieceLengthMismatch,
    SchedulerUnreachable,
    SourceChanged,
    SourceForbidden,
    SourceNameUnknown,
    SourceNotFound,
    SourceTruncated,
    SourceUnavailable,
    SourceUnreachable,
    StorageError,
    TaskNotFound,
)


class ExitStatus(IntEnum):
    """What a finished process tells its caller."""

    OK = 0
    OTHER = 1
    USAGE = 2
    NOT_FOUND = 3
    DENIED = 4
    NETWORK = 5
    WRONG_CONTENT = 6
    OUTPUT = 7
    TIMEOUT = 8
    HANGUP = 129  # 128 + the signal's number, as shells count
    INTERRUPTED = 130
    TERMINATED = 143


MEANINGS: dict[ExitStatus, str] = {
    ExitStatus.OK: "done",
    ExitStatus.OTHER: "any other failure, such as an internal error",
    ExitStatus.USAGE: "wrong usage, or an input that cannot be used",
    ExitStatus.NOT_FOUND: "the origin has no such file",
    ExitStatus.DENIED: "access denied by the origin (401, 403) or by a rule of this host",
    ExitStatus.NETWORK: "network: the origin or a service of Dragonfly cannot be reached or is failing",
    ExitStatus.WRONG_CONTENT: "wrong content: another digest or length, cut short, or changed during the download",
    ExitStatus.OUTPUT: "the output cannot be written, or the disk is full or failing",
    ExitStatus.TIMEOUT: "not done within --timeout",
    ExitStatus.HANGUP: "ended by SIGHUP",
    ExitStatus.INTERRUPTED: "ended by SIGINT (^C)",
    ExitStatus.TERMINATED: "ended by SIGTERM",
}

_BY_CLASS: dict[type[BaseException], ExitStatus] = {
    InvalidInput: ExitStatus.USAGE,
    SourceNotFound: ExitStatus.NOT_FOUND,
    **dict.fromkeys((SourceForbidden, DownloadForbidden), ExitStatus.DENIED),
    **dict.fromkeys((SourceUnreachable, SourceUnavailable, SourceNameUnknown), ExitStatus.NETWORK),
    **dict.fromkeys((DaemonUnreachable, SchedulerUnreachable, ManagerUnreachable, PeerError), ExitStatus.NETWORK),
    **dict.fromkeys((SourceChanged, SourceTruncated), ExitStatus.WRONG_CONTENT),
    **dict.fromkeys((PieceDigestMismatch, PieceLengthMismatch), ExitStatus.WRONG_CONTENT),
    **dict.fromkeys((ContentDigestMismatch, ContentLengthMismatch), ExitStatus.WRONG_CONTENT),
    **dict.fromkeys((OutputError, StorageError), ExitStatus.OUTPUT),
    TaskNotFound: ExitStatus.OTHER,
    DeadlineExceeded: ExitStatus.TIMEOUT,
    DragonflyError: ExitStatus.OTHER,
}


def exit_status(error: BaseException) -> ExitStatus:
    """The status of the nearest ancestor in the table; OTHER for errors that are not ours."""
    return next((_BY_CLASS[ancestor] for ancestor in type(error).__mro__ if ancestor in _BY_CLASS), ExitStatus.OTHER)


_LEAST_HELPED_FIRST = (
    ExitStatus.OUTPUT, ExitStatus.DENIED, ExitStatus.NOT_FOUND, ExitStatus.USAGE, ExitStatus.WRONG_CONTENT,
    ExitStatus.OTHER, ExitStatus.NETWORK, ExitStatus.TIMEOUT,
)  # fmt: skip


def worst(statuses: Iterable[ExitStatus]) -> ExitStatus:
    """Of several failures, the status of the one that trying again helps least; OK where there is none.

    So a 5 or an 8 means that all of them may be gone the next time.
    """
    found = set(statuses)
    return next((status for status in _LEAST_HELPED_FIRST if status in found), ExitStatus.OK)


def signal_status(number: int) -> ExitStatus:
    """The status of a tool that a signal ended."""
    return ExitStatus(128 + number)
