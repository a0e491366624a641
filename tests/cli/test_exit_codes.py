"""A number for every error, and a page that says the truth about it."""

import re
from pathlib import Path

import pytest

from dragonfly.cli.dfget.arguments import parser
from dragonfly.cli.exit_codes import MEANINGS, ExitStatus, exit_status, signal_status, worst
from dragonfly.errors import BY_CODE, DragonflyError, OutputError, SourceError, SourceNotFound

PAGE = Path(__file__).parents[2] / "docs" / "exit-codes.md"

EXPECTED = {
    "InvalidUrl": 2, "UnsupportedFeature": 2, "SchemeUnsupported": 2, "InvalidRange": 2,
    "SourceNotFound": 3, "SourceForbidden": 4, "DownloadForbidden": 4,
    "SourceUnreachable": 5, "SourceUnavailable": 5, "SourceNameUnknown": 5, "DaemonUnreachable": 5,
    "SchedulerUnreachable": 5, "ParentTimedOut": 5, "ProtocolViolation": 5,
    "ContentDigestMismatch": 6, "ContentLengthMismatch": 6, "SourceChanged": 6, "SourceTruncated": 6,
    "PieceDigestMismatch": 6, "OutputExists": 7, "OutputIsDirectory": 7, "OutputParentMissing": 7,
    "OutputUnwritable": 7, "DiskFull": 7, "StorageUnusable": 7, "DeadlineExceeded": 8,
    "InternalFailure": 1, "NoSourceAllowed": 1, "SourceRefused": 1, "TaskNotFound": 1, "Overloaded": 1,
}  # fmt: skip


@pytest.mark.parametrize(("code", "status"), EXPECTED.items())
def test_each_error_has_its_status(code: str, status: int) -> None:
    assert exit_status(BY_CODE[code].restored("it failed")) == status


def test_an_error_without_an_entry_has_the_status_of_its_ancestor() -> None:
    class OutputOnTape(OutputError):
        """the tape is full"""

    assert exit_status(OutputOnTape()) is ExitStatus.OUTPUT


def test_no_error_of_ours_is_a_success() -> None:
    assert all(exit_status(error.restored("it failed")) != ExitStatus.OK for error in BY_CODE.values())


def test_an_error_of_somebody_else_is_an_internal_one() -> None:
    assert exit_status(KeyError("x")) is ExitStatus.OTHER


def test_signals_have_the_statuses_shells_give_them() -> None:
    assert [signal_status(number) for number in (1, 2, 15)] == [129, 130, 143]


def test_every_status_has_a_meaning_and_help_tells_it() -> None:
    text = parser().format_help()
    assert MEANINGS.keys() == set(ExitStatus)
    assert all(f"{status:>3}  {meaning}" in text for status, meaning in MEANINGS.items())


def test_the_page_tells_every_status_as_help_does() -> None:
    rows = re.findall(r"^\| (\d+) \| ([^|]+) \|", PAGE.read_text(), re.MULTILINE)
    assert {int(status): meaning for status, meaning in rows} == {int(key): text for key, text in MEANINGS.items()}


def test_the_page_tells_the_status_of_every_error_class() -> None:
    told: dict[type[BaseException], int] = {}
    for names, status in re.findall(r"^\| (`[^|]+) \| (\d+) \|", PAGE.read_text(), re.MULTILINE):
        told |= {BY_CODE[name]: int(status) for name in re.findall(r"`(\w+)`", names)}
    for error in BY_CODE.values():
        nearest = next(ancestor for ancestor in error.__mro__ if ancestor in told)
        assert exit_status(error.restored("")) == told[nearest], error


def test_a_refined_source_error_keeps_apart_from_its_general_kind() -> None:
    assert exit_status(SourceError.restored("")) == exit_status(DragonflyError.restored("")) == 1
    assert exit_status(SourceNotFound.restored("")) == 3


def test_of_several_failures_the_one_that_trying_again_helps_least_counts() -> None:
    assert worst([]) is ExitStatus.OK
    assert worst([ExitStatus.NETWORK, ExitStatus.NOT_FOUND, ExitStatus.TIMEOUT]) is ExitStatus.NOT_FOUND
    assert worst([ExitStatus.TIMEOUT, ExitStatus.NETWORK]) is ExitStatus.NETWORK
    failures = set(ExitStatus) - {ExitStatus.OK, ExitStatus.HANGUP, ExitStatus.INTERRUPTED, ExitStatus.TERMINATED}
    assert all(worst([status]) is status for status in failures)


def test_the_page_tells_the_order_of_failures() -> None:
    told = re.search(r"in this order: ([\d, ]+)", PAGE.read_text())
    assert told is not None
    order = [ExitStatus(int(number)) for number in told[1].split(",")]
    assert [worst(order[at:]) for at in range(len(order))] == order
