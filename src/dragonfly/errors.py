"""Every error Dragonfly raises on purpose, in one tree.

    DragonflyError
    ├── InvalidInput      the caller asked for something impossible
    │     InvalidUrl  InvalidRange  InvalidDigest  InvalidQuantity  InvalidContentLength  InvalidPieceLength
    │     InvalidIdentifier  InvalidSettings  UnsupportedFeature  SchemeUnsupported
    ├── SourceError       the origin said no, lied, or is away
    │     SourceNotFound  SourceForbidden  SourceRefused  SourceUnavailable  SourceUnreachable  SourceNameUnknown
    │     SourceLengthUnknown  SourceRangeUnsupported  SourceChanged  SourceTruncated
    ├── PeerError         another peer is away, wrong, or hostile
    │     ParentUnreachable  ParentTimedOut  PieceNotFound  PieceDigestMismatch  PieceLengthMismatch  ProtocolViolation
    ├── StorageError      this machine's disk
    │     DiskFull  TaskNotFound  StorageUnusable
    ├── OutputError       where the user wants the file
    │     OutputExists  OutputIsDirectory  OutputParentMissing  OutputUnwritable
    │     ContentDigestMismatch  ContentLengthMismatch
    └── ServiceError      one of our own services
          DaemonUnreachable  DaemonStopping  SchedulerUnreachable  ManagerUnreachable  HostUnknown  PeerUnknown
          RecordUnknown  DownloadForbidden  NoSourceAllowed  DownloadCancelled  DeadlineExceeded  Overloaded
          RemoteFailure  InternalFailure

An error is raised with its facts by keyword: `SourceNotFound(url=url, status=404)`. The class docstring is the
sentence a user reads, with the facts filled in; facts stay readable in `.facts`. Whose fault it is and whether trying
again can help are class facts. Nothing here knows gRPC or HTTP: `wire/status.py` translates.
"""

from enum import StrEnum
from typing import ClassVar, Self


class Fault(StrEnum):
    """Who has to act so that the error goes away."""

    CALLER = "caller"
    SOURCE = "source"
    PEER = "peer"
    OURS = "ours"


class DragonflyError(Exception):
    """Something went wrong."""

    fault: ClassVar[Fault] = Fault.OURS
    retryable: ClassVar[bool] = False

    def __init__(self, **facts: object) -> None:
        self.facts = facts
        super().__init__((type(self).__doc__ or "").format_map(facts))

    @classmethod
    def restored(cls, sentence: str) -> Self:
        """The error as it arrived from another process: the sentence is kept, the facts are lost."""
        error = cls.__new__(cls)
        error.facts = {}
        Exception.__init__(error, sentence)
        return error

    @property
    def code(self) -> str:
        """The stable name other processes know this error by."""
        return type(self).__name__


# --- the caller's input


class InvalidInput(DragonflyError):
    """{reason}"""

    fault = Fault.CALLER


class InvalidUrl(InvalidInput):
    """not a usable URL: {url!r} ({reason})"""


class InvalidRange(InvalidInput):
    """the range {text!r} cannot be satisfied: {reason}"""


class InvalidDigest(InvalidInput):
    """not a usable digest: {text!r} ({reason})"""


class InvalidQuantity(InvalidInput):
    """not a usable {kind}: {text!r} (for example {example})"""


class InvalidContentLength(InvalidInput):
    """a content length cannot be {length}"""


class InvalidPieceLength(InvalidInput):
    """a piece length of {length} bytes is outside {minimum} to {maximum}"""


class InvalidIdentifier(InvalidInput):
    """not a usable {kind}: {text!r}"""


class InvalidSettings(InvalidInput):
    """{file}: {reason}"""


class UnsupportedFeature(InvalidInput):
    """{feature} is not supported yet"""


class SchemeUnsupported(InvalidInput):
    """no origin is known for the scheme {scheme!r} of {url}; known: {known}"""


# --- the origin


class SourceError(DragonflyError):
    """the origin failed for {url}: {reason}"""

    fault = Fault.SOURCE


class SourceNotFound(SourceError):
    """the origin has no such file: {url} answered {status}"""


class SourceForbidden(SourceError):
    """the origin denies access: {url} answered {status}"""


class SourceRefused(SourceError):
    """the origin refuses the request: {url} answered {status}"""


class SourceUnavailable(SourceError):
    """the origin is failing: {url} answered {status}"""

    retryable = True


class SourceUnreachable(SourceError):
    """the origin cannot be reached: {url} ({reason})"""

    retryable = True


class SourceNameUnknown(SourceError):
    """the origin's host name is unknown: {host} in {url}"""


class SourceLengthUnknown(SourceError):
    """the origin does not say how long {url} is, so no part of it can be asked for"""


class SourceRangeUnsupported(SourceError):
    """the origin ignores byte ranges for {url}"""


class SourceChanged(SourceError):
    """the origin's file changed during the download: {url} ({reason})"""


class SourceTruncated(SourceError):
    """the origin closed early: {url} sent {received} of {expected} bytes"""

    retryable = True


# --- other peers


class PeerError(DragonflyError):
    """the peer at {address} failed: {reason}"""

    fault = Fault.PEER
    retryable = True


class ParentUnreachable(PeerError):
    """the parent at {address} cannot be reached: {reason}"""


class ParentTimedOut(PeerError):
    """the parent at {address} was silent for {seconds} s"""


class PieceNotFound(PeerError):
    """piece {number} of task {task_id} is not here"""


class PieceDigestMismatch(PeerError):
    """piece {number} has the digest {got}, expected {expected}"""


class PieceLengthMismatch(PeerError):
    """piece {number} has {got} bytes, expected {expected}"""


class ProtocolViolation(PeerError):
    """the peer at {address} does not speak the piece protocol: {reason}"""


# --- this machine's disk


class StorageError(DragonflyError):
    """the storage in {path} failed: {reason}"""


class DiskFull(StorageError):
    """no room on the disk: {path} needs {needed} bytes and has {free}"""

    @property
    def needed(self) -> int:
        """Bytes that did not fit; 0 where the error came from another process."""
        needed = self.facts.get("needed")
        return needed if isinstance(needed, int) else 0


class TaskNotFound(StorageError):
    """task {task_id} is not stored here"""


class StorageUnusable(StorageError):
    """the storage directory {path} cannot be used: {reason}"""


# --- where the user wants the file


class OutputError(DragonflyError):
    """the output {path} cannot be written: {reason}"""

    fault = Fault.CALLER


class OutputExists(OutputError):
    """the output exists already: {path} (use --overwrite to replace it)"""


class OutputIsDirectory(OutputError):
    """the output is a directory: {path}"""


class OutputParentMissing(OutputError):
    """the output's directory does not exist: {path}"""


class OutputUnwritable(OutputError):
    """the output cannot be written: {path} ({reason})"""


class ContentDigestMismatch(OutputError):
    """the content has the digest {got}, expected {expected}"""

    fault = Fault.SOURCE


class ContentLengthMismatch(OutputError):
    """the output has {got} bytes, expected {expected}"""

    fault = Fault.OURS


# --- our own services


class ServiceError(DragonflyError):
    """{reason}"""


class DaemonUnreachable(ServiceError):
    """no dfdaemon answers at {endpoint}: {reason}"""

    retryable = True


class DaemonStopping(DaemonUnreachable):
    """this host's dfdaemon is stopping"""


class SchedulerUnreachable(ServiceError):
    """no scheduler answers at {address}: {reason}"""

    retryable = True


class ManagerUnreachable(ServiceError):
    """no manager answers at {address}: {reason}"""

    retryable = True


class HostUnknown(ServiceError):
    """host {host_id} has not announced itself"""

    retryable = True


class PeerUnknown(ServiceError):
    """peer {peer_id} is not known here"""


class RecordUnknown(ServiceError):
    """the manager knows no {noun} {name}"""

    fault = Fault.CALLER


class DownloadForbidden(ServiceError):
    """this download is not allowed: {reason}"""

    fault = Fault.CALLER


class NoSourceAllowed(ServiceError):
    """no peer can serve {url} and going back to the origin is not allowed for this download"""


class DownloadCancelled(ServiceError):
    """the download was cancelled"""


class DeadlineExceeded(ServiceError):
    """not done within {seconds} s"""


class Overloaded(ServiceError):
    """too many requests at once: {reason}"""

    retryable = True


class RemoteFailure(ServiceError):
    """{reason}"""


class InternalFailure(ServiceError):
    """an internal error: {reason}"""


def _tree(root: type[DragonflyError]) -> dict[str, type[DragonflyError]]:
    found = {root.__name__: root}
    for child in root.__subclasses__():
        found |= _tree(child)
    return found


BY_CODE = _tree(DragonflyError)
