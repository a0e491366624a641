"""Work beside everything else: it ends with the daemon, and an error of it is not lost."""

import asyncio
import logging

import pytest

from dragonfly.dfdaemon.background import Background


async def for_ever(log: list[str]) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        log.append("ended")


async def fails() -> None:
    raise LookupError("lost")


async def test_end_waits_until_all_work_is_over() -> None:
    background, log = Background(), list[str]()
    for name in ("one", "other"):
        background.start(for_ever(log), name)
    await asyncio.sleep(0)
    await background.end()
    assert log == ["ended", "ended"]


async def test_work_that_fails_is_named_in_the_log_and_disturbs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    background, log = Background(), list[str]()
    with caplog.at_level(logging.ERROR):
        background.start(for_ever(log), "lasts")
        background.start(fails(), "count sheep")
        await asyncio.sleep(0)  # it runs
        await asyncio.sleep(0)  # it is told of
    (record,) = caplog.records
    assert record.getMessage() == "count sheep: ended by itself"
    assert log == []
    await background.end()


async def test_nothing_to_end_is_no_error() -> None:
    await Background().end()
