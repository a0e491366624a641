"""Several streams read as one: everything comes, as it comes, and errors do not cost what others have."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from dragonfly.dfdaemon.merge import merged


async def counting(*numbers: int, error: Exception | None = None) -> AsyncIterator[int]:
    for number in numbers:
        yield number
    if error is not None:
        raise error


async def listening(queue: "asyncio.Queue[int | None]", log: list[str]) -> AsyncIterator[int]:
    try:
        while (number := await queue.get()) is not None:
            yield number
    finally:
        log.append("closed")


async def test_everything_of_every_stream_comes() -> None:
    seen = [number async for number in merged([counting(1, 2), counting(3), counting()])]
    assert sorted(seen) == [1, 2, 3]
    assert seen.index(1) < seen.index(2)


@pytest.mark.parametrize("count", [0, 1])
async def test_few_streams_are_no_special_case(count: int) -> None:
    assert [number async for number in merged([counting(5)] * count)] == [5] * count


async def test_quiet_stream_does_not_hold_up_another() -> None:
    quiet: asyncio.Queue[int | None] = asyncio.Queue()
    log: list[str] = []
    both = merged([listening(quiet, log), counting(7)])
    assert await anext(both) == 7
    quiet.put_nowait(8)
    assert await anext(both) == 8
    quiet.put_nowait(None)
    assert [number async for number in both] == []


async def test_error_is_raised_after_what_the_others_have() -> None:
    both = merged([counting(error=LookupError("gone")), counting(1, 2, 3)])
    assert [await anext(both), await anext(both), await anext(both)] == [1, 2, 3]
    with pytest.raises(LookupError):
        await anext(both)


async def test_reader_that_goes_away_closes_the_streams() -> None:
    quiet: asyncio.Queue[int | None] = asyncio.Queue()
    log: list[str] = []
    both = merged([listening(quiet, log), listening(quiet, log)])
    quiet.put_nowait(1)
    assert await anext(both) == 1
    await both.aclose()  # type: ignore[attr-defined]  # it is a generator
    assert log == ["closed", "closed"]
