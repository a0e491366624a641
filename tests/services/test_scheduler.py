"""The scheduler service over real gRPC on loopback: daemons and the manager are played by the tests."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.empty_pb2 import Empty

from dragonfly import __version__
from dragonfly.core.model.ids import HostId, PeerId, public_task
from dragonfly.core.model.units import MiB
from dragonfly.core.scheduling.commands import TellRoots
from dragonfly.scheduler.app import SchedulerService
from dragonfly.scheduler.settings import SchedulerSettings
from dragonfly.scheduler.stream import PeerStream
from dragonfly.wire.announce import StreamIdentity, roots_to_pb
from dragonfly.wire.pb import (
    common_pb2,
    dfdaemon_pb2,
    dfdaemon_pb2_grpc,
    manager_pb2,
    manager_pb2_grpc,
    scheduler_pb2,
    scheduler_pb2_grpc,
)

TASK = "b" * 64
URL = "http://origin.test/file"
PATIENCE = 10.0

Request = scheduler_pb2.AnnouncePeerRequest


def settings(tmp_path: Path, manager: str | None = None) -> SchedulerSettings:
    return SchedulerSettings.model_validate(
        {
            "server": {"listenIP": "127.0.0.1", "port": 0, "advertiseIP": "127.0.0.1", "host": "scheduler-1"},
            "manager": {"addr": manager, "keepAlive": {"interval": "50ms"}},
            "dynConfig": {"refreshInterval": "50ms", "path": str(tmp_path / "dynconfig.yaml")},
        }
    )


class Client:
    """A daemon's side of the scheduler."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.stub = scheduler_pb2_grpc.SchedulerStub(channel)

    async def announce(
        self, name: str, *, host_type: int = 0, port: int = 4000, held_tasks: Iterable[scheduler_pb2.HeldTask] = ()
    ) -> dict[str, Any]:
        """What the answer says besides, in its metadata."""
        host = common_pb2.Host(id=name, type=host_type, hostname=name, ip="127.0.0.1", port=port)
        request = scheduler_pb2.AnnounceHostRequest(host=host, held_tasks=held_tasks)
        call = self.stub.AnnounceHost(request, timeout=PATIENCE)
        await call
        return dict(await call.trailing_metadata())

    def peer(self, name: str, *, host: str | None = None) -> "PeerCall":
        return PeerCall(self.stub, name, host or name)


class PeerCall:
    """One AnnouncePeer stream."""

    def __init__(self, stub: Any, name: str, host: str) -> None:
        self._names = {"host_id": host, "task_id": TASK, "peer_id": name}
        self.call = stub.AnnouncePeer(timeout=PATIENCE)

    async def send(self, **message: Any) -> None:
        await self.call.write(Request(**self._names, **message))

    async def register(self, *, takes_unasked: bool = False, **download: Any) -> None:
        options = {"url": URL, "actual_content_length": 40 * MiB, "actual_piece_length": 4 * MiB} | download
        registration = scheduler_pb2.RegisterPeerRequest(
            download=common_pb2.Download(**options), takes_unasked=takes_unasked
        )
        await self.send(register_peer_request=registration)

    async def at_source(self) -> None:
        started = scheduler_pb2.DownloadPeerBackToSourceStartedRequest()
        await self.send(download_peer_back_to_source_started_request=started)

    async def source_piece(self, number: int, root: bytes) -> None:
        piece = common_pb2.Piece(number=number, root=root)
        finished = scheduler_pb2.DownloadPieceBackToSourceFinishedRequest(piece=piece)
        await self.send(download_piece_back_to_source_finished_request=finished)

    async def source_finished(self) -> None:
        finished = scheduler_pb2.DownloadPeerBackToSourceFinishedRequest()
        await self.send(download_peer_back_to_source_finished_request=finished)

    async def answer(self) -> str:
        """What kind of answer came."""
        kind = (await self.response()).WhichOneof("response")
        return str(kind).removesuffix("_response")

    async def response(self) -> scheduler_pb2.AnnouncePeerResponse:
        async with asyncio.timeout(PATIENCE):
            response = await self.call.read()
        assert response is not grpc.aio.EOF, await self.call.code()
        assert isinstance(response, scheduler_pb2.AnnouncePeerResponse)
        return response

    async def end(self) -> grpc.StatusCode:
        async with asyncio.timeout(PATIENCE):
            with suppress(grpc.aio.AioRpcError):  # the code says it, too
                while await self.call.read() is not grpc.aio.EOF:
                    pass
            code: grpc.StatusCode = await self.call.code()
        return code


@asynccontextmanager
async def scheduler(config: SchedulerSettings) -> AsyncIterator[Client]:
    service = SchedulerService(config)
    try:
        await service.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{service.port}") as channel:
            yield Client(channel)
    finally:
        await service.stop()


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    async with scheduler(settings(tmp_path)) as client:
        yield client


class FakeSeed(dfdaemon_pb2_grpc.DfdaemonUploadServicer):
    """A seed daemon that does what the test says when it is woken."""

    def __init__(self, play: Callable[[dfdaemon_pb2.DownloadTaskRequest], Awaitable[None]]) -> None:
        self._play = play
        self.woken: list[dfdaemon_pb2.DownloadTaskRequest] = []

    async def DownloadTask(
        self, request: dfdaemon_pb2.DownloadTaskRequest, context: Any
    ) -> AsyncIterator[dfdaemon_pb2.DownloadTaskResponse]:
        self.woken.append(request)
        await self._play(request)
        yield dfdaemon_pb2.DownloadTaskResponse(task_id=TASK)


@asynccontextmanager
async def served(add: Callable[[grpc.aio.Server], None]) -> AsyncIterator[int]:
    server = grpc.aio.server()
    add(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)


async def until(condition: Callable[[], Any]) -> None:
    """Wait for what other tasks of this loop do."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 (a log line is no event one could wait for)
            await asyncio.sleep(0.01)


async def test_cold_file_is_read_from_the_origin_by_a_seed_and_offered_to_whoever_waits(client: Client) -> None:
    is_done = asyncio.Event()

    async def fetch(request: dfdaemon_pb2.DownloadTaskRequest) -> None:
        seed = client.peer("seed")
        await seed.register(need_back_to_source=request.download.need_back_to_source)
        assert await seed.answer() == "need_back_to_source"
        await seed.at_source()
        await is_done.wait()
        await seed.source_finished()
        assert await seed.end() is grpc.StatusCode.OK

    fake = FakeSeed(fetch)
    async with served(lambda server: dfdaemon_pb2_grpc.add_DfdaemonUploadServicer_to_server(fake, server)) as port:
        await client.announce("seed", host_type=1, port=port)
        peers = []
        for name in ("a", "b", "c"):
            await client.announce(name)
            peer = client.peer(name)
            await peer.register(request_header={"Authorization": f"secret of {name}"}, output_path="/tmp/out")
            peers.append(peer)
        for peer in peers:
            offered = (await peer.response()).normal_task_response.candidate_parents
            assert offered[0].host.port in (port, 4000)
            assert all(parent.task.content_length == 40 * MiB for parent in offered)
            assert all("secret" not in str(parent) for parent in offered)
        is_done.set()
        [request] = fake.woken
        assert request.download.request_header["Authorization"].startswith("secret of ")
        assert not request.download.HasField("output_path")
        for peer in peers:
            await peer.send(download_peer_started_request=scheduler_pb2.DownloadPeerStartedRequest())
            await peer.send(download_peer_finished_request=scheduler_pb2.DownloadPeerFinishedRequest())
            assert await peer.end() is grpc.StatusCode.OK


async def test_host_that_has_not_announced_itself_is_not_found(client: Client) -> None:
    peer = client.peer("stranger")
    await peer.register()
    assert await peer.end() is grpc.StatusCode.NOT_FOUND


async def test_seed_that_cannot_be_reached_is_named_in_the_reason(client: Client) -> None:
    await client.announce("seed", host_type=1, port=1024)
    await client.announce("a")
    peer = client.peer("a")
    await peer.register()
    description = (await peer.response()).need_back_to_source_response.description
    assert "seed peer seed" in description


async def test_seed_that_ends_without_asking_is_given_up(client: Client) -> None:
    async def nothing(request: dfdaemon_pb2.DownloadTaskRequest) -> None:
        pass

    fake = FakeSeed(nothing)
    async with served(lambda server: dfdaemon_pb2_grpc.add_DfdaemonUploadServicer_to_server(fake, server)) as port:
        await client.announce("seed", host_type=1, port=port)
        await client.announce("a")
        peer = client.peer("a")
        await peer.register()
        assert "without asking" in (await peer.response()).need_back_to_source_response.description


async def test_next_peer_is_sent_to_the_origin_when_the_stream_of_the_first_breaks(client: Client) -> None:
    await client.announce("a")
    await client.announce("b")
    first, second = client.peer("a"), client.peer("b")
    await first.register()
    assert await first.answer() == "need_back_to_source"
    await second.register()
    first.call.cancel()
    assert await second.answer() == "need_back_to_source"


async def test_message_for_another_peer_ends_the_stream(client: Client) -> None:
    await client.announce("a")
    peer = client.peer("a")
    await peer.register()
    await peer.answer()
    started = scheduler_pb2.DownloadPeerStartedRequest()
    await peer.call.write(Request(host_id="a", task_id=TASK, peer_id="x", download_peer_started_request=started))
    assert await peer.end() is grpc.StatusCode.INVALID_ARGUMENT


async def test_peer_id_of_another_host_is_refused_and_its_owner_stays(client: Client) -> None:
    await client.announce("a")
    await client.announce("thief")
    owner, thief = client.peer("a"), client.peer("a", host="thief")
    await owner.register()
    await owner.answer()
    await thief.register()
    assert await thief.end() is grpc.StatusCode.INVALID_ARGUMENT
    await owner.source_finished()
    assert await owner.end() is grpc.StatusCode.OK


async def test_task_and_peer_can_be_asked_for_without_anybodys_headers(client: Client) -> None:
    await client.announce("a")
    peer = client.peer("a")
    await peer.register(request_header={"Authorization": "secret"})
    await peer.answer()
    await peer.source_finished()
    await peer.end()
    task = await client.stub.StatTask(scheduler_pb2.StatTaskRequest(host_id="a", task_id=TASK))
    assert (task.state, task.peer_count, task.has_available_peer) == ("Succeeded", 1, True)
    stat = scheduler_pb2.StatPeerRequest(host_id="a", task_id=TASK, peer_id="a")
    found = await client.stub.StatPeer(stat)
    assert (found.state, found.host.id) == ("Succeeded", "a")
    assert "secret" not in f"{task}{found}"
    await client.stub.DeleteTask(scheduler_pb2.DeleteTaskRequest(host_id="a", task_id=TASK))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.stub.StatPeer(stat)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_peers_are_deleted_by_their_own_host_only(client: Client) -> None:
    await client.announce("a")
    peer = client.peer("a")
    await peer.register()
    await peer.answer()
    await client.stub.DeletePeer(scheduler_pb2.DeletePeerRequest(host_id="b", task_id=TASK, peer_id="a"))
    assert (await client.stub.StatTask(scheduler_pb2.StatTaskRequest(host_id="a", task_id=TASK))).peer_count == 1
    await client.stub.DeletePeer(scheduler_pb2.DeletePeerRequest(host_id="a", task_id=TASK, peer_id="a"))
    assert await peer.end() is grpc.StatusCode.OK


async def roots_told(peer: PeerCall) -> dict[int, bytes]:
    """The next message, which tells of roots."""
    response = await peer.response()
    assert response.WhichOneof("response") == "piece_roots_response"
    return {root.number: root.root for root in response.piece_roots_response.roots}


async def source_at_work(client: Client, name: str = "source") -> PeerCall:
    await client.announce(name)
    source = client.peer(name)
    await source.register(generation="g")
    assert await source.answer() == "need_back_to_source"
    await source.at_source()
    return source


async def test_roots_of_the_source_are_told_to_children_before_their_parents_and_as_they_come(client: Client) -> None:
    source = await source_at_work(client)
    await source.source_piece(0, b"0" * 32)
    await client.announce("a")
    child = client.peer("a")
    await child.register(generation="g", takes_unasked=True)
    assert await roots_told(child) == {0: b"0" * 32}
    assert await child.answer() == "normal_task"
    await source.source_piece(1, b"1" * 32)
    assert await roots_told(child) == {1: b"1" * 32}
    await source.source_piece(2, b"no root")
    await source.source_piece(3, b"3" * 32)
    late: dict[int, bytes] = {}
    while len(late) < 2:
        late |= await roots_told(child)
    assert late == {2: b"", 3: b"3" * 32}
    await source.source_finished()
    assert await roots_told(child) == dict.fromkeys(range(4, 10), b"")


async def test_client_of_the_reference_never_hears_of_roots(client: Client) -> None:
    source = await source_at_work(client)
    await source.source_piece(0, b"0" * 32)
    await client.announce("a")
    child = client.peer("a")
    await child.register()
    assert await child.answer() == "normal_task"
    await source.source_piece(1, b"1" * 32)
    await source.source_finished()
    await child.send(download_peer_finished_request=scheduler_pb2.DownloadPeerFinishedRequest())
    assert await child.call.read() is grpc.aio.EOF


async def test_two_sources_that_disagree_are_named_in_the_log(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    """Attack 28."""
    sources = []
    for name in ("seed-1", "seed-2"):
        await client.announce(name, host_type=1)
        seed = client.peer(name)
        await seed.register(generation="g", need_back_to_source=True)
        assert await seed.answer() == "need_back_to_source"
        await seed.at_source()
        sources.append(seed)
    for source, root in zip(sources, (b"0" * 32, b"1" * 32), strict=True):
        await source.source_piece(0, root)
        stat = scheduler_pb2.StatTaskRequest(host_id="seed-1", task_id=TASK)
        await client.stub.StatTask(stat)
    await until(lambda: "peer seed-2 read another piece 0" in caplog.text)


def test_roots_a_peer_leaves_unread_are_put_into_one_message() -> None:
    identity = StreamIdentity(HostId("h"), public_task(TASK), PeerId("p"))
    stream = PeerStream(identity, common_pb2.Download(), changed=lambda: None)
    for number in range(10_000):
        stream.tell(roots_to_pb(TellRoots(PeerId("p"), ((number, b"r" * 32),))))
    for _ in range(16):
        assert stream.send(scheduler_pb2.AnnouncePeerResponse(normal_task_response={}))
    assert not stream.send(scheduler_pb2.AnnouncePeerResponse(normal_task_response={})), "answers are still counted"
    counts = [len(response.piece_roots_response.roots) for _ in range(3) if (response := stream.take())]
    assert counts == [4096, 4096, 10_000 - 2 * 4096]


async def test_scheduler_says_who_it_is_before_it_answers(client: Client) -> None:
    await client.announce("seed", host_type=1, port=1024)
    await client.announce("a")
    peer = client.peer("a")
    await peer.register(priority=common_pb2.LEVEL0)
    async with asyncio.timeout(PATIENCE):
        said = dict(await peer.call.initial_metadata())
    assert said["dragonfly-scheduler"] == __version__


async def test_unknown_hosts_are_asked_what_they_hold_and_known_ones_are_not(client: Client) -> None:
    assert (await client.announce("h"))["dragonfly-wants-held-tasks"] == "1"
    assert "dragonfly-wants-held-tasks" not in await client.announce("h")
    await client.stub.DeleteHost(scheduler_pb2.DeleteHostRequest(host_id="h"))
    assert (await client.announce("h"))["dragonfly-wants-held-tasks"] == "1"


async def test_held_tasks_are_offered_and_the_origin_is_left_alone(client: Client) -> None:
    held = scheduler_pb2.HeldTask(task_id=TASK, url=URL, generation="g", content_length=40 * MiB, piece_length=4 * MiB)
    await client.announce("h", held_tasks=[held])
    await client.announce("a")
    peer = client.peer("a")
    await peer.register(generation="g", takes_unasked=True)
    response = await peer.response()
    [parent] = response.normal_task_response.candidate_parents
    assert (parent.id, parent.host.id) == (f"h-{TASK}-held", "h")


async def test_held_tasks_that_make_no_sense_are_refused(client: Client) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.announce("h", held_tasks=[scheduler_pb2.HeldTask(task_id="nonsense", url=URL)])
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_seed_is_woken_for_the_part_that_is_wanted(client: Client) -> None:
    async def fetch(request: dfdaemon_pb2.DownloadTaskRequest) -> None:
        seed = client.peer("seed")
        await seed.register(need_back_to_source=True, range=request.download.range)
        assert await seed.answer() == "need_back_to_source"
        await seed.at_source()
        await seed.end()

    fake = FakeSeed(fetch)
    async with served(lambda server: dfdaemon_pb2_grpc.add_DfdaemonUploadServicer_to_server(fake, server)) as port:
        await client.announce("seed", host_type=1, port=port)
        for name in ("a", "b"):
            await client.announce(name)
            peer = client.peer(name)
            await peer.register(range=common_pb2.Range(start=5 * MiB, length=10))
            assert await peer.answer() == "normal_task"
        [request] = fake.woken
        assert (request.download.range.start, request.download.range.length) == (4 * MiB, 4 * MiB)


async def test_hosts_are_listed_until_they_leave(client: Client) -> None:
    await client.announce("a")
    await client.announce("seed", host_type=1)
    everybody = await client.stub.ListHosts(scheduler_pb2.ListHostsRequest())
    seeds = await client.stub.ListHosts(scheduler_pb2.ListHostsRequest(type=1))
    assert sorted(host.id for host in everybody.hosts) == ["a", "seed"]
    assert [host.id for host in seeds.hosts] == ["seed"]
    await client.stub.DeleteHost(scheduler_pb2.DeleteHostRequest(host_id="a"))
    left = await client.stub.ListHosts(scheduler_pb2.ListHostsRequest())
    assert [host.id for host in left.hosts] == ["seed"]


async def test_calls_that_are_not_there_yet_say_so_in_a_sentence(client: Client) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.stub.PreheatFile(scheduler_pb2.PreheatFileRequest(url=URL), timeout=PATIENCE)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "PreheatFile" in (caught.value.details() or "")
    call = client.stub.AnnouncePersistentPeer(timeout=PATIENCE)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert "AnnouncePersistentPeer" in (caught.value.details() or "")


async def test_scheduler_serves_while_its_manager_is_away(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with scheduler(settings(tmp_path, manager="127.0.0.1:1")) as client:
        await client.announce("a")
        await until(lambda: "without the manager" in caplog.text)
        await client.announce("b")


class FakeManager(manager_pb2_grpc.ManagerServicer):
    def __init__(self) -> None:
        self.updates: list[manager_pb2.UpdateSchedulerRequest] = []
        self.heartbeats = 0

    async def UpdateScheduler(self, request: Any, context: Any) -> manager_pb2.Scheduler:
        self.updates.append(request)
        return manager_pb2.Scheduler(id=1)

    async def KeepAlive(self, request_iterator: AsyncIterator[Any], context: Any) -> Empty:
        async for _ in request_iterator:
            self.heartbeats += 1
        return Empty()

    async def GetScheduler(self, request: Any, context: Any) -> manager_pb2.Scheduler:
        cluster = manager_pb2.SchedulerCluster(config=b'{"candidate_parent_limit": 1, "anything": "else"}')
        return manager_pb2.Scheduler(id=1, scheduler_cluster=cluster)


async def offered_count(client: Client, name: str) -> int:
    await client.announce(name)
    peer = client.peer(name)
    await peer.register()
    count = len((await peer.response()).normal_task_response.candidate_parents)
    peer.call.cancel()
    return count


async def add_holders(client: Client, count: int) -> None:
    for number in range(count):
        await client.announce(f"holder-{number}")
        peer = client.peer(f"holder-{number}")
        await peer.register(need_back_to_source=True)
        await peer.answer()
        await peer.source_finished()
        await peer.end()


async def test_manager_is_told_of_the_scheduler_and_its_limits_are_followed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    manager = FakeManager()
    async with (
        served(lambda server: manager_pb2_grpc.add_ManagerServicer_to_server(manager, server)) as port,
        scheduler(settings(tmp_path, manager=f"127.0.0.1:{port}")) as client,
    ):
        await until(lambda: manager.heartbeats >= 2 and "limits changed" in caplog.text)
        assert (manager.updates[0].hostname, manager.updates[0].ip) == ("scheduler-1", "127.0.0.1")
        await add_holders(client, 2)
        assert await offered_count(client, "a") == 1


async def test_local_file_stands_in_for_the_manager_and_is_read_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    file = tmp_path / "dynconfig.yaml"
    file.write_text("schedulerClusterConfig:\n  candidateParentLimit: 1\n")
    async with scheduler(settings(tmp_path)) as client:
        await add_holders(client, 3)
        assert await offered_count(client, "a") == 1
        file.write_text("schedulerClusterConfig:\n  candidateParentLimit: 2\n")
        await until(lambda: "limits changed" in caplog.text)
        assert await offered_count(client, "b") == 2
