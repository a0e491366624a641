"""A scheduling machine on a clock the test moves, and short words for what happens to it."""

from random import Random
from typing import TypeVar

from dragonfly.core.model.host import Host, HostType, Network
from dragonfly.core.model.ids import HostId, PeerId, TaskId, TaskKey
from dragonfly.core.model.piece import PieceGeometry
from dragonfly.core.model.principal import PUBLIC_SCOPE
from dragonfly.core.model.ranges import ByteRange
from dragonfly.core.model.task import HeldTask, Priority, TaskDescription
from dragonfly.core.model.units import MiB, Seconds
from dragonfly.core.scheduling import events as happened
from dragonfly.core.scheduling.commands import (
    CallAgainAt,
    Command,
    OfferBackToSource,
    OfferParents,
    RefusePeer,
    TellRoots,
    TriggerSeedPeer,
)
from dragonfly.core.scheduling.config import SchedulingConfig
from dragonfly.core.scheduling.machine import Scheduler

KEY = TaskKey(PUBLIC_SCOPE, TaskId("a" * 64))
URL = "http://origin.test/file"
GEOMETRY = PieceGeometry(40 * MiB, 4 * MiB)

C = TypeVar("C")


def task(geometry: PieceGeometry | None = GEOMETRY, key: TaskKey = KEY) -> TaskDescription:
    return TaskDescription(key=key, url=URL, geometry=geometry)


def host(name: str, *, is_seed: bool = False, disable_shared: bool = False, network: Network | None = None) -> Host:
    return Host(
        id=HostId(name),
        type=HostType.SUPER if is_seed else HostType.NORMAL,
        hostname=name,
        ip="127.0.0.1",
        port=4000,
        disable_shared=disable_shared,
        network=network or Network(),
    )


class Play:
    """Peers are named like their hosts: peer `a` runs on host `a` unless a test says otherwise."""

    def __init__(self, *, config: SchedulingConfig | None = None, seed: int = 7) -> None:
        self.machine = Scheduler(config or SchedulingConfig(), Random(seed))
        self.now: Seconds = 1000.0
        self.calls: dict[str, int] = {}  # the latest call to each seed

    def post(self, event: happened.Event) -> list[Command]:
        """What the machine does about it, timers aside; its promises are checked each time."""
        commands = self.machine.handle(event, self.now)
        self.machine.check_invariants()
        self.calls |= {command.host.id: command.call for command in of_kind(commands, TriggerSeedPeer)}
        return [command for command in commands if not isinstance(command, CallAgainAt)]

    def announce(self, *names: str, is_seed: bool = False, disable_shared: bool = False) -> None:
        for name in names:
            self.post(happened.HostAnnounced(host(name, is_seed=is_seed, disable_shared=disable_shared), 300.0))

    def register(
        self,
        name: str,
        *,
        on: str | None = None,
        description: TaskDescription | None = None,
        priority: Priority = Priority.LEVEL0,
        need_back_to_source: bool = False,
        disable_back_to_source: bool = False,
        metadata_only: bool = False,
        interest: ByteRange | None = None,
        generation: str = "",
        takes_unasked: bool = False,
    ) -> list[Command]:
        if HostId(on or name) not in self.machine.hosts:
            self.announce(on or name)
        return self.post(
            happened.PeerRegistered(
                peer_id=PeerId(name),
                host_id=HostId(on or name),
                task=description or task(),
                priority=priority,
                need_back_to_source=need_back_to_source,
                disable_back_to_source=disable_back_to_source,
                metadata_only=metadata_only,
                interest=interest,
                generation=generation,
                takes_unasked=takes_unasked,
            )
        )

    def started(self, name: str) -> list[Command]:
        return self.post(happened.PeerStarted(PeerId(name)))

    def at_source(self, name: str) -> list[Command]:
        return self.post(happened.PeerBackToSourceStarted(PeerId(name)))

    def finished(self, name: str) -> list[Command]:
        return self.post(happened.PeerFinished(PeerId(name)))

    def failed(self, name: str, description: str = "") -> list[Command]:
        return self.post(happened.PeerFailed(PeerId(name), description))

    def left(self, name: str) -> list[Command]:
        return self.post(happened.PeerLeft(PeerId(name)))

    def rescheduled(self, name: str, *parents: str, reason: str = "") -> list[Command]:
        return self.post(happened.PeerRescheduled(PeerId(name), tuple(map(PeerId, parents)), reason))

    def complain(self, name: str, parent: str, *, temporary: bool = True) -> list[Command]:
        return self.post(happened.PieceFailed(PeerId(name), 0, PeerId(parent), temporary))

    def trigger_failed(self, seed: str, reason: str = "it refused") -> list[Command]:
        return self.post(happened.SeedTriggerFailed(KEY, HostId(seed), reason, self.calls.get(seed, 0)))

    def pass_time(self, seconds: Seconds) -> list[Command]:
        self.now += seconds
        return self.post(happened.TimeReached())

    def piece(self, name: str, number: int, root: bytes = b"", *, parent: str | None = None) -> list[Command]:
        parent_id = None if parent is None else PeerId(parent)
        return self.post(happened.PieceFinished(PeerId(name), number, parent_id, root))

    def stream_finished(self, name: str, content_length: int) -> list[Command]:
        """A source of unknown length read to its end."""
        return self.post(happened.PeerBackToSourceFinished(PeerId(name), content_length))

    def source_finished(self, name: str) -> list[Command]:
        return self.post(happened.PeerBackToSourceFinished(PeerId(name)))

    def holds(
        self, name: str, *, description: TaskDescription | None = None, generation: str = "", announced: bool = True
    ) -> list[Command]:
        """Host `name` says that it has a task whole."""
        if announced and HostId(name) not in self.machine.hosts:
            self.announce(name)
        return self.post(happened.TasksHeld(HostId(name), (HeldTask(description or task(), generation),)))

    def add_source(self, name: str = "source") -> None:
        """A peer that reads the origin."""
        self.register(name, need_back_to_source=True)
        self.at_source(name)

    def add_holder(self, name: str = "holder", *, interest: ByteRange | None = None, generation: str = "") -> None:
        """A peer that has it all."""
        self.register(name, need_back_to_source=True, interest=interest, generation=generation)
        self.at_source(name)
        self.post(happened.PeerBackToSourceFinished(PeerId(name)))


def of_kind(commands: list[Command], kind: type[C]) -> list[C]:
    return [command for command in commands if isinstance(command, kind)]


def only(commands: list[Command], kind: type[C]) -> C:
    """The one command there is, which is of this kind."""
    [command] = commands
    assert isinstance(command, kind), command
    return command


def parents_of(commands: list[Command], name: str) -> list[str]:
    """The parents offered to a peer; the backbone parent first."""
    [offer] = [offer for offer in of_kind(commands, OfferParents) if offer.peer_id == name]
    return [parent.peer_id for parent in offer.parents]


def told(commands: list[Command], name: str) -> list[dict[int, bytes]]:
    """The messages with roots a peer is told, in order."""
    return [dict(command.roots) for command in of_kind(commands, TellRoots) if command.peer_id == name]


def sent_to_source(commands: list[Command]) -> list[str]:
    return [command.peer_id for command in of_kind(commands, OfferBackToSource)]


def woken(commands: list[Command]) -> list[str]:
    return [command.host.id for command in of_kind(commands, TriggerSeedPeer)]


def refused(commands: list[Command]) -> list[str]:
    return [command.peer_id for command in of_kind(commands, RefusePeer)]
