"""Members say over a stream that they live, and are missed when they stop."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import grpc
import pytest
from sqlalchemy import Engine, event, func, insert, select

from dragonfly.errors import DeadlineExceeded, StorageError
from dragonfly.manager.db.session import Database
from dragonfly.manager.db.tables import SchedulerRow
from dragonfly.manager.keep_alive.leases import Leases, Member, MemberKind
from dragonfly.manager.keep_alive.rpc import KeepAliveCalls
from dragonfly.manager.keep_alive.writer import LeaseWriter
from dragonfly.manager.schedulers.service import Schedulers
from dragonfly.manager.seed_peers.service import SeedPeers
from dragonfly.wire.pb import manager_pb2 as pb

PATIENCE = 60.0  # seconds; no call takes so long, however busy the machine is

LEASE = 15.0
SCHEDULER = {"source_type": pb.SCHEDULER_SOURCE, "hostname": "scheduler-1", "cluster_id": 1, "ip": "10.0.0.1"}
SEED_PEER = {"source_type": pb.SEED_PEER_SOURCE, "hostname": "seed-1", "cluster_id": 1, "ip": "10.0.0.9"}


def beat(**changes: object) -> pb.KeepAliveRequest:
    return pb.KeepAliveRequest(**(SCHEDULER | changes))


async def until(question: Callable[[], Awaitable[object]], answer: object) -> None:
    """Ask the server again and again until it answers so; each question is a call, so nothing spins."""
    async with asyncio.timeout(PATIENCE):
        while await question() != answer:
            pass


def state(fleet: Any) -> Callable[[], Awaitable[str]]:
    async def ask() -> str:
        return (await fleet.scheduler()).state

    return ask


async def stream(fleet: Any, request: pb.KeepAliveRequest | None = None) -> grpc.aio.StreamUnaryCall:
    call = fleet.stub.KeepAlive()
    await call.write(request or beat())
    return call


async def silent_scheduler(fleet: Any) -> None:
    """One that registered and was not heard of since: whatever makes it active again is the keepalive."""
    await fleet.register_scheduler()
    fleet.clock.now += LEASE + 1
    assert (await fleet.scheduler()).state == "inactive"


async def test_first_and_later_keepalives_renew_the_lease(fleet, clock):
    await silent_scheduler(fleet)
    call = await stream(fleet)
    await until(state(fleet), "active")
    for _ in range(3):
        clock.now += LEASE + 1
        assert (await fleet.scheduler()).state == "inactive"
        await call.write(beat())
        await until(state(fleet), "active")
    call.cancel()


async def test_end_of_the_stream_makes_the_member_inactive_at_once(fleet):
    await silent_scheduler(fleet)
    call = await stream(fleet)
    await until(state(fleet), "active")
    await call.done_writing()
    await call
    assert (await fleet.scheduler()).state == "inactive"
    assert await fleet.schedulers_for() == []


async def test_broken_stream_makes_the_member_inactive(fleet):
    await silent_scheduler(fleet)
    call = await stream(fleet)
    await until(state(fleet), "active")
    call.cancel()
    await until(state(fleet), "inactive")


async def test_seed_peers_keep_alive_as_schedulers_do(fleet, clock):
    await fleet.register_seed_peer()
    clock.now += LEASE + 1

    async def names() -> list[str]:
        return [each.hostname for each in await fleet.seed_peers_for()]

    assert await names() == []
    call = await stream(fleet, beat(**SEED_PEER))
    await until(names, ["seed-1"])
    await call.done_writing()
    await call
    assert await names() == []


async def test_keepalive_without_ip_is_that_of_the_member_of_this_name(fleet):
    await silent_scheduler(fleet)
    call = await stream(fleet, beat(ip=""))
    await until(state(fleet), "active")
    call.cancel()


async def test_old_stream_that_ends_late_does_not_end_the_new_one(fleet, clock):
    await silent_scheduler(fleet)
    old = await stream(fleet)
    await until(state(fleet), "active")
    clock.now += LEASE + 1
    new = await stream(fleet)
    await until(state(fleet), "active")
    await old.done_writing()
    await old
    assert (await fleet.scheduler()).state == "active"
    await new.done_writing()
    await new
    assert (await fleet.scheduler()).state == "inactive"


async def test_stream_taken_over_by_another_manager_ends_nothing(fleet, clock, start_manager):
    """Both managers write to one database; the old stream ends at the first after the second has heard of the new."""
    await silent_scheduler(fleet)
    old = await stream(fleet)
    await until(state(fleet), "active")
    elsewhere = await start_manager()
    clock.now += LEASE + 1
    new = await stream(elsewhere)
    await until(state(elsewhere), "active")
    await until(state(fleet), "active")  # written down by the other by now
    await old.done_writing()
    await old
    assert (await fleet.scheduler()).state == "active"
    new.cancel()
    await until(state(elsewhere), "inactive")
    await until(state(fleet), "inactive")


async def test_keepalive_of_a_stranger_is_not_found(fleet):
    call = await stream(fleet)
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await asyncio.wait_for(call, PATIENCE)
    assert refusal.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    "wrong",
    [{"source_type": pb.PEER_SOURCE}, {"source_type": 77}, {"hostname": ""}, {"cluster_id": 0}, {"ip": "x"}],
    ids=str,
)
async def test_keepalive_that_makes_no_sense_is_refused(fleet, wrong):
    await fleet.register_scheduler()
    call = await stream(fleet, beat(**wrong))
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await asyncio.wait_for(call, PATIENCE)
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_stream_cannot_speak_for_two_members(fleet):
    await fleet.register_scheduler()
    await fleet.register_scheduler("scheduler-2")
    call = await stream(fleet)
    await call.write(beat(hostname="scheduler-2"))
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await asyncio.wait_for(call, PATIENCE)
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_deleted_member_is_told_to_register_again(fleet, clock):
    await fleet.register_seed_peer()
    clock.now += LEASE + 1
    call = await stream(fleet, beat(**SEED_PEER))

    async def seen() -> str:
        return (await fleet.seed_peer()).state

    await until(seen, "active")
    request = pb.DeleteSeedPeerRequest(hostname="seed-1", seed_peer_cluster_id=1)
    await fleet.stub.DeleteSeedPeer(request, timeout=PATIENCE)
    await call.write(beat(**SEED_PEER))
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await asyncio.wait_for(call, PATIENCE)
    assert refusal.value.code() is grpc.StatusCode.NOT_FOUND
    assert "register again" in refusal.value.details()


async def test_stream_that_says_nothing_is_no_error(fleet):
    call = fleet.stub.KeepAlive()
    await call.done_writing()
    await asyncio.wait_for(call, PATIENCE)


async def test_manager_that_stops_ends_streams_at_once_and_calls_nobody_inactive(fleet, start_manager):
    await silent_scheduler(fleet)
    call = await stream(fleet)
    await until(state(fleet), "active")
    async with asyncio.timeout(4):  # less than the grace that running calls get
        await fleet.service.stop()
    with pytest.raises(grpc.aio.AioRpcError) as ending:
        await asyncio.wait_for(call, PATIENCE)
    assert ending.value.code() is grpc.StatusCode.UNAVAILABLE
    assert (await (await start_manager()).scheduler()).state == "active"


# --- below gRPC


@pytest.fixture
async def own_database(tmp_path) -> AsyncIterator[Database]:
    database = await Database.open(tmp_path / "own.db")
    yield database
    await database.close()


async def add_schedulers(database: Database, count: int) -> list[Member]:
    facts = {"ip": "10.0.0.1", "port": 8002, "idc": "", "location": "", "scheduler_cluster_id": 1, "state": "inactive"}
    times = {"created_at": 0.0, "updated_at": 0.0, "last_keep_alive_at": 0.0}
    rows = [{"host_name": f"scheduler-{number}", **facts, **times} for number in range(count)]
    async with database.writing() as session:
        await session.execute(insert(SchedulerRow), rows)
        return [Member(MemberKind.SCHEDULER, each) for each in await session.scalars(select(SchedulerRow.id))]


@contextlib.contextmanager
def heard(name: str) -> Iterator[list[object]]:
    """What every database connection did of this name, in the block."""
    seen: list[object] = []

    def note(connection: object) -> None:
        seen.append(connection)

    event.listen(Engine, name, note)
    try:
        yield seen
    finally:
        event.remove(Engine, name, note)


async def test_keepalives_of_thousands_cost_one_commit(own_database):
    members = await add_schedulers(own_database, 3000)
    leases = Leases()
    for member in members:
        leases.open(member, f"stream-{member.id}", 500.0)
        leases.renew(member, f"stream-{member.id}", 505.25)
    for member in members[:10]:
        leases.close(member, f"stream-{member.id}")
    with heard("commit") as commits:
        await LeaseWriter(own_database, leases).write()
    assert len(commits) == 1
    async with own_database.reading() as session:
        by_state = select(SchedulerRow.state, func.count()).group_by(SchedulerRow.state)
        assert dict(list(await session.execute(by_state))) == {"active": 2990, "inactive": 10}
        assert set(await session.scalars(select(SchedulerRow.last_keep_alive_at))) == {505.25}


async def test_nothing_to_write_costs_nothing(own_database):
    with heard("begin") as transactions:
        await LeaseWriter(own_database, Leases()).write()
    assert transactions == []


async def test_end_of_a_stream_is_written_only_where_it_still_holds_the_lease(own_database):
    (member,) = await add_schedulers(own_database, 1)
    here, there = Leases(), Leases()  # of two managers

    async def written(leases: Leases) -> str | None:
        await LeaseWriter(own_database, leases).write()
        async with own_database.reading() as session:
            return await session.scalar(select(SchedulerRow.state))

    here.open(member, "old", 500.0)
    assert await written(here) == "active"
    there.open(member, "new", 501.0)
    assert await written(there) == "active"
    here.close(member, "old")
    assert await written(here) == "active"
    there.close(member, "new")
    assert await written(there) == "inactive"


async def test_stream_that_opens_and_ends_within_a_round_is_written_as_ended(own_database):
    (member,) = await add_schedulers(own_database, 1)
    leases = Leases()
    leases.open(member, "brief", 500.0)
    leases.close(member, "brief")
    await LeaseWriter(own_database, leases).write()
    async with own_database.reading() as session:
        assert (await session.scalar(select(SchedulerRow.state))) == "inactive"


async def test_row_deleted_behind_our_back_is_noticed_at_the_next_writing(own_database):
    leases, stranger = Leases(), Member(MemberKind.SEED_PEER, 404)
    leases.open(stranger, "s", 500.0)
    await LeaseWriter(own_database, leases).write()
    with pytest.raises(Exception, match="register again"):
        leases.renew(stranger, "s", 505.0)


async def test_keepalives_survive_a_database_that_is_away(own_database, tmp_path):
    members = await add_schedulers(own_database, 1)
    leases = Leases()
    leases.open(members[0], "s", 500.0)
    writer = LeaseWriter(own_database, leases)
    async with own_database.writing() as session:
        await session.execute(SchedulerRow.__table__.delete())
        await session.connection()
        await (await session.connection()).exec_driver_sql("ALTER TABLE scheduler RENAME TO away")
    with pytest.raises(StorageError, match="no such table"):
        await writer.write()
    assert leases.pending().renewals[members[0]].at == 500.0


async def test_silent_stream_is_ended(own_database, clock):
    leases = Leases()
    schedulers, seed_peers = Schedulers(leases, clock), SeedPeers(leases, clock)
    calls = KeepAliveCalls(own_database, schedulers, seed_peers, leases, clock, silence=0.01)

    async def silence() -> AsyncIterator[pb.KeepAliveRequest]:
        await asyncio.Event().wait()
        yield beat()

    with pytest.raises(DeadlineExceeded):
        await calls.keep_alive(silence())
