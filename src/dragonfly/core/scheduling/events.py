"""What happened, in the past tense. The shell posts these; the machine never asks."""

from dataclasses import dataclass

from dragonfly.core.model.host import Host
from dragonfly.core.model.ids import HostId, PeerId, TaskKey
from dragonfly.core.model.ranges import ByteRange
from dragonfly.core.model.task import HeldTask, Priority, TaskDescription
from dragonfly.core.model.units import Bytes, Seconds
from dragonfly.core.scheduling.config import SchedulingConfig


@dataclass(frozen=True, slots=True)
class HostAnnounced:
    """A host says it lives, and will again within `interval` (None: it does not say)."""

    host: Host
    interval: Seconds | None = None


@dataclass(frozen=True, slots=True)
class HostLeft:
    host_id: HostId


@dataclass(frozen=True, slots=True)
class TasksHeld:
    """A host has these tasks, whole, from before this scheduler knew it."""

    host_id: HostId
    tasks: tuple[HeldTask, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerRegistered:
    """A peer opened its stream and asks what to do.

    `interest` is the part it wants, None for the whole content; `generation` names the version of the content it found
    at the origin, empty where it does not say. `takes_unasked` says that it listens for an answer at any time; a client
    of the reference reads one only after it asked.
    """

    peer_id: PeerId
    host_id: HostId
    task: TaskDescription
    priority: Priority = Priority.LEVEL0
    need_back_to_source: bool = False
    disable_back_to_source: bool = False
    metadata_only: bool = False
    interest: ByteRange | None = None
    generation: str = ""
    takes_unasked: bool = False


@dataclass(frozen=True, slots=True)
class PeerStarted:
    peer_id: PeerId


@dataclass(frozen=True, slots=True)
class PeerBackToSourceStarted:
    peer_id: PeerId


@dataclass(frozen=True, slots=True)
class PieceFinished:
    """A piece arrived: from a parent, or from the origin or this disk (`parent_id` None).

    `root` is what it hashes to, 32 bytes; empty where the peer does not say.
    """

    peer_id: PeerId
    number: int
    parent_id: PeerId | None = None
    root: bytes = b""


@dataclass(frozen=True, slots=True)
class PieceFailed:
    """A parent failed to give a piece (`number` None: any piece). Only a temporary failure is held against it."""

    peer_id: PeerId
    number: int | None
    parent_id: PeerId
    temporary: bool


@dataclass(frozen=True, slots=True)
class PieceBackToSourceFailed:
    peer_id: PeerId
    description: str


@dataclass(frozen=True, slots=True)
class PeerRescheduled:
    """A peer got what it could from these parents and needs others."""

    peer_id: PeerId
    parents: tuple[PeerId, ...]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class PeerFinished:
    peer_id: PeerId


@dataclass(frozen=True, slots=True)
class PeerBackToSourceFinished:
    """`content_length` is what the peer learnt by reading to the end; None where the origin had told it before."""

    peer_id: PeerId
    content_length: Bytes | None = None


@dataclass(frozen=True, slots=True)
class PeerFailed:
    peer_id: PeerId
    description: str = ""


@dataclass(frozen=True, slots=True)
class PeerBackToSourceFailed:
    peer_id: PeerId
    description: str = ""


@dataclass(frozen=True, slots=True)
class PeerLeft:
    """The peer's stream broke. One that had finished holds its content still and stays."""

    peer_id: PeerId


@dataclass(frozen=True, slots=True)
class PeerDeleted:
    """The peer's content is gone from its host, or the peer was told to go."""

    peer_id: PeerId


@dataclass(frozen=True, slots=True)
class TaskDeleted:
    """A host no longer has this task."""

    host_id: HostId
    task: TaskKey


@dataclass(frozen=True, slots=True)
class SeedTriggerFailed:
    """A seed peer that was woken refused, broke off, or ended without asking for the task.

    `call` is the number of the command that woke it.
    """

    task: TaskKey
    host_id: HostId
    reason: str
    call: int


@dataclass(frozen=True, slots=True)
class ConfigChanged:
    config: SchedulingConfig


@dataclass(frozen=True, slots=True)
class TimeReached:
    """The time asked for by `CallAgainAt` has come."""


Event = (
    HostAnnounced
    | HostLeft
    | TasksHeld
    | PeerRegistered
    | PeerStarted
    | PeerBackToSourceStarted
    | PieceFinished
    | PieceFailed
    | PieceBackToSourceFailed
    | PeerRescheduled
    | PeerFinished
    | PeerBackToSourceFinished
    | PeerFailed
    | PeerBackToSourceFailed
    | PeerLeft
    | PeerDeleted
    | TaskDeleted
    | SeedTriggerFailed
    | ConfigChanged
    | TimeReached
)
