"""Schedulers register, are looked up, and are listed for hosts, over gRPC."""

import asyncio
import contextlib
import json

import grpc
import pytest
from sqlalchemy import text

from dragonfly.manager.db.session import Database
from dragonfly.manager.db.tables import ClusterLinkRow, SchedulerClusterRow
from dragonfly.wire.pb import manager_pb2 as pb

PATIENCE = 60.0  # seconds; no call takes so long, however busy the machine is

LEASE = 15.0


async def add_cluster(database: Database, name: str, **facts: object) -> int:
    async with database.writing() as session:
        row = SchedulerClusterRow(name=name, created_at=0, updated_at=0, **facts)
        session.add(row)
        await session.flush()
        return row.id


async def test_scheduler_that_registers_is_active_and_learns_its_cluster(fleet):
    await fleet.register_seed_peer()
    answer = await fleet.register_scheduler(idc="hz", location="asia|cn")
    assert (answer.hostname, answer.ip, answer.port, answer.state) == ("scheduler-1", "10.0.0.1", 8002, "active")
    assert (answer.idc, answer.location, answer.scheduler_cluster_id) == ("hz", "asia|cn", 1)
    assert json.loads(answer.features) == ["schedule", "preheat"]
    cluster = answer.scheduler_cluster
    assert (cluster.id, cluster.name) == (1, "cluster-1")
    assert json.loads(cluster.config) == {"candidate_parent_limit": 3, "filter_parent_limit": 15, "job_rate_limit": 10}
    assert json.loads(cluster.client_config) == {"load_limit": 200}
    assert json.loads(cluster.seed_client_config) == json.loads(cluster.scopes) == {}
    assert [(each.hostname, json.loads(each.seed_peer_cluster.config)) for each in answer.seed_peers] == [
        ("seed-1", {"load_limit": 2000})
    ]
    assert await fleet.scheduler(ip="10.0.0.1") == answer


async def test_restart_on_another_port_updates_the_same_scheduler(fleet):
    first = await fleet.register_scheduler(idc="hz", features=["schedule"], config=b'{"a": 1}')
    second = await fleet.register_scheduler(port=9002)
    assert (second.id, second.port) == (first.id, 9002)
    assert second.idc == "hz"  # what it did not say stays
    assert json.loads(second.features) == ["schedule"]
    assert len(await fleet.schedulers_for()) == 1


async def test_another_ip_or_cluster_is_another_scheduler(fleet, database):
    other = await add_cluster(database, "other")
    first = await fleet.register_scheduler()
    second = await fleet.register_scheduler(ip="fd00::1")
    third = await fleet.register_scheduler(scheduler_cluster_id=other)
    assert len({first.id, second.id, third.id}) == 3


async def test_lookup_without_ip_finds_the_one_heard_of_last(fleet, clock):
    await fleet.register_scheduler(ip="10.0.0.1")
    clock.now += 1
    await fleet.register_scheduler(ip="10.0.0.2")
    assert (await fleet.scheduler()).ip == "10.0.0.2"
    assert (await fleet.scheduler(ip="10.0.0.1")).ip == "10.0.0.1"


async def test_scheduler_that_fell_silent_is_inactive_after_three_missed_keepalives(fleet, clock):
    await fleet.register_scheduler()
    clock.now += LEASE
    assert [each.hostname for each in await fleet.schedulers_for()] == ["scheduler-1"]
    clock.now += 0.1
    assert await fleet.schedulers_for() == []
    assert (await fleet.scheduler()).state == "inactive"


async def test_stated_keepalive_interval_makes_the_lease_longer(fleet, clock):
    await fleet.register_scheduler(config=b'{"manager_keep_alive_interval": 20000000000}')
    clock.now += 60
    assert (await fleet.scheduler()).state == "active"
    clock.now += 0.1
    assert (await fleet.scheduler()).state == "inactive"


async def test_list_of_a_named_cluster_holds_everyone_with_their_state(fleet, clock):
    await fleet.register_scheduler("silent")
    clock.now += LEASE + 1
    await fleet.register_scheduler("lively", ip="10.0.0.2")
    listed = await fleet.schedulers_for(scheduler_cluster_id=1)
    assert [(each.hostname, each.state) for each in listed] == [("silent", "inactive"), ("lively", "active")]


async def test_best_cluster_for_the_host_comes_first_and_empty_clusters_not_at_all(fleet, database):
    near = await add_cluster(database, "near", scopes={"cidrs": ["10.9.0.0/16"], "idc": "hz"}, client_config={"x": 1})
    far = await add_cluster(database, "far", scopes={"idc": "sh"})
    await add_cluster(database, "empty", scopes={"cidrs": ["10.9.9.9"], "hostnames": ["^peer"], "idc": "hz"})
    for name, cluster in (("default", 1), ("far", far), ("near-1", near), ("near-2", near)):
        await fleet.register_scheduler(name, scheduler_cluster_id=cluster)
    listed = await fleet.schedulers_for("10.9.9.9")
    assert [each.hostname for each in listed] == ["near-1", "near-2", "default", "far"]
    assert json.loads(listed[0].scheduler_cluster.client_config) == {"x": 1}
    assert (await fleet.schedulers_for("10.8.0.1", idc="SH"))[0].hostname == "far"
    assert (await fleet.schedulers_for("::ffff:10.9.0.1"))[0].hostname == "near-1"


async def test_senseless_scopes_in_the_table_disturb_nobody(fleet, database):
    odd = {"cidrs": ["nonsense", 5], "hostnames": ["(", "(a+)+$"], "idc": 7, "location": None, "other": []}
    cluster = await add_cluster(database, "odd", scopes=odd)
    await fleet.register_scheduler(scheduler_cluster_id=cluster)
    assert len(await fleet.schedulers_for()) == 1


async def test_scheduler_that_does_not_schedule_is_not_offered_to_peers(fleet):
    await fleet.register_scheduler("jobs-only", features=["preheat"])
    assert await fleet.schedulers_for() == []
    assert len(await fleet.schedulers_for(scheduler_cluster_id=1)) == 1


async def test_seed_peers_reach_only_schedulers_of_linked_clusters(fleet, database):
    other = await add_cluster(database, "other")
    await fleet.register_seed_peer()
    await fleet.register_scheduler("linked")
    await fleet.register_scheduler("unlinked", scheduler_cluster_id=other)
    listed = {each.hostname: [seed.hostname for seed in each.seed_peers] for each in await fleet.schedulers_for()}
    assert listed == {"linked": ["seed-1"], "unlinked": []}
    async with database.writing() as session:
        session.add(ClusterLinkRow(seed_peer_cluster_id=1, scheduler_cluster_id=other))
    listed = {each.hostname: [seed.hostname for seed in each.seed_peers] for each in await fleet.schedulers_for()}
    assert listed == {"linked": ["seed-1"], "unlinked": ["seed-1"]}


async def test_list_is_empty_when_there_is_no_scheduler(fleet):
    assert await fleet.schedulers_for() == []


@pytest.mark.parametrize("call", ["GetScheduler", "ListSchedulers", "UpdateScheduler"])
async def test_unknown_cluster_is_not_found(fleet, call):
    request = {
        "GetScheduler": pb.GetSchedulerRequest(hostname="a", scheduler_cluster_id=99),
        "ListSchedulers": pb.ListSchedulersRequest(hostname="a", ip="10.0.0.1", scheduler_cluster_id=99),
        "UpdateScheduler": pb.UpdateSchedulerRequest(hostname="a", ip="10.0.0.1", port=8002, scheduler_cluster_id=99),
    }[call]
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await getattr(fleet.stub, call)(request, timeout=PATIENCE)
    assert refusal.value.code() is grpc.StatusCode.NOT_FOUND
    assert "99" in refusal.value.details()


async def test_unknown_scheduler_is_not_found(fleet):
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await fleet.scheduler("nobody")
    assert refusal.value.code() is grpc.StatusCode.NOT_FOUND
    assert refusal.value.details() == "the manager knows no scheduler nobody (any ip) in cluster 1"


@pytest.mark.parametrize(
    "wrong",
    [
        {"hostname": ""},
        {"hostname": "a b"},
        {"ip": ""},
        {"ip": "nowhere"},
        {"ip": "0.0.0.0"},
        {"port": 80},
        {"port": 0},
        {"port": 65535},
        {"port": -1},
        {"scheduler_cluster_id": 0},
        {"scheduler_cluster_id": 2**64 - 1},
        {"idc": "a\nb"},
        {"location": "x" * 2000},
        {"features": ["; DROP TABLE scheduler"]},
        {"config": b"not json"},
        {"config": b"[]"},
    ],
    ids=str,
)
async def test_registration_that_makes_no_sense_is_refused_and_leaves_nothing(fleet, database, wrong):
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await fleet.register_scheduler(**({"hostname": "scheduler-1"} | wrong))
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert next(iter(wrong)).split("_")[0][:7] in refusal.value.details()
    async with database.reading() as session:
        assert await session.scalar(text("SELECT count(*) FROM scheduler")) == 0


@pytest.mark.parametrize("wrong", [{"ip": ""}, {"ip": "x"}, {"hostname": ""}, {"scheduler_cluster_id": 2**63}], ids=str)
async def test_question_that_makes_no_sense_is_refused(fleet, wrong):
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await fleet.schedulers_for(**wrong)
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_callers_that_give_up_midway_leave_a_manager_that_works(fleet):
    """Cancelled transactions must give back their connection and the writer's turn."""

    async def impatient(number: int) -> None:
        request = pb.UpdateSchedulerRequest(hostname=f"s-{number}", ip="10.0.0.1", port=8002, scheduler_cluster_id=1)
        listing = pb.ListSchedulersRequest(hostname="peer-1", ip="10.0.0.1")
        deadline = 0.001 * (number % 40)
        with contextlib.suppress(grpc.aio.AioRpcError):
            await fleet.stub.UpdateScheduler(request, timeout=deadline)
        with contextlib.suppress(grpc.aio.AioRpcError):
            await fleet.stub.ListSchedulers(listing, timeout=deadline)

    await asyncio.gather(*(impatient(number) for number in range(120)))
    await fleet.register_scheduler("patient", ip="10.0.0.2")
    assert "patient" in {each.hostname for each in await fleet.schedulers_for()}
