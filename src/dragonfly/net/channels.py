"""gRPC channels to peers and services: shared by address, connected before they are used, closed when idle.

A connection that is refused fails at once, one that hangs after a short while; either way the channel is thrown away,
so that the next call tries afresh instead of waiting out gRPC's backoff.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc
import grpc.aio

from dragonfly.core.model.units import Seconds
from dragonfly.errors import DragonflyError
from dragonfly.net.grpc_client import CONNECT_TIMEOUT, open_channel, remote_error

IDLE_TIME: Seconds = 60.0  # a parent of one task is often a parent of the next

Stub = TypeVar("Stub")
Unreachable = Callable[[str], DragonflyError]
"""The error for a process that is not there, from the reason."""


@dataclass(slots=True)
class _Entry:
    channel: grpc.aio.Channel
    stubs: dict[Any, Any] = field(default_factory=dict)  # by what makes them
    users: int = 0
    closing: asyncio.TimerHandle | None = None


class ChannelPool:
    """One channel for each address."""

    def __init__(self, idle_time: Seconds = IDLE_TIME) -> None:
        self._idle_time = idle_time
        self._entries: dict[str, _Entry] = {}
        self._closing: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def calling(
        self, address: str, unreachable: Unreachable, make_stub: Callable[[grpc.aio.Channel], Stub]
    ) -> AsyncIterator[Stub]:
        """Calls on a service at `address`, which is there; what goes wrong within comes out as an error of ours.

        A stub is made once for each channel: it prepares every call of its service, which costs half a millisecond.
        """
        entry = self._borrow(address)
        try:
            await _connect(entry.channel)
            if make_stub not in entry.stubs:
                entry.stubs[make_stub] = make_stub(entry.channel)
            yield entry.stubs[make_stub]
        except ConnectionError as error:
            if self._entries.get(address) is entry:
                del self._entries[address]
            raise unreachable(str(error)) from error
        except grpc.aio.AioRpcError as error:
            why = error.details() or "the connection broke"
            raise remote_error(error, unreachable=unreachable(why)) from error
        finally:
            self._give_back(address, entry)

    def _borrow(self, address: str) -> _Entry:
        entry = self._entries.get(address)
        if entry is None:
            entry = self._entries[address] = _Entry(open_channel(address))
        if entry.closing is not None:
            entry.closing.cancel()
        entry.users += 1
        return entry

    def _give_back(self, address: str, entry: _Entry) -> None:
        entry.users -= 1
        if entry.users:
            return
        if self._entries.get(address) is not entry:
            self._close(entry)
            return
        entry.closing = asyncio.get_running_loop().call_later(self._idle_time, self._retire, address, entry)

    def _retire(self, address: str, entry: _Entry) -> None:
        if entry.users == 0 and self._entries.get(address) is entry:
            del self._entries[address]
            self._close(entry)

    def _close(self, entry: _Entry) -> None:
        task = asyncio.create_task(entry.channel.close(), name="close an idle channel")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Close all of them; calls under way end with CANCELLED."""
        for entry in self._entries.values():
            if entry.closing is not None:
                entry.closing.cancel()
        entries, self._entries = self._entries, {}
        await asyncio.gather(*(entry.channel.close() for entry in entries.values()), *self._closing)


async def _connect(channel: grpc.aio.Channel) -> None:
    """Wait for the connection. Raises ConnectionError where it is refused, or not there within CONNECT_TIMEOUT."""
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            while (state := channel.get_state(try_to_connect=True)) is not grpc.ChannelConnectivity.READY:
                if state in (grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN):
                    raise ConnectionRefusedError("the connection is refused")
                await channel.wait_for_state_change(state)
    except TimeoutError:
        raise ConnectionAbortedError(f"silent for {CONNECT_TIMEOUT:.0f} s") from None
