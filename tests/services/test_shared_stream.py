"""All peers of a host on one stream, over real gRPC: each side against the real other one, or one that lacks it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any

import grpc
import grpc.aio
import pytest

from dragonfly.core.model.host import Host, HostType
from dragonfly.core.model.ids import HostId, PeerId
from dragonfly.core.model.units import MiB
from dragonfly.core.scheduling.commands import Command, OfferEmpty
from dragonfly.core.scheduling.config import SchedulingConfig
from dragonfly.core.scheduling.events import Event, PeerRegistered
from dragonfly.core.scheduling.machine import Scheduler
from dragonfly.dfdaemon.lines import Line
from dragonfly.dfdaemon.scheduler_link import SchedulerLink
from dragonfly.errors import DragonflyError, HostUnknown, InvalidInput, Overloaded, SchedulerUnreachable
from dragonfly.net.channels import ChannelPool
from dragonfly.scheduler.app import SchedulerService
from dragonfly.scheduler.host_stream import MAX_REFUSALS, HostStream, ip_of
from dragonfly.scheduler.seed_client import SeedClient
from dragonfly.scheduler.settings import SchedulerSettings
from dragonfly.scheduler.shell import Shell
from dragonfly.scheduler.stream import OUTGOING_LIMIT
from dragonfly.wire.announce import error_from_end
from dragonfly.wire.convert import host_to_pb
from dragonfly.wire.pb import common_pb2, scheduler_pb2, scheduler_pb2_grpc

PATIENCE = 10.0
Request = scheduler_pb2.AnnouncePeerRequest
Report = scheduler_pb2.PeerReport
Reports = scheduler_pb2.PeerReports


def task_id(number: int) -> str:
    return f"{number:064x}"


def request(peer_id: str, task: int = 0, host: str = "h", **message: Any) -> Request:
    return Request(host_id=host, task_id=task_id(task), peer_id=peer_id, **message)


def registration(peer_id: str, task: int = 0, host: str = "h", **download: Any) -> Request:
    options = {"url": "http://origin.test/file", "actual_content_length": MiB, "actual_piece_length": MiB} | download
    register = scheduler_pb2.RegisterPeerRequest(download=common_pb2.Download(**options))
    return request(peer_id, task, host, register_peer_request=register)


def started(peer_id: str, task: int = 0) -> Request:
    message = scheduler_pb2.DownloadPeerBackToSourceStartedRequest()
    return request(peer_id, task, download_peer_back_to_source_started_request=message)


def finished(peer_id: str, task: int = 0) -> Request:
    message = scheduler_pb2.DownloadPeerBackToSourceFinishedRequest()
    return request(peer_id, task, download_peer_back_to_source_finished_request=message)


def rescheduled(peer_id: str, task: int = 0) -> Request:
    return request(peer_id, task, reschedule_peer_request=scheduler_pb2.ReschedulePeerRequest())


class HostCall:
    """One AnnouncePeers stream, as a test writes and reads it."""

    def __init__(self, stub: Any, host: str = "h") -> None:
        self.call, self._host = stub.AnnouncePeers(timeout=PATIENCE), host
        self.messages: list[list[tuple[str, str]]] = []  # who was told what, message by message
        self.ends: dict[str, DragonflyError | None] = {}

    async def send(self, *said: Request | Report) -> None:
        reports = [Report(request=word) if isinstance(word, Request) else word for word in said]
        await self.call.write(Reports(host_id=self._host, reports=reports))

    def told(self, peer_id: str) -> list[str]:
        return [kind for message in self.messages for to, kind in message if to == peer_id]

    async def until(self, condition: Callable[[], object]) -> None:
        """Read until it holds."""
        while not condition():
            async with asyncio.timeout(PATIENCE):
                answers = await self.call.read()
            assert answers is not grpc.aio.EOF, await self.call.code()
            self.messages.append([(answer.peer_id, _kind(answer)) for answer in answers.answers])
            self.ends |= {
                answer.peer_id: error_from_end(answer.end) for answer in answers.answers if answer.HasField("end")
            }

    async def broken(self) -> grpc.StatusCode:
        """What the whole stream ends with, whatever is told before."""
        async with asyncio.timeout(PATIENCE):
            with suppress(grpc.aio.AioRpcError):  # the code says it, too
                while await self.call.read() is not grpc.aio.EOF:
                    pass
            code: grpc.StatusCode = await self.call.code()
        return code


def _kind(answer: scheduler_pb2.PeerAnswer) -> str:
    return "end" if answer.HasField("end") else str(answer.response.WhichOneof("response")).removesuffix("_response")


@asynccontextmanager
async def scheduler(tmp_path: Path, port: int = 0) -> AsyncIterator[SchedulerService]:
    tree = {
        "server": {"listenIP": "127.0.0.1", "port": port, "advertiseIP": "127.0.0.1", "host": "scheduler"},
        "dynConfig": {"path": str(tmp_path / "none.yaml")},
    }
    service = SchedulerService(SchedulerSettings.model_validate(tree))
    try:
        await service.start()
        yield service
    finally:
        await service.stop()


def announcement(name: str = "h") -> scheduler_pb2.AnnounceHostRequest:
    return scheduler_pb2.AnnounceHostRequest(host=described(name))


def described(name: str = "h") -> common_pb2.Host:
    return host_to_pb(Host(id=HostId(name), type=HostType.NORMAL, hostname=name, ip="127.0.0.1", port=1))


@pytest.fixture
async def stub(tmp_path: Path) -> AsyncIterator[Any]:
    """A scheduler that knows the host h."""
    async with (
        scheduler(tmp_path) as service,
        grpc.aio.insecure_channel(f"127.0.0.1:{service.port}") as channel,
    ):
        stub: Any = scheduler_pb2_grpc.SchedulerStub(channel)
        await stub.AnnounceHost(announcement())
        yield stub


async def peer_count(stub: Any, task: int) -> int:
    try:
        known = await stub.StatTask(scheduler_pb2.StatTaskRequest(task_id=task_id(task)))
    except grpc.aio.AioRpcError:
        return 0
    return int(known.peer_count)


# --- the scheduler's side


async def test_a_peer_is_answered_and_ended_as_on_a_stream_of_its_own(stub: Any) -> None:
    host = HostCall(stub)
    await host.send(registration("a"), started("a"), finished("a"), Report(finished_peer_id="a"))
    await host.until(lambda: "a" in host.ends)
    assert host.told("a") == ["need_back_to_source", "end"]
    assert host.ends["a"] is None


async def test_answers_that_wait_together_travel_together(stub: Any) -> None:
    host = HostCall(stub)
    names = [f"p{number}" for number in range(200)]
    await host.send(*(registration(name, task) for task, name in enumerate(names)))
    await host.until(lambda: all(map(host.told, names)))
    assert len(host.messages) < 20, "one message for each of them would be 200"


@pytest.mark.parametrize(
    "bad",
    [
        started("b", task=7),  # another task's name
        registration("b", task=1),  # a second registration
        request("b", task=1),  # nothing at all
    ],
)
async def test_bad_input_ends_one_peer_and_not_its_neighbours(stub: Any, bad: Request) -> None:
    host = HostCall(stub)
    await host.send(registration("a"), registration("b", task=1))
    await host.until(lambda: host.told("a") and host.told("b"))
    await host.send(bad, finished("a"), Report(finished_peer_id="a"))
    await host.until(lambda: {"a", "b"} <= host.ends.keys())
    assert isinstance(host.ends["b"], InvalidInput)
    assert host.ends["a"] is None
    assert await peer_count(stub, 1) == 0, "the peer that was ended has left"


async def test_a_host_speaks_for_itself_only(stub: Any) -> None:
    await stub.AnnounceHost(announcement("other"))
    host = HostCall(stub)
    await host.send(registration("a", host="other"), registration("", task=1), registration("b", task=2))
    await host.until(lambda: host.told("b"))
    assert isinstance(host.ends["a"], InvalidInput)
    assert isinstance(host.ends[""], InvalidInput)
    assert host.told("b") == ["need_back_to_source"]
    assert await peer_count(stub, 0) == 0


async def test_a_stream_names_its_host_first(stub: Any) -> None:
    host = HostCall(stub, host="")
    await host.send(registration("a", host=""))
    assert await host.broken() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_host_that_is_not_known_is_told_so_for_each_peer_and_may_register_again(stub: Any) -> None:
    host = HostCall(stub, host="new")
    await host.send(registration("a", host="new"))
    await host.until(lambda: "a" in host.ends)
    assert isinstance(host.ends["a"], HostUnknown)
    await stub.AnnounceHost(announcement("new"))
    await host.send(registration("a", host="new"))
    await host.until(lambda: "need_back_to_source" in host.told("a"))


async def test_a_peer_that_hangs_up_has_left_and_its_neighbours_have_not(stub: Any) -> None:
    host = HostCall(stub)
    await host.send(registration("a"), registration("b", task=1))
    await host.until(lambda: host.told("a") and host.told("b"))
    await host.send(Report(gone_peer_id="a"), registration("c"))
    await host.until(lambda: host.told("c"))
    assert host.told("c") == ["need_back_to_source"], "nobody else is at the origin"
    assert await peer_count(stub, 1) == 1


async def test_a_stream_that_breaks_loses_all_its_peers(stub: Any) -> None:
    host, other = HostCall(stub), HostCall(stub)
    await host.send(*(registration(f"p{task}", task) for task in range(5)))
    await host.until(lambda: all(host.told(f"p{task}") for task in range(5)))
    await other.send(*(registration(f"q{task}", task) for task in range(5)))
    host.call.cancel()
    await other.until(lambda: all(other.told(f"q{task}") == ["need_back_to_source"] for task in range(5)))
    assert [await peer_count(stub, task) for task in range(5)] == [1] * 5


async def test_a_peer_that_asks_too_often_is_ended_and_its_neighbours_are_not(stub: Any) -> None:
    held = scheduler_pb2.HeldTask(
        task_id=task_id(0), url="http://origin.test/file", generation="g", content_length=MiB, piece_length=MiB
    )
    await stub.AnnounceHost(scheduler_pb2.AnnounceHostRequest(host=described("other"), held_tasks=[held]))
    host = HostCall(stub)
    await host.send(registration("a", generation="g"), registration("b", task=1))
    await host.until(lambda: host.told("a") and host.told("b"))
    assert host.told("a") == ["normal_task"]
    await host.send(*(rescheduled("a") for _ in range(100)), finished("b", task=1))
    await host.until(lambda: {"a", "b"} <= host.ends.keys())
    assert host.ends["a"] is not None
    assert len(host.told("a")) <= 1 + 5 + 1, "its first parents, five answers, the end"
    assert host.ends["b"] is None


class Talkative(Scheduler):
    """Says more to the peer a than anybody may be owed, and one thing to every other."""

    def handle(self, event: Event, now: float) -> list[Command]:
        if not isinstance(event, PeerRegistered):
            return []
        return [OfferEmpty(event.peer_id)] * (OUTGOING_LIMIT + 1 if event.peer_id == "a" else 1)


async def test_a_peer_that_is_owed_too_much_unread_is_ended_and_its_neighbours_are_not() -> None:
    channels = ChannelPool()
    seeds = SeedClient(channels, PATIENCE, lambda host: None)
    shell = Shell(Talkative(SchedulingConfig(), Random(1)), seeds, clock=asyncio.get_running_loop().time)
    running = asyncio.create_task(shell.run(), name="scheduling")
    host = HostStream(shell, HostId("h"), "127.0.0.1", takes_fetches=False)
    await host.hear(Reports(reports=[Report(request=registration("a")), Report(request=registration("b", task=1))]))
    await shell.ask(lambda machine: None)
    told = [(answer.peer_id, answer) for answer in (await anext(host.answers())).answers]
    assert [peer_id for peer_id, _ in told] == ["a"] * (OUTGOING_LIMIT + 1) + ["b"]
    assert isinstance(error_from_end(told[OUTGOING_LIMIT][1].end), Overloaded)
    assert told[-1][1].HasField("response")
    host.close()
    running.cancel()
    await channels.close()


async def test_a_host_that_leaves_its_refusals_unread_is_not_heard_any_more(stub: Any) -> None:
    host = HostCall(stub)
    await host.send(*(registration(f"p{number}", host="x") for number in range(MAX_REFUSALS + 1)))
    assert await host.broken() is grpc.StatusCode.RESOURCE_EXHAUSTED


# --- the daemon's side


class SchedulerOfOthers(scheduler_pb2_grpc.SchedulerServicer):
    """Knows AnnouncePeer only, and sends whoever registers to the origin."""

    def __init__(self) -> None:
        self.registered: list[str] = []

    async def AnnouncePeer(
        self, requests: AsyncIterator[Request], context: Any
    ) -> AsyncIterator[scheduler_pb2.AnnouncePeerResponse]:
        async for request in requests:
            if request.HasField("register_peer_request"):
                self.registered.append(request.peer_id)
                yield scheduler_pb2.AnnouncePeerResponse(need_back_to_source_response={})


@pytest.fixture
async def link() -> AsyncIterator[SchedulerLink]:
    channels = ChannelPool()
    link = SchedulerLink(tuple, described, channels, 5.0)
    yield link
    await link.close()
    await channels.close()


async def heard(line: Line) -> scheduler_pb2.AnnouncePeerResponse:
    async with asyncio.timeout(PATIENCE):
        answer = await line.hear()
    assert answer is not None, "the scheduler ended the conversation"
    return answer


async def served_by(line: Line, peer_id: str) -> str:
    """Registers; what kind of answer comes."""
    line.say(registration(peer_id, task=int(peer_id)))
    return str((await heard(line)).WhichOneof("response"))


def shared_calls(calls: Iterable[asyncio.Task[Any]]) -> int:
    return sum(call.get_name().startswith("peers at scheduler") for call in calls)


async def test_peers_of_a_daemon_share_a_stream_and_end_on_their_own(tmp_path: Path, link: SchedulerLink) -> None:
    async with scheduler(tmp_path) as service:
        address = f"127.0.0.1:{service.port}"
        await link.announce_host(address)
        async with link.line(address, PeerId("1")) as one, link.line(address, PeerId("2")) as two:
            assert await served_by(one, "1") == await served_by(two, "2") == "need_back_to_source_response"
            assert shared_calls(asyncio.all_tasks()) == 1
            one.say(finished("1", task=1))
            one.finish()
            async with asyncio.timeout(PATIENCE):
                assert await one.hear() is None
            two.say(started("2", task=9))
            with pytest.raises(InvalidInput):
                await heard(two)


async def test_a_scheduler_without_shared_streams_is_asked_once_and_gets_a_stream_for_each_peer(
    link: SchedulerLink,
) -> None:
    fake, server = SchedulerOfOthers(), grpc.aio.server()
    scheduler_pb2_grpc.add_SchedulerServicer_to_server(fake, server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    for peer_id in ("1", "2"):
        async with link.line(address, PeerId(peer_id)) as line:
            assert await served_by(line, peer_id) == "need_back_to_source_response"
            assert not await line.is_ours()
            assert shared_calls(asyncio.all_tasks()) == 0
    assert fake.registered == ["1", "2"]
    await server.stop(0)


async def test_a_scheduler_that_stops_is_lost_to_all_peers_and_found_again_when_it_is_back(
    tmp_path: Path, link: SchedulerLink
) -> None:
    async with scheduler(tmp_path) as service:
        port = service.port
        address = f"127.0.0.1:{port}"
        await link.announce_host(address)
        async with link.line(address, PeerId("1")) as one, link.line(address, PeerId("2")) as two:
            await served_by(one, "1")
            await served_by(two, "2")
            await service.stop()
            for line in (one, two):
                with pytest.raises(SchedulerUnreachable):
                    await heard(line)
    async with scheduler(tmp_path, port):
        await link.announce_host(address)
        async with link.line(address, PeerId("3")) as line:
            assert await served_by(line, "3") == "need_back_to_source_response"


async def test_a_scheduler_that_falls_silent_is_lost_to_all_peers_at_once(tmp_path: Path, link: SchedulerLink) -> None:
    async with scheduler(tmp_path) as service:
        address = f"127.0.0.1:{service.port}"
        await link.announce_host(address)
        async with link.line(address, PeerId("1")) as one, link.line(address, PeerId("2")) as two:
            await served_by(one, "1")
            await served_by(two, "2")
            link.silence(address).begin()
            for line in (one, two):
                with pytest.raises(SchedulerUnreachable):
                    await heard(line)


async def test_an_idle_stream_does_not_hold_up_a_scheduler_that_stops(tmp_path: Path, link: SchedulerLink) -> None:
    async with scheduler(tmp_path) as service:
        address = f"127.0.0.1:{service.port}"
        await link.announce_host(address)
        async with link.line(address, PeerId("1")) as line:
            await served_by(line, "1")
        before = asyncio.get_running_loop().time()
        await service.stop()
        assert asyncio.get_running_loop().time() - before < 0.9


# --- seeds


class Seed:
    """A seed daemon's part: fetches what it is asked for, as the test says."""

    def __init__(self, error: Exception | None = None) -> None:
        self.asked: list[common_pb2.Download] = []
        self._error = error

    async def fetch(self, download: common_pb2.Download) -> None:
        self.asked.append(download)
        if self._error is not None:
            raise self._error


@asynccontextmanager
async def seed_at(port: int, seed: Seed, ip: str = "127.0.0.1") -> AsyncIterator[SchedulerLink]:
    """A seed that no call reaches: its gRPC port is none."""
    host = Host(id=HostId("seed"), type=HostType.SUPER, hostname="seed", ip=ip, port=1)
    channels = ChannelPool()
    link = SchedulerLink(tuple, lambda: host_to_pb(host), channels, 5.0, fetch=seed.fetch)
    await link.announce_host(f"127.0.0.1:{port}")
    yield link
    await link.close()
    await channels.close()


async def reason_after_seeding(service: SchedulerService, **download: Any) -> str:
    """Why the scheduler sends a child of the host h to the origin, after its seed did what it does."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{service.port}") as channel:
        stub: Any = scheduler_pb2_grpc.SchedulerStub(channel)
        await stub.AnnounceHost(announcement())
        host = HostCall(stub)
        await host.send(registration("a", **download))
        async with asyncio.timeout(PATIENCE):
            answers = await host.call.read()
    return str(answers.answers[0].response.need_back_to_source_response.description)


async def test_a_seed_is_woken_on_its_stream_with_what_a_call_would_have_told_it(tmp_path: Path) -> None:
    seed = Seed()
    async with scheduler(tmp_path) as service, seed_at(service.port, seed):
        reason = await reason_after_seeding(
            service, request_header={"Authorization": "secret"}, output_path="/out", range={"start": 0, "length": 7}
        )
    [asked] = seed.asked
    assert (asked.url, asked.request_header["Authorization"]) == ("http://origin.test/file", "secret")
    assert asked.need_back_to_source
    assert not asked.HasField("output_path")
    assert "without asking" in reason


async def test_what_a_seed_failed_with_comes_back_in_its_words(tmp_path: Path) -> None:
    async with scheduler(tmp_path) as service, seed_at(service.port, Seed(Overloaded(reason="no room for it"))):
        assert "no room for it" in await reason_after_seeding(service)


async def test_a_defect_of_a_seed_ends_its_fetch(tmp_path: Path) -> None:
    async with scheduler(tmp_path) as service, seed_at(service.port, Seed(ZeroDivisionError())):
        assert "ZeroDivisionError" in await reason_after_seeding(service)


async def test_a_seed_whose_stream_breaks_is_given_up(tmp_path: Path) -> None:
    class Stuck(Seed):
        async def fetch(self, download: common_pb2.Download) -> None:
            link.silence(f"127.0.0.1:{service.port}").begin()
            await asyncio.Event().wait()

    async with scheduler(tmp_path) as service, seed_at(service.port, Stuck()) as link:
        assert "its stream broke" in await reason_after_seeding(service)


async def test_a_stream_from_elsewhere_than_the_seed_said_is_not_told_what_to_fetch(tmp_path: Path) -> None:
    seed = Seed()
    async with scheduler(tmp_path) as service, seed_at(service.port, seed, ip="127.0.0.2"):
        assert "127.0.0.2:1" in await reason_after_seeding(service)
    assert not seed.asked


def test_callers_are_known_by_their_addresses() -> None:
    names = (
        "ipv4:10.0.0.1:4711",
        "ipv6:%5B::1%5D:4711",
        "ipv6:[2001:db8::7]:1",
        "unix:/run/x.sock",
        "",
        "ipv6:[::ffff:10.0.0.2]:1",
    )
    assert [ip_of(name) for name in names] == ["10.0.0.1", "::1", "2001:db8::7", "", "", "10.0.0.2"]
