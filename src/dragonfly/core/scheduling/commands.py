"""What to do, as imperatives. The shell carries them out in order; none of them can fail for the machine."""

from dataclasses import dataclass

from dragonfly.core.model.host import Host
from dragonfly.core.model.ids import PeerId, TaskKey
from dragonfly.core.model.peer import PeerState
from dragonfly.core.model.ranges import ByteRange
from dragonfly.core.model.task import TaskDescription
from dragonfly.core.model.units import Bytes, Seconds
from dragonfly.errors import DragonflyError


@dataclass(frozen=True, slots=True)
class CandidateParent:
    """A peer another one may fetch from, as it is told to the child."""

    peer_id: PeerId
    state: PeerState
    host: Host
    task: TaskDescription


@dataclass(frozen=True, slots=True)
class OfferParents:
    """Fetch from these; the first is the one whose own chain of parents leads to the content for certain."""

    peer_id: PeerId
    parents: tuple[CandidateParent, ...]


@dataclass(frozen=True, slots=True)
class OfferBackToSource:
    """Fetch from the origin, for this reason."""

    peer_id: PeerId
    reason: str


@dataclass(frozen=True, slots=True)
class OfferEmpty:
    """There is not a byte to fetch."""

    peer_id: PeerId


@dataclass(frozen=True, slots=True)
class OfferMetadataOnly:
    """You have it already; report when you can serve it."""

    peer_id: PeerId


@dataclass(frozen=True, slots=True)
class RefusePeer:
    """End the peer's stream with this error. The machine has forgotten the peer already."""

    peer_id: PeerId
    error: DragonflyError


@dataclass(frozen=True, slots=True)
class CloseStream:
    """End the peer's stream in peace: it finished, failed, or is counted as gone."""

    peer_id: PeerId


@dataclass(frozen=True, slots=True)
class TriggerSeedPeer:
    """Have the seed host fetch the task from the origin, with the request headers of `on_behalf_of`.

    `interest` is the part to fetch, None for all of it. `call` is a number of the machine's, for `SeedTriggerFailed`.
    """

    task: TaskDescription
    host: Host
    on_behalf_of: PeerId
    interest: ByteRange | None
    call: int


@dataclass(frozen=True, slots=True)
class TellRoots:
    """Tell the peer what these pieces hash to; an empty root is one that will not come. No answer of its stream.

    The first one, which may be empty, is a promise: every piece that a parent may have will be told before long.
    Peers that are told the same get the same tuple.
    """

    peer_id: PeerId
    roots: tuple[tuple[int, bytes], ...]


@dataclass(frozen=True, slots=True)
class TellLength:
    """Tell a peer that was promised roots how long content is whose origin did not say. No answer of its stream."""

    peer_id: PeerId
    content_length: Bytes


@dataclass(frozen=True, slots=True)
class NoteOtherRoot:
    """Write down that the origin gave this peer another piece than the one whose root stands. It is told to nobody."""

    peer_id: PeerId
    task: TaskKey
    number: int


@dataclass(frozen=True, slots=True)
class CallAgainAt:
    """Post `TimeReached` at this time; it replaces no earlier call, and an early call does no harm."""

    at: Seconds


Command = (
    OfferParents
    | OfferBackToSource
    | OfferEmpty
    | OfferMetadataOnly
    | RefusePeer
    | CloseStream
    | TriggerSeedPeer
    | TellRoots
    | TellLength
    | NoteOtherRoot
    | CallAgainAt
)
