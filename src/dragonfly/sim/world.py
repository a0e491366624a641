"""One task in a simulated cluster: real minds, virtual time, a heap of what happens when.

Every peer is a `core.transfer.Download`, the scheduler a `core.scheduling.Scheduler`; this module plays what the
shells do in the daemons: it carries out their commands and comes back with events, after the time these take.
"""

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from dragonfly.core.model.host import Host, HostType
from dragonfly.core.model.ids import HostId, PeerId, TaskId, TaskKey
from dragonfly.core.model.piece import Piece, PieceGeometry, PieceNumber, PieceSet
from dragonfly.core.model.principal import PUBLIC_SCOPE
from dragonfly.core.model.task import Priority, TaskDescription
from dragonfly.core.model.units import MiB, Seconds
from dragonfly.core.scheduling import commands as scheduler_says
from dragonfly.core.scheduling import events as scheduler_hears
from dragonfly.core.scheduling.config import SchedulingConfig
from dragonfly.core.scheduling.machine import Scheduler
from dragonfly.core.transfer import commands as peer_says
from dragonfly.core.transfer import events as peer_hears
from dragonfly.core.transfer.download import Download, DownloadTerms
from dragonfly.sim.links import Link, transfer

URL = "http://origin/file"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A flash crowd: `peers` hosts with equal links ask for one file at the same moment. Rates in bytes per second."""

    peers: int
    pieces: int
    piece_length: int = 4 * MiB
    rate: float = 125_000_000.0  # 1 Gbit/s each way
    origin_rate: float = 125_000_000.0
    delay: Seconds = 0.0005  # one way; a message costs this much
    seed: int = 1


@dataclass(slots=True)
class SimulatedPeer:
    """One host with its download. `watchers` are the children that listen to its pieces."""

    host: Host
    peer_id: PeerId
    machine: Download
    up: Link
    down: Link
    have: PieceSet = field(default_factory=PieceSet)
    watchers: dict[PeerId, None] = field(default_factory=dict)
    finished_at: Seconds | None = None


class World:
    """Runs one scenario to its end."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario, self.now, self.messages = scenario, 0.0, 0
        self.origin = Link(scenario.origin_rate)
        self._rng = random.Random(scenario.seed)
        self._order = itertools.count()
        self._heap: list[tuple[Seconds, int, Callable[[], None]]] = []
        self._geometry = PieceGeometry(scenario.pieces * scenario.piece_length, scenario.piece_length)
        self._task = TaskDescription(key=TaskKey(PUBLIC_SCOPE, TaskId("5" * 64)), url=URL, geometry=self._geometry)
        self._scheduler = Scheduler(SchedulingConfig(), random.Random(self._rng.random()))
        self.seed_peer = self._make_peer("seed", HostType.SUPER)
        self.peers = [self._make_peer(f"peer-{number}", HostType.NORMAL) for number in range(scenario.peers)]
        self._by_id = {peer.peer_id: peer for peer in (self.seed_peer, *self.peers)}

    def run(self) -> None:
        """Everybody asks at once; returns when nothing is left to happen."""
        for peer in self._by_id.values():
            self._tell_scheduler(scheduler_hears.HostAnnounced(peer.host))
        for peer in self.peers:
            self._tell_peer(peer, peer_hears.Started())
        while self._heap:
            self.now, _, action = heapq.heappop(self._heap)
            action()

    def _make_peer(self, name: str, kind: HostType) -> SimulatedPeer:
        host = Host(id=HostId(name), type=kind, hostname=name, ip="127.0.0.1", port=4000)
        terms = DownloadTerms(url=URL, concurrent_piece_count=4, requests_per_parent=1)
        machine = Download(terms, PieceSet.full(self._geometry.piece_count), random.Random(self._rng.random()))
        rate = self.scenario.rate
        return SimulatedPeer(host, PeerId(f"{name}-of-task"), machine, Link(rate), Link(rate))

    def _later(self, at: Seconds, action: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (at, next(self._order), action))

    # --- the scheduler

    def _send_to_scheduler(self, event: scheduler_hears.Event) -> None:
        self.messages += 1
        self._later(self.now + self.scenario.delay, lambda: self._tell_scheduler(event))

    def _tell_scheduler(self, event: scheduler_hears.Event) -> None:
        for command in self._scheduler.handle(event, self.now):
            self._carry_out_for_scheduler(command)

    def _carry_out_for_scheduler(self, command: scheduler_says.Command) -> None:
        match command:
            case scheduler_says.OfferParents(peer_id=peer_id, parents=parents):
                offered = tuple(peer_hears.Parent(parent.peer_id, parent.host.id) for parent in parents)
                self._answer(peer_id, peer_hears.ParentsOffered(offered))
            case scheduler_says.OfferBackToSource(peer_id=peer_id, reason=reason):
                self._answer(peer_id, peer_hears.BackToSourceOffered(reason))
            case scheduler_says.RefusePeer(peer_id=peer_id, error=error):
                self._answer(peer_id, peer_hears.SchedulerRefused(error))
            case scheduler_says.TriggerSeedPeer():
                self._answer(self.seed_peer.peer_id, peer_hears.Started())
            case scheduler_says.CallAgainAt(at=at):
                self._later(at, self._call_scheduler)
            case scheduler_says.TellRoots():
                self.messages += 1  # nobody lies here, so nobody checks
            case _:
                pass  # a closed stream changes nothing here

    def _call_scheduler(self) -> None:
        """Its alarm; once everybody has finished there is nothing left to look after."""
        if any(peer.finished_at is None for peer in self.peers):
            self._tell_scheduler(scheduler_hears.TimeReached())

    def _answer(self, peer_id: PeerId, event: peer_hears.Event) -> None:
        self.messages += 1
        peer = self._by_id[peer_id]
        self._later(self.now + self.scenario.delay, lambda: self._tell_peer(peer, event))

    # --- peers

    def _tell_peer(self, peer: SimulatedPeer, event: peer_hears.Event) -> None:
        for command in peer.machine.handle(event, self.now):
            self._carry_out_for_peer(peer, command)

    def _carry_out_for_peer(self, peer: SimulatedPeer, command: peer_says.Command) -> None:
        match command:
            case peer_says.WatchParent(parent=parent):
                self._watch(peer, self._by_id[parent.peer_id])
            case peer_says.UnwatchParent(parent_id=parent_id):
                self._by_id[parent_id].watchers.pop(peer.peer_id, None)
            case peer_says.FetchFromParent(number=number, parent_id=parent_id):
                self._fetch(peer, number, self._by_id[parent_id].up, parent_id)
            case peer_says.FetchFromSource(numbers=numbers):
                for number in numbers:
                    self._fetch(peer, number, self.origin, None)
            case peer_says.Finish():
                peer.finished_at = self.now
            case _:
                if event := self._report(peer, command):
                    self._send_to_scheduler(event)

    def _watch(self, child: SimulatedPeer, parent: SimulatedPeer) -> None:
        parent.watchers[child.peer_id] = None
        for number in parent.have:
            self._announce(parent, child.peer_id, number)

    def _announce(self, parent: SimulatedPeer, child_id: PeerId, number: PieceNumber) -> None:
        child = self._by_id[child_id]
        event = peer_hears.PieceAnnounced(parent.peer_id, number)
        self._later(self.now + self.scenario.delay, lambda: self._tell_peer(child, event))

    def _fetch(self, peer: SimulatedPeer, number: PieceNumber, sender: Link, parent_id: PeerId | None) -> None:
        span = self._geometry.span(number)
        piece = Piece(number, span.start, span.length, "crc32:0", parent_id)
        arrival = transfer(sender, peer.down, span.length, 2 * self.scenario.delay, self.now)
        self._later(arrival, lambda: self._arrived(peer, piece))

    def _arrived(self, peer: SimulatedPeer, piece: Piece) -> None:
        peer.have.add(piece.number)
        for child_id in peer.watchers:
            self._announce(peer, child_id, piece.number)
        self._tell_peer(peer, peer_hears.PieceFetched(piece))

    def _report(self, peer: SimulatedPeer, command: peer_says.Command) -> scheduler_hears.Event | None:
        """What a command for the scheduler becomes when it gets there; None for those that stay here."""
        match command:
            case peer_says.Register():
                is_seed = peer is self.seed_peer
                return scheduler_hears.PeerRegistered(
                    peer_id=peer.peer_id,
                    host_id=peer.host.id,
                    task=self._task,
                    priority=Priority.LEVEL6,
                    need_back_to_source=is_seed,
                    takes_unasked=True,
                )
            case peer_says.ReportStarted():
                return scheduler_hears.PeerStarted(peer.peer_id)
            case peer_says.ReportBackToSourceStarted():
                return scheduler_hears.PeerBackToSourceStarted(peer.peer_id)
            case peer_says.ReportPiece(piece=piece):
                parent_id = None if piece.parent_id is None else PeerId(piece.parent_id)
                return scheduler_hears.PieceFinished(peer.peer_id, piece.number, parent_id)
            case peer_says.AskForParents(failed=failed, reason=reason):
                return scheduler_hears.PeerRescheduled(peer.peer_id, failed, reason)
            case peer_says.ReportFinished(from_source=True):
                return scheduler_hears.PeerBackToSourceFinished(peer.peer_id)
            case peer_says.ReportFinished():
                return scheduler_hears.PeerFinished(peer.peer_id)
        return None
