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
from dragonfly.core.model.task import Priority, TaskDescription
from dragonfly.core.model.units import MiB
from dragonfly.core.scheduling import events as happened
from dragonfly.core.scheduling.commands import (
    CallAgainAt,
    CloseStream,
    OfferBackToSource,
    OfferParents,
    RefusePeer,
    TriggerSeedPeer,
)
from dragonfly.core.scheduling.config import SchedulingConfig
from dragonfly.core.scheduling.machine import Scheduler

KEYS = [TaskKey(PUBLIC_SCOPE, TaskId(letter * 64)) for letter in "ab"]
HOSTS = [HostId(f"host-{number}") for number in range(8)]
SEEDS = HOSTS[:2]
PEERS = [PeerId(f"peer-{number}") for number in range(14)]

hosts, peers, keys = st.sampled_from(HOSTS), st.sampled_from(PEERS), st.sampled_from(KEYS)
geometries = st.sampled_from([None, PieceGeometry(40 * MiB, 4 * MiB), PieceGeometry(8 * MiB, 4 * MiB)])
interests = st.sampled_from([None, None, None, ByteRange(0, MiB), ByteRange(4 * MiB, MiB)])


class Swarms(RuleBasedStateMachine):
    """Plays hosts and peers that do as they like; what the machine commands is believed and remembered."""

    @initialize(seed=st.integers(0, 2**16))
    def begin(self, seed: int) -> None:
        self.config = SchedulingConfig(complaint_limit=2)
        self.machine = Scheduler(self.config, Random(seed))
        self.now = 0.0
        self.call_at: float | None = None
        self.open: dict[PeerId, int] = {}  # peers with a stream, and the answers it carried
        for host_id in HOSTS:
            self.host_announces(host_id, disable_shared=False)

    def post(self, event: happened.Event) -> None:
        for command in self.machine.handle(event, self.now):
            match command:
                case CallAgainAt(at):
                    self.call_at = at if self.call_at is None else min(at, self.call_at)
                case TriggerSeedPeer():
                    assert command.on_behalf_of in self.open
                case CloseStream() | RefusePeer():
                    assert command.peer_id in self.open, "no command names a peer without a stream"
                    del self.open[command.peer_id]
                case _:
                    assert command.peer_id in self.open, "no command names a peer without a stream"
                    self.open[command.peer_id] += 1
                    assert self.open[command.peer_id] <= self.config.answer_limit
                    if isinstance(command, OfferParents):
                        assert self.open[command.peer_id] < self.config.answer_limit, "the last answer settles it"
                        assert 0 < len(command.parents) <= self.config.candidate_parent_limit
                    if isinstance(command, OfferBackToSource):
                        assert command.reason

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
        priority: Priority,
        flags: tuple[bool, bool, bool],
        takes_unasked: bool,
    ) -> None:
        known = self.machine.peers.get(peer_id)
        if known is not None and (known.host.id != host_id or known.task != key):
            return  # the shell refuses such a stream by itself
        self.open[peer_id] = 0
        self.post(
            happened.PeerRegistered(
                peer_id=peer_id,
                host_id=host_id,
                task=TaskDescription(key=key, url="http://o/f", geometry=geometry),
                priority=priority,
                interest=interest,
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

    @rule(peer_id=peers, number=st.integers(0, 12), parent_id=st.none() | peers)
    def piece_finishes(self, peer_id: PeerId, number: int, parent_id: PeerId | None) -> None:
        self.post(happened.PieceFinished(peer_id, number, parent_id))

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
        if self.open.pop(peer_id, None) is not None:
            self.post(happened.PeerLeft(peer_id))

    @rule(peer_id=peers)
    def peer_is_deleted(self, peer_id: PeerId) -> None:
        self.post(happened.PeerDeleted(peer_id))

    @rule(host_id=hosts, key=keys)
    def task_is_deleted(self, host_id: HostId, key: TaskKey) -> None:
        self.post(happened.TaskDeleted(host_id, key))

    @rule(host_id=st.sampled_from(SEEDS), key=keys)
    def seed_fails(self, host_id: HostId, key: TaskKey) -> None:
        self.post(happened.SeedTriggerFailed(key, host_id, "refused"))

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
        """Left to the clock, everybody who waits is answered in the end."""
        for _ in range(400):
            waiting = [peer for swarm in self.machine.swarms.values() for peer in swarm.waiting.values()]
            if not waiting or self.call_at is None:
                break
            self.now, self.call_at = max(self.now, self.call_at), None
            self.post(happened.TimeReached())
            self.machine.check_invariants()
        assert not [peer.id for swarm in self.machine.swarms.values() for peer in swarm.waiting.values()]


Swarms.TestCase.settings = settings(max_examples=100, stateful_step_count=80, deadline=None)
TestSwarms = Swarms.TestCase
