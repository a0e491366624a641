"""What a download wants done. Each effect that ends posts the event that tells how it went."""

from dataclasses import dataclass

from dragonfly.core.model.ids import PeerId
from dragonfly.core.model.piece import Piece, PieceNumber
from dragonfly.core.model.units import Bytes, Seconds
from dragonfly.core.transfer.events import Parent
from dragonfly.errors import DragonflyError


@dataclass(frozen=True, slots=True)
class Register:
    """Open the announce stream and register. `metadata_only`: everything is here already, only say so."""

    metadata_only: bool = False


@dataclass(frozen=True, slots=True)
class WatchParent:
    """Ask a parent to announce its pieces -> PieceAnnounced…, then ParentDrained or ParentLost."""

    parent: Parent


@dataclass(frozen=True, slots=True)
class UnwatchParent:
    """Stop listening to a parent; nothing is posted for it any more."""

    parent_id: PeerId


@dataclass(frozen=True, slots=True)
class FetchFromParent:
    """-> PieceFetched, PieceFailed or FetchGivenUp."""

    number: PieceNumber
    parent_id: PeerId


@dataclass(frozen=True, slots=True)
class FetchFromSource:
    """One read over neighbouring pieces, in order -> PieceFetched each, or SourceFailed / FetchGivenUp for the rest."""

    numbers: tuple[PieceNumber, ...]


@dataclass(frozen=True, slots=True)
class StreamFromSource:
    """Read a file of unknown length from its first byte to its end -> PieceFetched each, LengthSettled, or as above."""


@dataclass(frozen=True, slots=True)
class ReportStarted:
    """To the scheduler: pieces begin to flow from parents."""


@dataclass(frozen=True, slots=True)
class ReportBackToSourceStarted:
    """To the scheduler: this peer reads the origin now."""


@dataclass(frozen=True, slots=True)
class ReportPiece:
    """To the scheduler: a piece is here."""

    piece: Piece


@dataclass(frozen=True, slots=True)
class ReportPieceFailed:
    """To the scheduler: this parent failed a piece; `number` is None where no single piece is meant.

    A parent that honestly says it does not have it is not to blame.
    """

    number: PieceNumber | None
    parent_id: PeerId
    is_its_fault: bool = True


@dataclass(frozen=True, slots=True)
class AskForParents:
    """To the scheduler: these parents failed or starve me, offer others -> ParentsOffered, BackToSourceOffered, …"""

    failed: tuple[PeerId, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class ReportFinished:
    """To the scheduler: every piece is here. `from_source` where this peer was sent to the origin.

    `content_length` is told by whoever read a file of unknown length to its end; None otherwise.
    """

    from_source: bool
    content_length: Bytes | None = None


@dataclass(frozen=True, slots=True)
class ReportFailed:
    """To the scheduler: this peer gave up."""

    error: DragonflyError
    from_source: bool


@dataclass(frozen=True, slots=True)
class Notify:
    """To the user: something worth knowing that is not an error."""

    notice: str


@dataclass(frozen=True, slots=True)
class Finish:
    """Every wanted piece is here."""


@dataclass(frozen=True, slots=True)
class Fail:
    """The download cannot be completed."""

    error: DragonflyError


@dataclass(frozen=True, slots=True)
class CallAgainAt:
    """-> TimeReached at this moment."""

    at: Seconds


Command = (
    Register
    | WatchParent
    | UnwatchParent
    | FetchFromParent
    | FetchFromSource
    | StreamFromSource
    | ReportStarted
    | ReportBackToSourceStarted
    | ReportPiece
    | ReportPieceFailed
    | AskForParents
    | ReportFinished
    | ReportFailed
    | Notify
    | Finish
    | Fail
    | CallAgainAt
)
