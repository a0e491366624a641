"""Our errors as gRPC statuses, and statuses as our errors again.

Three things travel with a failed call:

- the status code, by the table below: what any gRPC client understands;
- `dragonfly-error`, the error's class name: between two of our own processes the same class comes out again;
- `grpc-status-details-bin`, for a failure at the origin: JSON of errordetails.v2.Backend. The field's name promises
  protobuf, but JSON is what the reference writes there and what its tools look for.

A process of the reference sends no class name; its code and details are then read for the nearest class of ours.
Everything that arrives is untrusted: whatever does not parse is passed over.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import grpc
from grpc import StatusCode

from dragonfly import errors
from dragonfly.errors import DragonflyError, RemoteFailure, SourceError

ERROR_KEY = "dragonfly-error"
DETAILS_KEY = "grpc-status-details-bin"

# gRPC refuses metadata above 8 KiB as a whole, and a message outside ASCII is sent as three bytes for one.
MAX_MESSAGE_BYTES = 1024
MAX_DETAILS_BYTES = 2048
MAX_DETAILS_READ = 64 * 1024  # what we are willing to parse of somebody else's

Metadata = Iterable[tuple[str, str | bytes]]

CODES: Mapping[type[DragonflyError], grpc.StatusCode] = {
    DragonflyError: StatusCode.INTERNAL,
    errors.InvalidInput: StatusCode.INVALID_ARGUMENT,
    errors.InvalidRange: StatusCode.FAILED_PRECONDITION,  # as the reference answers
    errors.UnsupportedFeature: StatusCode.UNIMPLEMENTED,
    errors.SourceError: StatusCode.INTERNAL,  # as the reference answers; the details say more
    errors.ParentUnreachable: StatusCode.UNAVAILABLE,
    errors.ParentTimedOut: StatusCode.DEADLINE_EXCEEDED,
    errors.PieceNotFound: StatusCode.NOT_FOUND,
    errors.PieceDigestMismatch: StatusCode.DATA_LOSS,
    errors.PieceLengthMismatch: StatusCode.DATA_LOSS,
    errors.DiskFull: StatusCode.RESOURCE_EXHAUSTED,
    errors.TaskNotFound: StatusCode.NOT_FOUND,
    errors.OutputError: StatusCode.FAILED_PRECONDITION,
    errors.OutputExists: StatusCode.ALREADY_EXISTS,
    errors.ContentDigestMismatch: StatusCode.DATA_LOSS,
    errors.ContentLengthMismatch: StatusCode.DATA_LOSS,
    errors.DaemonUnreachable: StatusCode.UNAVAILABLE,
    errors.SchedulerUnreachable: StatusCode.UNAVAILABLE,
    errors.ManagerUnreachable: StatusCode.UNAVAILABLE,
    errors.HostUnknown: StatusCode.NOT_FOUND,
    errors.PeerUnknown: StatusCode.NOT_FOUND,
    errors.RecordUnknown: StatusCode.NOT_FOUND,
    errors.DownloadForbidden: StatusCode.PERMISSION_DENIED,
    errors.NoSourceAllowed: StatusCode.FAILED_PRECONDITION,
    errors.DownloadCancelled: StatusCode.CANCELLED,
    errors.DeadlineExceeded: StatusCode.DEADLINE_EXCEEDED,
    errors.Overloaded: StatusCode.RESOURCE_EXHAUSTED,
    errors.RemoteFailure: StatusCode.UNKNOWN,
}
"""Code of an error class; a class that is not here has that of its nearest ancestor."""

_CLASSES: Mapping[grpc.StatusCode, type[DragonflyError]] = {
    StatusCode.CANCELLED: errors.DownloadCancelled,
    StatusCode.INVALID_ARGUMENT: errors.InvalidInput,
    StatusCode.OUT_OF_RANGE: errors.InvalidInput,
    StatusCode.DEADLINE_EXCEEDED: errors.DeadlineExceeded,
    StatusCode.NOT_FOUND: errors.TaskNotFound,  # the reference says so of tasks, peers and hosts alike
    StatusCode.PERMISSION_DENIED: errors.DownloadForbidden,
    StatusCode.UNAUTHENTICATED: errors.DownloadForbidden,
    StatusCode.RESOURCE_EXHAUSTED: errors.Overloaded,
    StatusCode.UNAVAILABLE: errors.Overloaded,  # somebody answered, so it is there: try again
    StatusCode.UNIMPLEMENTED: errors.UnsupportedFeature,
}
"""Nearest class for the status of a process that does not name ours; RemoteFailure where there is none."""

_SOURCE_CLASSES: Mapping[int, type[SourceError]] = {
    401: errors.SourceForbidden,
    403: errors.SourceForbidden,
    404: errors.SourceNotFound,
    407: errors.SourceForbidden,
    410: errors.SourceNotFound,
    429: errors.SourceUnavailable,
}


@dataclass(frozen=True, slots=True)
class GrpcStatus:
    """What a handler aborts its call with."""

    code: grpc.StatusCode
    message: str
    trailing_metadata: tuple[tuple[str, str | bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class OriginAnswer:
    """How an origin failed, as errordetails.v2.Backend has it; `status` is None where it did not answer at all."""

    message: str
    status: int | None = None
    header: Mapping[str, str] = field(default_factory=dict)


def grpc_status(error: DragonflyError) -> GrpcStatus:
    """The status that carries `error` to the caller."""
    message = _shortened(str(error))
    metadata: list[tuple[str, str | bytes]] = [(ERROR_KEY, error.code)]
    status = error.facts.get("status")
    if isinstance(error, SourceError) and isinstance(status, int):
        header = error.facts.get("header")
        answer = OriginAnswer(message, status, header if isinstance(header, Mapping) else {})
        metadata.append((DETAILS_KEY, encode_details(answer)))
    return GrpcStatus(_code_of(type(error)), message, tuple(metadata))


def restored_error(code: grpc.StatusCode, message: str, trailing_metadata: Metadata = ()) -> DragonflyError:
    """The error behind a status: the class it was raised with where the sender is ours, else the nearest one.

    After a failure at the origin its HTTP status and headers are in `.facts` again, as `status` and `header`.
    """
    fields = dict(trailing_metadata)
    answer = decode_details(fields.get(DETAILS_KEY, b""))
    found = _named_class(fields.get(ERROR_KEY, "")) or (_source_class(answer) if answer else _CLASSES.get(code))
    sentence = message or (answer.message if answer else "")
    error = (found or RemoteFailure).restored(sentence or f"the other side answered {code.name} and gave no reason")
    if answer and answer.status is not None:
        error.facts = {"status": answer.status, "header": dict(answer.header)}
    return error


def encode_details(answer: OriginAnswer) -> bytes:
    """JSON of errordetails.v2.Backend. The headers are left out where they would burst the call's metadata.

    Cookies are never among them: they are credentials of whoever fetched.
    """
    header = {str(key): str(value) for key, value in answer.header.items() if str(key).lower() != "set-cookie"}
    for candidate in (header, {}):
        document = {"message": answer.message, "header": candidate, "status_code": answer.status}
        encoded = json.dumps(document, ensure_ascii=False).encode("utf-8", "replace")
        if len(encoded) <= MAX_DETAILS_BYTES:
            break
    return encoded


def decode_details(details: str | bytes) -> OriginAnswer | None:
    """Read what `encode_details` or the reference wrote; None for anything else, however it is broken."""
    if not details or len(details) > MAX_DETAILS_READ:
        return None
    try:
        document = json.loads(details)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or "status_code" not in document:
        return None
    message, status, header = document.get("message"), document["status_code"], document.get("header")
    return OriginAnswer(
        _text(message) if isinstance(message, str) else "",
        status if type(status) is int and 100 <= status <= 599 else None,
        {_text(key): _text(value) for key, value in header.items()} if isinstance(header, dict) else {},
    )


def _text(value: object) -> str:
    """A value of JSON as text that can be written again: JSON can spell halves of surrogate pairs, UTF-8 cannot."""
    return str(value).encode("utf-8", "replace").decode()


def _code_of(kind: type[DragonflyError]) -> grpc.StatusCode:
    return next(CODES[ancestor] for ancestor in kind.__mro__ if ancestor in CODES)


def _named_class(code: str | bytes) -> type[DragonflyError] | None:
    name = code.decode("ascii", "replace") if isinstance(code, bytes) else code
    return errors.BY_CODE.get(name)


def _source_class(answer: OriginAnswer) -> type[SourceError]:
    status = answer.status or 0
    if status >= 500:
        return errors.SourceUnavailable
    return _SOURCE_CLASSES.get(status, errors.SourceRefused if status >= 400 else SourceError)


def _shortened(text: str) -> str:
    """At most MAX_MESSAGE_BYTES of UTF-8; what UTF-8 cannot hold (a path that is no text) becomes `?`."""
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= MAX_MESSAGE_BYTES:
        return encoded.decode()
    return encoded[: MAX_MESSAGE_BYTES - 3].decode("utf-8", "ignore") + "…"
