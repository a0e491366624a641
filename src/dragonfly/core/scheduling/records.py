"""What the scheduler remembers of hosts and peers. Only the machine and the swarm change these records.

A peer has two conditions. Its *state* is the reference's, moved by what the peer reports (core/model/peer.py). Its
*standing* is ours and says what it lives on:

    WAITING   it is owed an answer: it asked, or its chain broke and it takes answers unasked
    FED       it was offered parents; `backbone` is the one of them whose chain leads to the content
    SOURCE    it was sent to the origin, or has the content on its disk and only needs to say so
    HOLDER    it finished and serves what it has
    STRANDED  it was fed, its chain broke, none of the parents it knows can take over, and it must ask by itself
    APART     the task is empty, nobody is needed
    GONE      it ended; no command names it from now on
"""

from dataclasses import dataclass, field, replace
from enum import IntEnum

from dragonfly.core.model.host import Host
from dragonfly.core.model.ids import HostId, PeerId, TaskKey
from dragonfly.core.model.peer import PeerState, PeerStep, next_peer_state
from dragonfly.core.model.piece import PieceGeometry, PieceSet
from dragonfly.core.model.ranges import ByteRange
from dragonfly.core.model.task import Priority, TaskDescription
from dragonfly.core.model.units import Seconds
from dragonfly.core.scheduling.commands import CandidateParent
from dragonfly.core.scheduling.editions import Edition


class Standing(IntEnum):
    """A number, because the indexes by standing are a list."""

    WAITING = 0
    FED = 1
    SOURCE = 2
    HOLDER = 3
    STRANDED = 4
    APART = 5
    GONE = 6


class HostRecord:
    """An announced host, with what is read for every candidate at hand: figures of its announcement, slots, peers.

    `silent_at` is when its silence will have lasted too long; `upload_count` counts the children of its peers.
    """

    __slots__ = (
        *("host", "id", "idc", "interval", "is_seed", "location", "peers", "shares", "silent_at", "spare_bandwidth"),
        *("upload_count", "upload_limit"),
    )

    def __init__(self, host: Host) -> None:
        self.id = host.id
        self.interval: Seconds = 0.0
        self.silent_at: Seconds = 0.0
        self.upload_limit = self.upload_count = 0
        self.peers: dict[PeerId, Peer] = {}
        self.update(host)

    def update(self, host: Host) -> None:
        """Take over a new announcement."""
        network = host.network
        self.host = host
        self.is_seed = host.is_seed
        self.shares = not host.disable_shared
        self.idc = network.idc.casefold()
        self.location = tuple(network.location.casefold().split("|")) if network.location else ()
        self.spare_bandwidth = 0.5  # where the host does not know
        if network.max_tx_bandwidth:
            self.spare_bandwidth = max(0.0, 1.0 - network.tx_bandwidth / network.max_tx_bandwidth)


@dataclass(slots=True, eq=False, kw_only=True)
class Portion:
    """What somebody has, or wants, of a task: which generation, cut how, and which part of it (None: all).

    A part is widened to whole pieces where the cut is known: pieces are what is fetched and served.
    """

    edition: Edition
    geometry: PieceGeometry | None
    interest: ByteRange | None

    @property
    def generation(self) -> str:
        """Empty where it is unknown."""
        return self.edition.generation

    def covers(self, other: "Portion") -> bool:
        """Whether it includes all of `other`, in the same version of the content as far as anybody knows."""
        if self.edition is not other.edition and self.edition.differs_from(other.edition):
            return False
        if self.geometry != other.geometry and self.geometry is not None and other.geometry is not None:
            return False
        if self.interest is None:
            return True
        wanted = other.interest
        return wanted is not None and self.interest.start <= wanted.start and wanted.end <= self.interest.end


@dataclass(slots=True, eq=False, kw_only=True)
class SeedCall(Portion):
    """A seed host that was woken for a part of a task and has not registered, with its deadline."""

    number: int
    host: Host
    until: Seconds


@dataclass(slots=True, eq=False, kw_only=True)
class Peer(Portion):
    """One host's part in one task, as the scheduler sees it. Times are the machine's."""

    id: PeerId
    host: HostRecord
    task: TaskKey
    priority: Priority
    need_back_to_source: bool
    disable_back_to_source: bool
    metadata_only: bool
    takes_unasked: bool
    created_at: Seconds
    touched_at: Seconds  # the last sign of progress: its own, or a child's that fetched from it
    state: PeerState = PeerState.PENDING
    standing: Standing = Standing.GONE
    slot: int = -1  # where it stands among the ready peers; -1 if it is not ready
    answers: int = 0
    is_sent_to_source: bool = False  # by the scheduler's own word; what it reports then is the word of the origin
    is_offered: bool = False  # parents, at least once: by then it is decided whether it is told of roots
    reason: str = ""  # why it asked again
    backbone: "Peer | None" = None
    parents: dict[PeerId, "Peer"] = field(default_factory=dict)
    children: dict[PeerId, "Peer"] = field(default_factory=dict)
    blocked: set[PeerId] = field(default_factory=set)
    pieces: PieceSet = field(default_factory=PieceSet)
    complaints: dict[HostId, Seconds] = field(default_factory=dict)
    isolated_until: Seconds = float("-inf")
    offer: CandidateParent | None = None  # as it was last told to a child

    @property
    def may_go_to_source(self) -> bool:
        return not self.disable_back_to_source and self.priority is not Priority.LEVEL2

    @property
    def wakes_seed(self) -> bool:
        """Whether a seed peer may be woken on its behalf."""
        return self.priority not in (Priority.LEVEL2, Priority.LEVEL3) and not self.host.is_seed

    @property
    def is_grounded(self) -> bool:
        """Whether it can end a chain of parents: it has the content, or fetches it where the content comes from."""
        return self.standing is Standing.HOLDER or self.standing is Standing.SOURCE

    def step(self, step: PeerStep) -> bool:
        """Move along the table; False, and no move, where it knows none."""
        state = next_peer_state(self.state, step)
        if state is None:
            return False
        self.state, self.offer = state, None
        return True

    def as_parent(self, task: TaskDescription) -> CandidateParent:
        """How a child hears of it; made once for each state and announcement."""
        if self.offer is None:
            if self.geometry is not None and self.geometry != task.geometry:
                task = replace(task, geometry=self.geometry)  # another generation than the first that was described
            self.offer = CandidateParent(self.id, self.state, self.host.host, task)
        return self.offer
