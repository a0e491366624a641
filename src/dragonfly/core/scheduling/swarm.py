"""One task and the peers that take part in it, indexed by what they live on."""

from collections.abc import Iterator
from itertools import chain, islice

from dragonfly.core.model.ids import HostId, PeerId
from dragonfly.core.model.peer import PeerState
from dragonfly.core.model.piece import PieceGeometry
from dragonfly.core.model.ranges import ByteRange
from dragonfly.core.model.task import SizeScope, TaskDescription, TaskState, TaskStep, next_task_state
from dragonfly.core.model.units import Seconds
from dragonfly.core.scheduling.dag import ReadyPeers
from dragonfly.core.scheduling.editions import Edition
from dragonfly.core.scheduling.records import Peer, Portion, SeedCall, Standing

CallKey = tuple[str, PieceGeometry | None, ByteRange | None]


class Swarm:
    """All peers of one task. `stand` keeps the indexes; nothing else writes them.

    `calls` are the seed hosts that were woken and have not registered, one for each part of the content that is
    wanted. `failure` is what went wrong with the last attempt to reach the origin, for those who are told to try next.
    """

    def __init__(self, description: TaskDescription, now: Seconds) -> None:
        self.description = description
        self.state = TaskState.PENDING
        self.created_at = self.updated_at = now
        self.peers: dict[PeerId, Peer] = {}
        self.ready = ReadyPeers()
        self.editions: dict[str, Edition] = {}  # those some peer has or wants, by their generations
        self.calls: dict[CallKey, SeedCall] = {}
        self.failed_seeds: dict[HostId, Seconds] = {}
        self.failure = ""
        self.held_by: dict[HostId, Peer] = {}  # the peer that stands for a host's copy of the whole content
        self.recheck_at: Seconds | None = None
        self.part_count = 0  # peers that have or want less than everything
        self.detached: dict[PeerId, Peer] = {}  # waiting peers that others stand under
        self._by_standing: list[dict[PeerId, Peer]] = [{} for _ in Standing]
        self.waiting = self._by_standing[Standing.WAITING]
        self.sources = self._by_standing[Standing.SOURCE]
        self.holders = self._by_standing[Standing.HOLDER]
        self.stranded = self._by_standing[Standing.STRANDED]

    @property
    def size_scope(self) -> SizeScope:
        return SizeScope.of(self.description.geometry)

    @property
    def is_all_grounded(self) -> bool:
        """Whether every chain of parents is known to lead to the content, without walking any."""
        return not self.stranded and not self.detached

    @property
    def is_mixed(self) -> bool:
        """Whether some of its peers may be no parents for others, whatever happens."""
        return self.part_count > 0 or len(self.editions) > 1

    def chain_ends(self, count: int) -> list[Peer]:
        """Up to `count` of those that serve and live on no parent, the latest holders last."""
        sources = (peer for peer in self.sources.values() if peer.slot >= 0)
        holders = (peer for peer in reversed(self.holders.values()) if peer.slot >= 0)
        return list(islice(chain(sources, holders), count))

    def step(self, step: TaskStep, now: Seconds) -> None:
        """Move the task's state along its table; a step the table does not know changes nothing."""
        self.state = next_task_state(self.state, step) or self.state
        self.updated_at = now

    def describe(self, description: TaskDescription) -> None:
        """Learn what the first peers did not know. The content's geometry changes only while nobody has any of it."""
        is_untouched = not self.ready and not self.sources
        if self.description.geometry is None or (is_untouched and description.geometry is not None):
            self.description = description

    def edition(self, generation: str, geometry: PieceGeometry | None) -> Edition:
        """The record of a generation, which learns the geometry from the first who knows it."""
        edition = self.editions.get(generation) or self.editions.setdefault(generation, Edition(generation))
        if edition.geometry is None:
            edition.geometry = geometry
        return edition

    def admit(self, peer: Peer) -> None:
        self.peers[peer.id] = peer
        peer.host.peers[peer.id] = peer
        peer.edition.members += 1
        self.part_count += peer.interest is not None

    def call(self, call: SeedCall) -> None:
        """Await a seed; it takes the place of an earlier one for the same part."""
        self.calls[_call_key(call)] = call

    def end_call(self, call: SeedCall) -> None:
        del self.calls[_call_key(call)]

    def calls_to(self, host_id: HostId) -> list[SeedCall]:
        return [call for call in self.calls.values() if call.host.id == host_id]

    def is_called_for(self, peer: Peer) -> bool:
        """Whether a seed other than the peer's own host is awaited that will have what the peer wants."""
        exact = self.calls.get(_call_key(peer))
        if exact is not None and exact.host.id != peer.host.id:
            return True
        return any(call.host.id != peer.host.id and call.covers(peer) for call in self.calls.values())

    def providers(self) -> Iterator[Peer]:
        """Those that have what they cover, or fetch it where the content comes from."""
        return chain(self.holders.values(), self.sources.values())

    def stand(self, peer: Peer, standing: Standing) -> None:
        """Give the peer another standing and put it into the indexes that go with it."""
        self._by_standing[peer.standing].pop(peer.id, None)
        self.detached.pop(peer.id, None)
        if self.held_by.get(peer.host.id) is peer:
            del self.held_by[peer.host.id]
        peer.standing = standing
        if standing is Standing.HOLDER and peer.interest is None:
            self.held_by[peer.host.id] = peer
        if standing in (Standing.HOLDER, Standing.GONE):
            peer.edition.listeners.pop(peer.id, None)
        if standing is Standing.GONE:
            self._dismiss(peer)
            return
        self._by_standing[standing][peer.id] = peer
        if standing is Standing.WAITING and any(child.backbone is peer for child in peer.children.values()):
            self.detached[peer.id] = peer
        self.refresh(peer)

    def _dismiss(self, peer: Peer) -> None:
        """Forget a peer that was admitted, and its edition with the last one of it."""
        self.ready.discard(peer)
        if self.peers.pop(peer.id, None) is None:
            return
        peer.host.peers.pop(peer.id, None)
        self.part_count -= peer.interest is not None
        peer.edition.members -= 1
        if not peer.edition.members:
            del self.editions[peer.generation]

    def refresh(self, peer: Peer) -> None:
        """Put the peer among those that serve, or take it from there, by its standing, state and host."""
        standing = peer.standing
        serves = (
            standing is Standing.FED
            or standing is Standing.HOLDER
            or (standing is Standing.SOURCE and peer.state is PeerState.BACK_TO_SOURCE)
        )
        if serves and peer.host.shares:
            self.ready.add(peer)
        else:
            self.ready.discard(peer)


def _call_key(portion: Portion) -> CallKey:
    return portion.generation, portion.geometry, portion.interest
