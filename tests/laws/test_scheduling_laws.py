"""Whatever happens in whatever order, the scheduling machine keeps its promises."""

from random import Random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dragonfly.core.model.host import Host, HostType
from dragonfly.core.model.ids import HostId, PeerId, TaskId, TaskKey
from dragonfly.core.model.piece import PieceGeometry
from dragonfly.core.model.principal import PUBLIC_SCOPE
from dragonfly.core.model.ranges import ByteRange
from dragonfly.core.model.task import HeldTask, Priority, TaskDescription
from dragonfly.core.model.units import MiB
from dragonfly.core.scheduling import events as happened
from dragonfly.core.scheduling.commands import (
    CallAgainAt,
    CloseStream,
    NoteOtherRoot,
    OfferBackToSource,
    OfferParents,
    RefusePeer,
    TellRoots,
    TriggerSeedPeer,
)
from dragonfly.core.scheduling.config import SchedulingConfig
from dragonfly.core.scheduling.machine import Scheduler
from dragonfly.core.scheduling.records import Peer, Standing

KEYS = [TaskKey(PUBLIC_SCOPE, TaskId(letter * 64)) for letter in "ab"]
HOSTS = [HostId(f"host-{number}") for number in range(8)]
SEEDS = HOSTS[:2]
PEERS = [PeerId(f"peer-{number}") for number in range(14)]

hosts, peers, keys = st.sampled_from(HOSTS), st.sampled_from(PEERS), st.sampled_from(KEYS)
geometries = st.sampled_from([None, PieceGeometry(40 * MiB, 4 * MiB), PieceGeometry(8 * MiB, 4 * MiB)])
interests = st.sampled_from([None, None, None, ByteRange(0, MiB), ByteRange(4 * MiB, 5 * MiB)])
generations = st.sampled_from(["", "one", "one", "one", "two"])


class Swarms(RuleBasedStateMachine):
    """Plays hosts and peers that do as they like; what the machine commands is believed and remembered."""

    @initialize(seed=st.integers(0, 2**16))
    def begin(self, seed: int) -> None:
        self.config = SchedulingConfig(complaint_limit=2)
        self.machine = Scheduler(self.config, Random(seed))
        self.now = 0.0
        self.call_at: float | None = None
        self.open: dict[PeerId, int] = {}  # peers with a stream, and the answers it carried
        self.told: dict[PeerId, dict[int, bytes]] = {}  # those of them that were promised roots, and what they know
        self.offered: set[PeerId] = set()
        self.calls: dict[HostId, int] = {}
        for host_id in HOSTS:
            self.host_announces(host_id, disable_shared=False)

    def post(self, event: happened.Event) -> None:
        for command in self.machine.handle(event, self.now):
            match command:
                case CallAgainAt(at):
                    self.call_at = at if self.call_at is None else min(at, self.call_at)
                case TriggerSeedPeer():
                    assert command.on_behalf_of in self.open
                    self.calls[command.host.id] = command.call
                case CloseStream() | RefusePeer():
                    assert command.peer_id in self.open, "no command names a peer without a stream"
                    self.forget(command.peer_id)
                case TellRoots():
                    self.hear_roots(command)
                case NoteOtherRoot():
                    pass
                case _:
                    assert command.peer_id in self.open, "no command names a peer without a stream"
                    self.open[command.peer_id] += 1
                    assert self.open[command.peer_id] <= self.config.answer_limit
                    if isinstance(command, OfferParents):
                        assert self.open[command.peer_id] < self.config.answer_limit, "the last answer settles it"
                        assert 0 < len(command.parents) <= self.config.candidate_parent_limit
                        self.offered.add(command.peer_id)
                        self.check_generations(command)
                    if isinstance(command, OfferBackToSource):
                        assert command.reason

    def forget(self, peer_id: PeerId) -> None:
        self.open.pop(peer_id, None)
        self.told.pop(peer_id, None)
        self.offered.discard(peer_id)

    def hear_roots(self, command: TellRoots) -> None:
        assert command.peer_id in self.open, "no command names a peer without a stream"
        assert self.machine.peers[command.peer_id].takes_unasked, "a peer of the reference would count it as an answer"
        assert command.peer_id in self.told or command.peer_id not in self.offered, "promised with the first parents"
        known = self.told.setdefault(command.peer_id, {})
        assert not known.keys() & dict(command.roots).keys(), "a root is told once"
        known.update(command.roots)

    def check_generations(self, command: OfferParents) -> None:
        wanted = self.machine.peers[command.peer_id].generation
        for parent in command.parents:
            had = self.machine.peers[parent.peer_id].generation
            assert not wanted or not had or wanted == had, "nobody is offered another generation"

    @rule(host_id=hosts, disable_shared=st.sampled_from([False, False, False, True]))
    def host_announces(self, host_id: HostId, disable_shared: bool) -> None:
        kind = HostType.SUPER if host_id in SEEDS else HostType.NORMAL
        host = Host(id=host_id, type=kind, hostname="h", ip="127.0.0.1", port=1, disable_shared=disable_shared)
        self.post(happened.HostAnnounced(host, 60.0))

    @rule(host_id=hosts)
    def host_leaves(self, host_id: HostId) -> None:
        self.post(happened.HostLeft(host_id))

    @rule(
        peer_id=peers,
        host_id=hosts,
        key=keys,
        geometry=geometries,
        interest=interests,
        generation=generations,
        priority=st.sampled_from([*Priority, *[Priority.LEVEL0] * 9]),
        flags=st.tuples(st.booleans(), st.booleans(), st.sampled_from([False, False, True])),
        takes_unasked=st.booleans(),
    )
    def peer_registers(
        self,
        peer_id: PeerId,
        host_id: HostId,
        key: TaskKey,
        geometry: PieceGeometry | None,
        interest: ByteRange | None,
        generation: str,
        priority: Priority,
        flags: tuple[bool, bool, bool],
        takes_unasked: bool,
    ) -> None:
        known = self.machine.peers.get(peer_id)
        if known is not None and (known.host.id != host_id or known.task != key):
            return  # the shell refuses such a stream by itself
        self.forget(peer_id)
        self.open[peer_id] = 0
        self.post(
            happened.PeerRegistered(
                peer_id=peer_id,
                host_id=host_id,
                task=TaskDescription(key=key, url="http://o/f", geometry=geometry),
                priority=priority,
                interest=interest,
                generation=generation,
                need_back_to_source=flags[0] and flags[2],
                disable_back_to_source=flags[1] and flags[2],
                metadata_only=flags[2] and not flags[0] and not flags[1],
                takes_unasked=takes_unasked,
            )
        )

    @rule(peer_id=peers, kind=st.sampled_from([happened.PeerStarted, happened.PeerBackToSourceStarted]))
    def peer_starts(self, peer_id: PeerId, kind: type[happened.PeerStarted]) -> None:
        if peer_id in self.open:
            self.post(kind(peer_id))

    @rule(host_id=hosts, key=keys, geometry=geometries, generation=generations)
    def host_tells_what_it_holds(
        self, host_id: HostId, key: TaskKey, geometry: PieceGeometry | None, generation: str
    ) -> None:
        task = TaskDescription(key=key, url="http://o/f", geometry=geometry)
        self.post(happened.TasksHeld(host_id, (HeldTask(task, generation),)))

    @rule(
        peer_id=peers,
        number=st.integers(0, 12),
        parent_id=st.none() | peers,
        root=st.sampled_from([b"", b"r" * 32, b"s" * 32]),
    )
    def piece_finishes(self, peer_id: PeerId, number: int, parent_id: PeerId | None, root: bytes) -> None:
        self.post(happened.PieceFinished(peer_id, number, parent_id, root))

    @rule(peer_id=peers, parent_id=peers, temporary=st.booleans())
    def piece_fails(self, peer_id: PeerId, parent_id: PeerId, temporary: bool) -> None:
        self.post(happened.PieceFailed(peer_id, 0, parent_id, temporary))

    @rule(peer_id=peers, everybody=st.booleans())
    def peer_reschedules(self, peer_id: PeerId, everybody: bool) -> None:
        peer = self.machine.peers.get(peer_id)
        if peer is not None and peer_id in self.open:
            parents = tuple(peer.parents) if everybody else tuple(peer.parents)[:1]
            self.post(happened.PeerRescheduled(peer_id, parents, "not all pieces"))

    @rule(
        peer_id=peers,
        kind=st.sampled_from([happened.PeerFinished, happened.PeerBackToSourceFinished, happened.PeerFailed]),
    )
    def peer_ends(self, peer_id: PeerId, kind: type[happened.PeerFinished]) -> None:
        if peer_id in self.open:
            self.post(kind(peer_id))

    @rule(peer_id=peers)
    def source_fails(self, peer_id: PeerId) -> None:
        if peer_id in self.open:
            self.post(happened.PieceBackToSourceFailed(peer_id, "404"))
            self.post(happened.PeerBackToSourceFailed(peer_id, "the origin has it no more"))

    @rule(peer_id=peers)
    def stream_breaks(self, peer_id: PeerId) -> None:
        if peer_id in self.open:
            self.forget(peer_id)
            self.post(happened.PeerLeft(peer_id))

    @rule(peer_id=peers)
    def peer_is_deleted(self, peer_id: PeerId) -> None:
        self.post(happened.PeerDeleted(peer_id))

    @rule(host_id=hosts, key=keys)
    def task_is_deleted(self, host_id: HostId, key: TaskKey) -> None:
        self.post(happened.TaskDeleted(host_id, key))

    @rule(host_id=st.sampled_from(SEEDS), key=keys)
    def seed_fails(self, host_id: HostId, key: TaskKey) -> None:
        self.post(happened.SeedTriggerFailed(key, host_id, "refused", self.calls.get(host_id, 0)))

    @rule(seconds=st.sampled_from([0.5, 20.0, 31.0, 200.0, 2000.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        if self.call_at is not None and self.call_at <= self.now:
            self.call_at = None
            self.post(happened.TimeReached())

    @invariant()
    def promises_hold(self) -> None:
        self.machine.check_invariants()

    @invariant()
    def every_peer_that_runs_has_its_stream(self) -> None:
        unfinished = {peer.id for peer in self.machine.peers.values() if peer.state != "Succeeded"}
        assert unfinished == set(self.open)

    def teardown(self) -> None:
        """Left to the clock, everybody who waits is answered in the end, and is told the roots there are to tell."""
        for _ in range(400):
            if self.call_at is None or not (self.waiting() or self.in_want_of_roots()):
                break
            self.now, self.call_at = max(self.now, self.call_at), None
            self.post(happened.TimeReached())
            self.machine.check_invariants()
        assert not self.waiting()
        assert not self.in_want_of_roots()

    def waiting(self) -> list[PeerId]:
        return [peer.id for swarm in self.machine.swarms.values() for peer in swarm.waiting.values()]

    def in_want_of_roots(self) -> list[PeerId]:
        """Peers that live on parents, were promised roots, and were not told of a piece that a holder has."""
        return [
            peer_id
            for peer_id, known in self.told.items()
            if (peer := self.machine.peers[peer_id]).standing is Standing.FED and self.held_pieces(peer) - known.keys()
        ]

    def held_pieces(self, child: Peer) -> set[int]:
        """What the holders that could serve a child have of what it wants."""
        geometry = child.geometry or child.edition.geometry
        holders = self.machine.swarms[child.task].holders.values()
        if geometry is None or not any(h.geometry == geometry and h.covers(child) for h in holders):
            return set()
        whole = ByteRange(0, geometry.content_length)
        return set(geometry.pieces_in(child.interest or whole))


Swarms.TestCase.settings = settings(max_examples=100, stateful_step_count=80, deadline=None)
TestSwarms = Swarms.TestCase
