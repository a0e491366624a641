"""Seed peers register, are looked up, listed for hosts, and leave, over gRPC; applications are listed."""

import json

import grpc
import pytest

from dragonfly.manager.db.tables import ApplicationRow, ClusterLinkRow, SchedulerClusterRow, SeedPeerClusterRow
from dragonfly.wire.pb import common_pb2
from dragonfly.wire.pb import manager_pb2 as pb

PATIENCE = 60.0  # seconds; no call takes so long, however busy the machine is

LEASE = 15.0


async def test_seed_peer_that_registers_is_active_and_learns_its_cluster(fleet):
    await fleet.register_scheduler()
    answer = await fleet.register_seed_peer(idc="hz")
    assert (answer.hostname, answer.type, answer.ip, answer.state) == ("seed-1", "super", "10.0.0.9", "active")
    assert (answer.port, answer.download_port, answer.idc, answer.seed_peer_cluster_id) == (4000, 4001, "hz", 1)
    assert answer.seed_peer_cluster.name == "seed-peer-cluster-1"
    assert json.loads(answer.seed_peer_cluster.config) == {"load_limit": 2000}
    assert [each.hostname for each in answer.schedulers] == ["scheduler-1"]
    assert await fleet.seed_peer() == answer


async def test_restart_on_other_ports_updates_the_same_seed_peer(fleet):
    first = await fleet.register_seed_peer(location="asia")
    second = await fleet.register_seed_peer(port=5000, download_port=5001)
    assert (second.id, second.port, second.download_port, second.location) == (first.id, 5000, 5001, "asia")


async def test_silent_seed_peers_and_schedulers_are_not_passed_on(fleet, clock):
    await fleet.register_scheduler()
    await fleet.register_seed_peer()
    clock.now += LEASE + 1
    assert await fleet.seed_peers_for() == []
    assert list((await fleet.scheduler()).seed_peers) == []
    answer = await fleet.seed_peer()
    assert (answer.state, list(answer.schedulers)) == ("inactive", [])


async def test_seed_peers_of_the_best_cluster_come_first_and_each_once(fleet, database):
    async with database.writing() as session:
        stamps = {"created_at": 0, "updated_at": 0}
        session.add(SeedPeerClusterRow(id=2, name="near", **stamps))
        session.add(SeedPeerClusterRow(id=3, name="unlinked", **stamps))
        session.add(SchedulerClusterRow(id=2, name="near", scopes={"cidrs": ["10.9.0.0/16"]}, **stamps))
        await session.flush()
        session.add(ClusterLinkRow(seed_peer_cluster_id=2, scheduler_cluster_id=2))
        session.add(ClusterLinkRow(seed_peer_cluster_id=1, scheduler_cluster_id=2))
    for number in (1, 2, 3):
        await fleet.register_seed_peer(f"seed-{number}", seed_peer_cluster_id=number)
    found = await fleet.seed_peers_for("10.9.9.9")
    assert [each.hostname for each in found] == ["seed-1", "seed-2"]
    assert [each.seed_peer_cluster.name for each in found] == ["seed-peer-cluster-1", "near"]


async def test_seed_peer_that_leaves_is_forgotten_and_leaving_twice_is_no_error(fleet):
    await fleet.register_seed_peer()
    request = pb.DeleteSeedPeerRequest(hostname="seed-1", seed_peer_cluster_id=1, ip="10.0.0.9")
    await fleet.stub.DeleteSeedPeer(request, timeout=PATIENCE)
    await fleet.stub.DeleteSeedPeer(request, timeout=PATIENCE)
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await fleet.seed_peer()
    assert refusal.value.code() is grpc.StatusCode.NOT_FOUND


async def test_only_the_named_seed_peer_leaves(fleet):
    await fleet.register_seed_peer(ip="10.0.0.9")
    await fleet.register_seed_peer(ip="10.0.0.8")
    request = pb.DeleteSeedPeerRequest(hostname="seed-1", seed_peer_cluster_id=1, ip="10.0.0.9")
    await fleet.stub.DeleteSeedPeer(request, timeout=PATIENCE)
    assert [each.ip for each in await fleet.seed_peers_for()] == ["10.0.0.8"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"hostname": "-"},
        {"type": "normal"},
        {"type": ""},
        {"ip": "::"},
        {"port": 1},
        {"download_port": 0},
        {"seed_peer_cluster_id": 0},
        {"idc": "\x07"},
    ],
    ids=str,
)
async def test_registration_that_makes_no_sense_is_refused(fleet, wrong):
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await fleet.register_seed_peer(**({"hostname": "seed-1"} | wrong))
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert next(iter(wrong)) in refusal.value.details()


async def test_unknown_seed_peer_cluster_is_not_found(fleet):
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await fleet.register_seed_peer(seed_peer_cluster_id=42)
    assert refusal.value.code() is grpc.StatusCode.NOT_FOUND
    assert refusal.value.details() == "the manager knows no seed peer cluster 42"


def question() -> pb.ListApplicationsRequest:
    return pb.ListApplicationsRequest(source_type=pb.SCHEDULER_SOURCE, hostname="scheduler-1", ip="10.0.0.1")


async def test_no_application_is_found_where_none_has_a_priority(fleet, database):
    async with database.writing() as session:
        session.add(ApplicationRow(name="plain", created_at=0, updated_at=0))
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await fleet.stub.ListApplications(question(), timeout=PATIENCE)
    assert refusal.value.code() is grpc.StatusCode.NOT_FOUND


async def test_applications_with_a_priority_are_listed_without_what_makes_no_sense(fleet, database):
    urls = [{"regex": "^https", "value": 2}, {"regex": 5, "value": 1}, {"regex": "x", "value": 99}, "odd"]
    rows = {"models": {"value": 5, "urls": urls}, "bad": {"value": 7}, "true": {"value": True}, "zero": {"value": 0}}
    async with database.writing() as session:
        for name, priority in rows.items():
            session.add(ApplicationRow(name=name, url="https://x", priority=priority, created_at=0, updated_at=0))
    answer = await fleet.stub.ListApplications(question(), timeout=PATIENCE)
    models, zero = answer.applications
    assert (models.name, models.url, models.priority.value) == ("models", "https://x", common_pb2.LEVEL5)
    assert [(each.regex, each.value) for each in models.priority.urls] == [("^https", common_pb2.LEVEL2)]
    assert (zero.name, zero.priority.value) == ("zero", common_pb2.LEVEL0)
