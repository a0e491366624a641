"""What happened to a download. The shell posts these; `Download.handle` is the only reader."""

from dataclasses import dataclass, field

from dragonfly.core.model.ids import HostId, PeerId
from dragonfly.core.model.piece import Piece, PieceNumber
from dragonfly.core.model.units import Bytes
from dragonfly.errors import DownloadCancelled, DragonflyError


@dataclass(frozen=True, slots=True)
class Parent:
    """A peer the scheduler offers. `spare_bandwidth` is in bits per second; 0 is unknown."""

    peer_id: PeerId
    host_id: HostId
    spare_bandwidth: int = 0


@dataclass(frozen=True, slots=True)
class Started:
    """The origin was asked, room was made: begin."""


@dataclass(frozen=True, slots=True)
class ParentsOffered:
    parents: tuple[Parent, ...]


@dataclass(frozen=True, slots=True)
class BackToSourceOffered:
    """The scheduler lets this peer read the origin, and why."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class EmptyOffered:
    """The scheduler knows the task to have no byte."""


@dataclass(frozen=True, slots=True)
class MetadataOnlyOffered:
    """The scheduler notes that this peer holds the task already."""


@dataclass(frozen=True, slots=True)
class RootsTold:
    """The scheduler told what these pieces must hash to. The first of these, maybe without a number, is a promise:
    every piece that can be had will be told of, and none is to be taken from a parent before it was.
    """

    numbers: tuple[PieceNumber, ...]


@dataclass(frozen=True, slots=True)
class LengthSettled:
    """The length of a file that nobody knew is known."""

    content_length: Bytes
    piece_count: int


@dataclass(frozen=True, slots=True)
class SchedulerLost:
    """No scheduler answers, or the stream to it broke; `was_there`: it had taken our registration before that."""

    error: DragonflyError
    was_there: bool = False


@dataclass(frozen=True, slots=True)
class SchedulerRefused:
    """The scheduler said no; asking another would not help."""

    error: DragonflyError


@dataclass(frozen=True, slots=True)
class PieceAnnounced:
    """A parent has this piece now; `is_short`: it is shorter than the others, so it must be the last one."""

    parent_id: PeerId
    number: PieceNumber
    is_short: bool = False


@dataclass(frozen=True, slots=True)
class ParentDrained:
    """A parent's announcements ended in good order: it has told all it will ever tell."""

    parent_id: PeerId


@dataclass(frozen=True, slots=True)
class ParentLost:
    """A parent's announcements broke off."""

    parent_id: PeerId
    error: DragonflyError


@dataclass(frozen=True, slots=True)
class PieceFetched:
    """A piece is on this disk, its digest checked; `piece.parent_id` is None where it came from the origin."""

    piece: Piece


@dataclass(frozen=True, slots=True)
class PieceFound:
    """A piece turned out to be on this disk already: another download of the task brought it meanwhile."""

    piece: Piece


@dataclass(frozen=True, slots=True)
class PieceFailed:
    """A parent did not deliver this piece."""

    number: PieceNumber
    parent_id: PeerId
    error: DragonflyError


@dataclass(frozen=True, slots=True)
class SourceFailed:
    """The origin did not deliver these pieces, after all the retries it deserved."""

    numbers: tuple[PieceNumber, ...]
    error: DragonflyError


@dataclass(frozen=True, slots=True)
class FetchGivenUp:
    """This disk could not take a piece: nobody else's fault, and no other parent helps."""

    number: PieceNumber
    error: DragonflyError


@dataclass(frozen=True, slots=True)
class Cancelled:
    """Nobody wants the download any more, or something else ends it."""

    error: DragonflyError = field(default_factory=DownloadCancelled)


@dataclass(frozen=True, slots=True)
class TimeReached:
    """The moment a `CallAgainAt` named has come."""


Event = (
    Started
    | ParentsOffered
    | BackToSourceOffered
    | EmptyOffered
    | MetadataOnlyOffered
    | RootsTold
    | LengthSettled
    | SchedulerLost
    | SchedulerRefused
    | PieceAnnounced
    | ParentDrained
    | ParentLost
    | PieceFetched
    | PieceFound
    | PieceFailed
    | SourceFailed
    | FetchGivenUp
    | Cancelled
    | TimeReached
)
