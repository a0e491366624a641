"""One task and the peers that take part in it, indexed by what they live on."""

from itertools import chain, islice

from dragonfly.core.model.host import Host
from dragonfly.core.model.ids import HostId, PeerId
from dragonfly.core.model.peer import PeerState
from dragonfly.core.model.task import SizeScope, TaskDescription, TaskState, TaskStep, next_task_state
from dragonfly.core.model.units import Seconds
from dragonfly.core.scheduling.dag import ReadyPeers
from dragonfly.core.scheduling.records import Peer, Standing


class Swarm:
    """All peers of one task. `stand` keeps the indexes; nothing else writes them.

    `awaited` is the seed host that was woken and has not registered, with its deadline. `failure` is what went wrong
    with the last attempt to reach the origin, for those who are told to try next.
    """

    def __init__(self, description: TaskDescription, now: Seconds) -> None:
        self.description = description
        self.state = TaskState.PENDING
        self.created_at = self.updated_at = now
        self.peers: dict[PeerId, Peer] = {}
        self.ready = ReadyPeers()
        self.awaited: Host | None = None
        self.awaited_until: Seconds = 0.0
        self.failed_seeds: dict[HostId, Seconds] = {}
        self.failure = ""
        self.held_by: dict[HostId, Peer] = {}  # the latest peer of a host that has the whole content
        self.recheck_at: Seconds | None = None
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

    def roots(self, count: int) -> list[Peer]:
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

    def admit(self, peer: Peer) -> None:
        self.peers[peer.id] = peer
        peer.host.peers[peer.id] = peer

    def stand(self, peer: Peer, standing: Standing) -> None:
        """Give the peer another standing and put it into the indexes that go with it."""
        self._by_standing[peer.standing].pop(peer.id, None)
        self.detached.pop(peer.id, None)
        if self.held_by.get(peer.host.id) is peer:
            del self.held_by[peer.host.id]
        peer.standing = standing
        if standing is Standing.HOLDER and peer.interest is None:
            self.held_by[peer.host.id] = peer
        if standing is Standing.GONE:
            self.ready.discard(peer)
            self.peers.pop(peer.id, None)
            peer.host.peers.pop(peer.id, None)
            return
        self._by_standing[standing][peer.id] = peer
        if standing is Standing.WAITING and any(child.backbone is peer for child in peer.children.values()):
            self.detached[peer.id] = peer
        self.refresh(peer)

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
