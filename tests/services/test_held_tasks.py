"""A daemon tells schedulers what it holds: over real gRPC, to real schedulers that start, forget and start again."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from dragonfly.core.model.host import Host, HostType
from dragonfly.core.model.ids import HostId, TaskId, public_task
from dragonfly.core.model.piece import PieceGeometry
from dragonfly.core.model.task import HeldTask, TaskDescription
from dragonfly.core.model.units import MiB
from dragonfly.core.scheduling.commands import Command
from dragonfly.core.scheduling.events import Event, TasksHeld
from dragonfly.dfdaemon.announcer import HostAnnouncer
from dragonfly.dfdaemon.scheduler_link import SchedulerLink
from dragonfly.net.channels import ChannelPool
from dragonfly.scheduler.app import SchedulerService
from dragonfly.scheduler.settings import SchedulerSettings
from dragonfly.wire.convert import host_to_pb
from dragonfly.wire.pb import common_pb2, scheduler_pb2

GEOMETRY = PieceGeometry(40 * MiB, 4 * MiB)


def held(number: int) -> HeldTask:
    key = public_task(f"{number:064x}")
    return HeldTask(TaskDescription(key=key, url="http://origin.test/file", geometry=GEOMETRY), "g")


def described() -> common_pb2.Host:
    return host_to_pb(Host(id=HostId("h"), type=HostType.NORMAL, hostname="h", ip="127.0.0.1", port=1))


class Hearing:
    """What schedulers were told of held tasks, message by message."""

    def __init__(self) -> None:
        self.messages: list[TasksHeld] = []

    def observe(self, event: Event, commands: list[Command]) -> None:
        if isinstance(event, TasksHeld):
            self.messages.append(event)

    @property
    def tasks(self) -> set[TaskId]:
        return {held.task.key.task_id for message in self.messages for held in message.tasks}


@asynccontextmanager
async def scheduler(tmp_path: Path, hearing: Hearing, port: int = 0) -> AsyncIterator[int]:
    tree = {
        "server": {"listenIP": "127.0.0.1", "port": port, "advertiseIP": "127.0.0.1", "host": "scheduler"},
        "dynConfig": {"path": str(tmp_path / "none.yaml")},
    }
    service = SchedulerService(SchedulerSettings.model_validate(tree), observe=hearing.observe)
    try:
        await service.start()
        yield service.port
    finally:
        await service.stop()


@pytest.fixture
async def channels() -> AsyncIterator[ChannelPool]:
    pool = ChannelPool()
    yield pool
    await pool.close()


Link = Callable[..., SchedulerLink]


@pytest.fixture
def link(channels: ChannelPool) -> Link:
    def made(*ports: int, tasks: int = 1) -> SchedulerLink:
        addresses = [f"127.0.0.1:{port}" for port in ports]
        return SchedulerLink(lambda: addresses, described, channels, 5.0, held=lambda: map(held, range(tasks)))

    return made


async def test_first_announcement_is_followed_by_what_is_held_and_later_ones_are_not(
    tmp_path: Path, link: Link
) -> None:
    hearing = Hearing()
    async with scheduler(tmp_path, hearing) as port:
        announcer = HostAnnouncer(link(port), 5.0)
        await announcer.announce()
        await announcer.announce()
    assert [len(message.tasks) for message in hearing.messages] == [1]
    assert hearing.messages[0].tasks == (held(0),)


async def test_many_tasks_are_told_in_parts(tmp_path: Path, link: Link) -> None:
    hearing = Hearing()
    async with scheduler(tmp_path, hearing) as port:
        await link(port, tasks=1201).announce_host(f"127.0.0.1:{port}")
    assert [len(message.tasks) for message in hearing.messages] == [500, 500, 201]
    assert len(hearing.tasks) == 1201


async def test_scheduler_that_restarted_is_told_again_and_offers_the_copy(tmp_path: Path, link: Link) -> None:
    first, second = Hearing(), Hearing()
    async with scheduler(tmp_path, first) as port:
        schedulers = link(port)
        await schedulers.announce_host(f"127.0.0.1:{port}")
    async with scheduler(tmp_path, second, port):
        await schedulers.announce_host(f"127.0.0.1:{port}")
        stat = await schedulers.stat_task(scheduler_pb2.StatTaskRequest(host_id="h", task_id=f"{0:064x}"))
    assert first.tasks == second.tasks
    assert (stat.has_available_peer, stat.content_length) == (True, 40 * MiB)


async def test_daemon_that_restarted_tells_a_scheduler_that_still_knows_its_host(tmp_path: Path, link: Link) -> None:
    hearing = Hearing()
    async with scheduler(tmp_path, hearing) as port:
        await link(port).announce_host(f"127.0.0.1:{port}")
        await link(port, tasks=2).announce_host(f"127.0.0.1:{port}")
        stat = scheduler_pb2.StatTaskRequest(host_id="h", task_id=f"{0:064x}")
        assert (await link(port).stat_task(stat)).peer_count == 1, "the copy that was known already is counted once"
    assert len(hearing.tasks) == 2


async def test_tasks_are_told_to_the_scheduler_they_belong_to_and_the_one_that_stands_in(
    tmp_path: Path, link: Link
) -> None:
    hearings = [Hearing() for _ in range(3)]
    async with (
        scheduler(tmp_path, hearings[0]) as a,
        scheduler(tmp_path, hearings[1]) as b,
        scheduler(tmp_path, hearings[2]) as c,
    ):
        schedulers = link(a, b, c, tasks=30)
        await HostAnnouncer(schedulers, 5.0).announce()
        ports = (a, b, c)
        for number in range(30):
            key = held(number).task.key
            expected = set(schedulers.addresses_for(key.wire_id)[:2])
            told = {
                f"127.0.0.1:{port}"
                for port, hearing in zip(ports, hearings, strict=True)
                if key.task_id in hearing.tasks
            }
            assert told == expected
