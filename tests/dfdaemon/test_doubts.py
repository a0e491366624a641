"""Doubted pieces: which are looked at, and what becomes of those that changed."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from google.protobuf.empty_pb2 import Empty

from dragonfly.core.model.ids import TaskKey, content_task_id, public_task
from dragonfly.core.model.piece import PieceGeometry, PieceNumber
from dragonfly.core.model.units import MiB
from dragonfly.dfdaemon.doubts import MAX_WAITING, TRUST_TIME, Doubts, tell
from dragonfly.errors import StorageError
from dragonfly.net.channels import ChannelPool
from dragonfly.net.grpc_server import Context, GrpcServer
from dragonfly.storage.memory import MemoryStore
from dragonfly.storage.store import OriginFacts, TaskStore
from dragonfly.wire.pb import dfdaemon_pb2
from dragonfly.wire.pb.dfdaemon_pb2_grpc import DfdaemonUploadServicer, add_DfdaemonUploadServicer_to_server

PIECE = b"0123456789"
GEOMETRY = PieceGeometry(len(PIECE) * 40, len(PIECE))
KEY = public_task(content_task_id("a file"))
ZERO, ONE = map(PieceNumber, range(2))


class FakeTime:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Drops:
    """Where broken tasks go: notes each, and drops it once it may."""

    def __init__(self, store: TaskStore) -> None:
        self._store = store
        self.pieces: list[tuple[TaskKey, PieceNumber]] = []
        self.began, self.may = asyncio.Event(), asyncio.Event()
        self.may.set()
        self.error: StorageError | None = None

    async def __call__(self, key: TaskKey, number: PieceNumber) -> bool:
        self.pieces.append((key, number))
        self.began.set()
        await self.may.wait()
        if self.error is not None:
            raise self.error
        self._store.delete(key)
        return True


@pytest.fixture
def clock() -> FakeTime:
    return FakeTime()


@pytest.fixture
def store() -> Iterator[TaskStore]:
    """Holds one task whose pieces are all here but the last one."""
    made = MemoryStore(MiB)
    fill(made, KEY)
    yield made
    made.close()


def fill(store: TaskStore, key: TaskKey) -> None:
    store.create(key, GEOMETRY, OriginFacts(url="u"))
    for number in range(GEOMETRY.piece_count - 1):
        with store.claim(key, PieceNumber(number)) as writer:
            writer.write(memoryview(PIECE))
            writer.commit(parent_id=None, cost=0.0)


def spoil(store: TaskStore, number: PieceNumber, key: TaskKey = KEY) -> None:
    """Another first byte than it was written with."""
    with store.open_piece(key, number) as reader:
        os.pwrite(reader.fd, b"x", reader.position)


@pytest.fixture
def drops(store: TaskStore) -> Drops:
    return Drops(store)


@pytest.fixture
def doubts(store: TaskStore, drops: Drops, clock: FakeTime) -> Doubts:
    return Doubts(store, drops, clock)


async def test_piece_that_changed_takes_its_task_along(
    doubts: Doubts, store: TaskStore, drops: Drops, caplog: pytest.LogCaptureFixture
) -> None:
    spoil(store, ONE)
    await doubts.hear(KEY.wire_id, ONE)
    assert (drops.pieces, store.get(KEY)) == ([(KEY, ONE)], None)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "its piece 1 is not what was written any more" in caplog.text


async def test_piece_as_it_was_written_stays_whatever_is_said_of_it(
    doubts: Doubts, store: TaskStore, drops: Drops
) -> None:
    spoil(store, ONE)  # of which nobody says anything
    await doubts.hear(KEY.wire_id, ZERO)
    assert drops.pieces == []
    assert store.get(KEY) is not None


@pytest.mark.parametrize("number", [GEOMETRY.piece_count - 1, GEOMETRY.piece_count, 2**32 - 1])
async def test_doubt_of_a_piece_that_is_not_here_is_passed_over(doubts: Doubts, drops: Drops, number: int) -> None:
    await doubts.hear(KEY.wire_id, PieceNumber(number))
    await doubts.hear("0" * 64, ZERO)
    assert drops.pieces == []


async def test_piece_looked_at_a_moment_ago_is_not_read_again_before_its_time(
    doubts: Doubts, store: TaskStore, drops: Drops, clock: FakeTime
) -> None:
    await doubts.hear(KEY.wire_id, ZERO)
    spoil(store, ZERO)
    clock.now += TRUST_TIME - 0.1
    await doubts.hear(KEY.wire_id, ZERO)
    assert drops.pieces == []
    clock.now += 0.1
    await doubts.hear(KEY.wire_id, ZERO)
    assert drops.pieces == [(KEY, ZERO)]


async def test_next_copy_of_a_dropped_task_is_looked_at_at_once(doubts: Doubts, store: TaskStore, drops: Drops) -> None:
    for _ in range(2):
        spoil(store, ZERO)
        await doubts.hear(KEY.wire_id, ZERO)
        fill(store, KEY)
    assert drops.pieces == [(KEY, ZERO)] * 2


async def test_one_piece_is_looked_at_at_a_time(doubts: Doubts, store: TaskStore, drops: Drops) -> None:
    other = public_task(content_task_id("another file"))
    fill(store, other)
    spoil(store, ZERO)
    spoil(store, ZERO, key=other)
    drops.may.clear()
    hearing = [asyncio.create_task(doubts.hear(key.wire_id, ZERO)) for key in (KEY, other)]
    async with asyncio.timeout(10):
        await drops.began.wait()
    assert drops.pieces == [(KEY, ZERO)]
    drops.may.set()
    await asyncio.gather(*hearing)
    assert drops.pieces == [(KEY, ZERO), (other, ZERO)]


async def test_of_too_many_doubts_at_once_the_last_are_passed_over(
    doubts: Doubts, store: TaskStore, drops: Drops
) -> None:
    spoil(store, ZERO)
    drops.may.clear()
    numbers = [PieceNumber(number) for number in range(MAX_WAITING + 1)]
    hearing = [asyncio.create_task(doubts.hear(KEY.wire_id, number)) for number in numbers]
    async with asyncio.timeout(10):
        await hearing[-1]
    assert [task.done() for task in hearing] == [False] * MAX_WAITING + [True]
    drops.may.set()
    await asyncio.gather(*hearing)  # those behind find the task gone


async def test_drop_that_fails_is_logged_and_the_next_doubt_heard(
    doubts: Doubts, store: TaskStore, drops: Drops, caplog: pytest.LogCaptureFixture
) -> None:
    spoil(store, ZERO)
    spoil(store, ONE)
    drops.error = StorageError(path="the storage", reason="read-only")
    with caplog.at_level(logging.INFO):
        await doubts.hear(KEY.wire_id, ZERO)
    assert "read-only" in caplog.text
    drops.error = None
    await doubts.hear(KEY.wire_id, ONE)
    assert store.get(KEY) is None


# --- telling a parent


class Listener(DfdaemonUploadServicer):
    def __init__(self) -> None:
        self.heard: list[dfdaemon_pb2.DoubtPieceRequest] = []

    async def DoubtPiece(self, request: dfdaemon_pb2.DoubtPieceRequest, context: Context) -> Empty:
        self.heard.append(request)
        return Empty()


REQUEST = dfdaemon_pb2.DoubtPieceRequest(host_id="child", task_id=KEY.wire_id, number=7)


@asynccontextmanager
async def serving(servicer: DfdaemonUploadServicer) -> AsyncIterator[str]:
    server = GrpcServer(service_names=["dfdaemon.v2.DfdaemonUpload"])
    port = server.listen("127.0.0.1:0")
    add_DfdaemonUploadServicer_to_server(servicer, server.server)
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop()


@pytest.fixture
async def channels() -> AsyncIterator[ChannelPool]:
    made = ChannelPool()
    yield made
    await made.close()


async def test_parent_is_told_which_piece_was_wrong(channels: ChannelPool) -> None:
    listener = Listener()
    async with serving(listener) as address:
        await tell(channels, address, REQUEST)
    assert listener.heard == [REQUEST]


async def test_parent_that_knows_no_doubts_or_is_away_is_left_alone(
    channels: ChannelPool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        async with serving(DfdaemonUploadServicer()) as address:  # as the reference answers: UNIMPLEMENTED
            await tell(channels, address, REQUEST)
        await tell(channels, address, REQUEST)
    ours = [record for record in caplog.records if record.name == "dragonfly.dfdaemon.doubts"]
    assert [record.levelno for record in ours] == [logging.INFO] * 2
