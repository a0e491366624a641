"""The AnnouncePeer stream: requests -> the scheduler's events, commands -> responses.

Every message of a stream names its host, task and peer; `StreamIdentity` holds those of the first one, and a later
message under other names is refused: a peer reports for itself only. What arrives is untrusted and raises InvalidInput
where it cannot be; request headers stay in the message and never become part of an event.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc

from dragonfly.core.model.ids import HostId, PeerId, TaskKey, public_task
from dragonfly.core.model.piece import ROOT_LENGTH, PieceGeometry
from dragonfly.core.model.ranges import ByteRange
from dragonfly.core.model.task import HeldTask, TaskDescription, TaskState
from dragonfly.core.scheduling import events
from dragonfly.core.scheduling.commands import (
    CandidateParent,
    OfferBackToSource,
    OfferEmpty,
    OfferMetadataOnly,
    OfferParents,
    TellLength,
    TellRoots,
)
from dragonfly.core.scheduling.events import Event, PeerRegistered, TasksHeld
from dragonfly.errors import DragonflyError, InvalidIdentifier, InvalidInput, InvalidUrl
from dragonfly.wire.convert import (
    checked_identifier,
    description_from_download,
    description_to_task_pb,
    peer_to_pb,
    priority_from_pb,
    range_from_pb,
    range_to_pb,
)
from dragonfly.wire.pb import common_pb2, dfdaemon_pb2, scheduler_pb2
from dragonfly.wire.status import ERROR_KEY, grpc_status, restored_error

Request = scheduler_pb2.AnnouncePeerRequest
Response = scheduler_pb2.AnnouncePeerResponse
Answer = OfferParents | OfferBackToSource | OfferEmpty | OfferMetadataOnly

MAX_DESCRIPTION_LENGTH = 1024  # of a failure; it travels on to other peers and into logs
MAX_RESCHEDULED_PARENTS = 1000
MAX_HELD_TASKS = 1000  # in one message
HELD_TASKS_PER_MESSAGE = 500
MAX_GENERATION_LENGTH = 64
MAX_URL_LENGTH = 8192

WANTS_HELD_TASKS = "dragonfly-wants-held-tasks"
"""Metadata of AnnounceHost's answer: "1" where the scheduler did not know the host and wants to hear what it holds."""
SCHEDULER_VERSION = "dragonfly-scheduler"
"""Metadata of AnnouncePeer and AnnounceHost: the version of the scheduler, which is one of ours."""


@dataclass(frozen=True, slots=True)
class StreamIdentity:
    """On whose behalf a stream speaks."""

    host_id: HostId
    task: TaskKey
    peer_id: PeerId

    @classmethod
    def of(cls, request: Request) -> "StreamIdentity":
        """Raises InvalidIdentifier."""
        host_id = HostId(checked_identifier("host id", request.host_id))
        peer_id = PeerId(checked_identifier("peer id", request.peer_id))
        return cls(host_id, public_task(request.task_id), peer_id)

    def check(self, request: Request) -> None:
        """Raises InvalidInput where a later message speaks for somebody else."""
        named = (request.host_id, request.task_id, request.peer_id)
        if named != (self.host_id, self.task.task_id, self.peer_id):
            raise InvalidInput(reason=f"the stream of peer {self.peer_id} carried a message of another one")


def registration_from_pb(identity: StreamIdentity, request: Request) -> PeerRegistered:
    """The event of a stream's first message. Raises InvalidInput where it is another one, or makes no sense."""
    if request.WhichOneof("request") != "register_peer_request":
        raise InvalidInput(reason="a stream starts with a register_peer_request")
    register = request.register_peer_request
    download = register.download
    task = description_from_download(download, identity.task)
    return PeerRegistered(
        peer_id=identity.peer_id,
        host_id=identity.host_id,
        task=task,
        priority=priority_from_pb(download.priority),
        need_back_to_source=download.need_back_to_source,
        disable_back_to_source=download.disable_back_to_source,
        metadata_only=download.metadata_only,
        interest=_interest(download, task),
        generation=_generation(download.generation),
        takes_unasked=register.takes_unasked,
    )


def _interest(download: common_pb2.Download, task: TaskDescription) -> ByteRange | None:
    """The part that is wanted; None where that is all there is."""
    if not download.HasField("range"):
        return None
    span = range_from_pb(download.range)
    is_whole = span.start == 0 and task.geometry is not None and span.length >= task.geometry.content_length
    return None if is_whole else span


def _generation(text: str) -> str:
    """Raises InvalidIdentifier for what is none; empty is unknown."""
    if len(text) > MAX_GENERATION_LENGTH:
        raise InvalidIdentifier(kind="generation", text=text[:80])
    return checked_identifier("generation", text) if text else ""


def event_from_pb(identity: StreamIdentity, request: Request) -> Event:
    """The event of any later message. Raises InvalidInput."""
    identity.check(request)
    kind = request.WhichOneof("request")
    reader = _READERS.get(kind or "")
    if kind is None or reader is None:
        raise InvalidInput(reason=f"not a message for a running stream: {kind or 'an empty one'}")
    return reader(identity.peer_id, getattr(request, kind))


def _rescheduled(peer_id: PeerId, message: scheduler_pb2.ReschedulePeerRequest) -> Event:
    if len(message.candidate_parents) > MAX_RESCHEDULED_PARENTS:
        raise InvalidInput(reason=f"nobody was offered {len(message.candidate_parents)} parents")
    parents = tuple(PeerId(parent.id) for parent in message.candidate_parents)
    return events.PeerRescheduled(peer_id, parents, _described(message))


def _piece_finished(peer_id: PeerId, message: scheduler_pb2.DownloadPieceFinishedRequest) -> Event:
    piece, parent_id = message.piece, message.piece.parent_id
    return events.PieceFinished(peer_id, piece.number, PeerId(parent_id) if parent_id else None, _root(piece))


def _piece_from_source(peer_id: PeerId, message: scheduler_pb2.DownloadPieceBackToSourceFinishedRequest) -> Event:
    return events.PieceFinished(peer_id, message.piece.number, root=_root(message.piece))


def _root(piece: common_pb2.Piece) -> bytes:
    """Empty where there is none, or none that could be one."""
    return piece.root if len(piece.root) == ROOT_LENGTH else b""


def _piece_failed(peer_id: PeerId, message: scheduler_pb2.DownloadPieceFailedRequest) -> Event:
    number = message.piece_number if message.HasField("piece_number") else None
    return events.PieceFailed(peer_id, number, PeerId(message.parent_id), message.temporary)


def _source_piece_failed(peer_id: PeerId, message: scheduler_pb2.DownloadPieceBackToSourceFailedRequest) -> Event:
    if message.WhichOneof("response") == "backend":
        answered = f" (status {message.backend.status_code})" if message.backend.HasField("status_code") else ""
        description = (message.backend.message or "the origin failed") + answered
    else:
        description = message.unknown.message or "the origin failed"
    return events.PieceBackToSourceFailed(peer_id, description[:MAX_DESCRIPTION_LENGTH])


def _described(message: Any) -> str:  # several messages have a description and nothing else in common
    description: str = message.description
    return description[:MAX_DESCRIPTION_LENGTH]


_READERS: dict[str, Callable[[PeerId, Any], Event]] = {
    "download_peer_started_request": lambda peer_id, _: events.PeerStarted(peer_id),
    "download_peer_back_to_source_started_request": lambda peer_id, _: events.PeerBackToSourceStarted(peer_id),
    "reschedule_peer_request": _rescheduled,
    "download_peer_finished_request": lambda peer_id, _: events.PeerFinished(peer_id),
    "download_peer_back_to_source_finished_request": lambda peer_id, message: events.PeerBackToSourceFinished(
        peer_id, message.content_length if message.HasField("content_length") else None
    ),
    "download_peer_failed_request": lambda peer_id, message: events.PeerFailed(peer_id, _described(message)),
    "download_peer_back_to_source_failed_request": lambda peer_id, message: events.PeerBackToSourceFailed(
        peer_id, _described(message)
    ),
    "download_piece_finished_request": _piece_finished,
    "download_piece_back_to_source_finished_request": _piece_from_source,
    "download_piece_failed_request": _piece_failed,
    "download_piece_back_to_source_failed_request": _source_piece_failed,
}


def response_to_pb(answer: Answer, encode_parent: Callable[[CandidateParent], common_pb2.Peer]) -> Response:
    """The response that carries an answer; `encode_parent` is `parent_to_pb` or a cache before it."""
    match answer:
        case OfferParents(_, parents):
            normal = scheduler_pb2.NormalTaskResponse(candidate_parents=map(encode_parent, parents))
            return Response(normal_task_response=normal)
        case OfferBackToSource(_, reason):
            return Response(
                need_back_to_source_response=scheduler_pb2.NeedBackToSourceResponse(
                    description=reason[:MAX_DESCRIPTION_LENGTH]
                )
            )
        case OfferEmpty():
            return Response(empty_task_response=scheduler_pb2.EmptyTaskResponse())
        case OfferMetadataOnly():
            return Response(metadata_only_response=scheduler_pb2.MetadataOnlyResponse())


def roots_to_pb(command: TellRoots) -> Response:
    """The message that tells what pieces hash to; an empty root stays empty."""
    roots = [scheduler_pb2.PieceRoot(number=number, root=root) for number, root in command.roots]
    return Response(piece_roots_response=scheduler_pb2.PieceRootsResponse(roots=roots))


def length_to_pb(command: TellLength) -> Response:
    """The message that tells how long content is whose origin did not say."""
    return Response(piece_roots_response=scheduler_pb2.PieceRootsResponse(content_length=command.content_length))


def end_to_pb(error: DragonflyError | None) -> scheduler_pb2.PeerEnd:
    """How a conversation ended that has no stream of its own, and so no gRPC status: None is in peace."""
    if error is None:
        return scheduler_pb2.PeerEnd()
    status = grpc_status(error)
    code: int = status.code.value[0]
    return scheduler_pb2.PeerEnd(code=code, error=error.code, sentence=status.message)


def error_from_end(end: scheduler_pb2.PeerEnd) -> DragonflyError | None:
    """What `end_to_pb` was given; RemoteFailure for a code that is none."""
    if end.code == 0:
        return None
    code = next((code for code in grpc.StatusCode if code.value[0] == end.code), grpc.StatusCode.UNKNOWN)
    return restored_error(code, end.sentence, ((ERROR_KEY, end.error),))


def held_task_to_pb(held: HeldTask) -> scheduler_pb2.HeldTask:
    """A task a host holds. Its geometry has to be known: it is all here."""
    task, geometry = held.task, held.task.geometry
    assert geometry is not None
    return scheduler_pb2.HeldTask(
        task_id=task.key.wire_id,
        url=task.url,
        tag=task.tag,
        application=task.application,
        generation=held.generation,
        content_length=geometry.content_length,
        piece_length=geometry.piece_length,
    )


def held_task_from_pb(message: scheduler_pb2.HeldTask) -> HeldTask:
    """What a host says it holds. Raises InvalidInput where no task can be so."""
    if not 0 < len(message.url) <= MAX_URL_LENGTH:
        raise InvalidUrl(url=message.url[:80], reason="it is empty or too long")
    task = TaskDescription(
        key=public_task(message.task_id),
        url=message.url,
        geometry=PieceGeometry.of(message.content_length, message.piece_length or None),
        tag=message.tag,
        application=message.application,
    )
    return HeldTask(task, _generation(message.generation))


def held_tasks_from_pb(request: scheduler_pb2.AnnounceHostRequest) -> TasksHeld | None:
    """The event of an announcement that names held tasks; None for one that names none. Raises InvalidInput."""
    if not request.held_tasks:
        return None
    if len(request.held_tasks) > MAX_HELD_TASKS:
        raise InvalidInput(reason=f"{len(request.held_tasks)} held tasks in one message; {MAX_HELD_TASKS} are allowed")
    host_id = HostId(checked_identifier("host id", request.host.id))
    return TasksHeld(host_id, tuple(map(held_task_from_pb, request.held_tasks)))


def parent_to_pb(parent: CandidateParent) -> common_pb2.Peer:
    """A candidate parent with its whole host, and its task without anybody's request headers."""
    task = description_to_task_pb(parent.task, state=TaskState.RUNNING)
    return peer_to_pb(parent.peer_id, state=parent.state, host=parent.host, task=task)


def seed_trigger(download: common_pb2.Download, interest: ByteRange | None) -> dfdaemon_pb2.DownloadTaskRequest:
    """What a seed peer is woken with: the requester's download as a seed has to do it, of this part or the whole.

    The request headers go along, for the seed reads the origin on the requester's behalf; nothing else that is about
    the requester's machine does. Nor does what the requester found at the origin: the seed looks for itself.
    """
    request = dfdaemon_pb2.DownloadTaskRequest(download=download)
    seeded = request.download
    seeded.ClearField("output_path")
    seeded.ClearField("timeout")
    seeded.ClearField("remote_ip")
    seeded.ClearField("range")
    seeded.ClearField("priority")
    seeded.ClearField("generation")
    for name in [name for name in seeded.request_header if name.casefold() == "range"]:
        del seeded.request_header[name]
    if interest is not None:
        seeded.range.CopyFrom(range_to_pb(interest))
    seeded.need_back_to_source = True
    seeded.disable_back_to_source = seeded.metadata_only = False
    seeded.prefetch = seeded.need_piece_content = seeded.force_hard_link = seeded.overwrite = False
    return request


def bare_download(task: TaskDescription) -> common_pb2.Download:
    """A download known only by its task: for a requester that has gone meanwhile. It carries no credentials."""
    return common_pb2.Download(
        url=task.url,
        type=common_pb2.TaskType.ValueType(task.kind),
        digest=task.digest or None,
        tag=task.tag or None,
        application=task.application or None,
        filtered_query_params=task.filtered_query_params,
    )
