"""Several asynchronous streams read as one."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import TypeVar

T = TypeVar("T")


class _End:
    """A stream ended, with an error or without."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


async def merged(streams: Sequence[AsyncIterator[T]]) -> AsyncIterator[T]:
    """What the streams yield, as it comes; ends with the last of them.

    An error of one stream is raised once nothing is left of the others: they may hold what the reader wants.
    """
    if len(streams) == 1:
        async for only in streams[0]:
            yield only
        return
    arrived: asyncio.Queue[T | _End] = asyncio.Queue(maxsize=1)

    async def read(stream: AsyncIterator[T]) -> None:
        try:
            async for item in stream:
                await arrived.put(item)
        except Exception as error:  # it is raised where the streams are read
            await arrived.put(_End(error))
        else:
            await arrived.put(_End(None))

    readers = [asyncio.create_task(read(stream), name="one of several streams") for stream in streams]
    failure: BaseException | None = None
    left = len(streams)
    try:
        while left:
            item = await arrived.get()
            if isinstance(item, _End):
                left, failure = left - 1, failure or item.error
            else:
                yield item
    finally:
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
    if failure is not None:
        raise failure
