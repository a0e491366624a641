"""The downloading side of AnnouncePeer: commands of core.transfer -> messages, the scheduler's answers -> events."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

from dragonfly.core.model.ids import HostId, PeerId
from dragonfly.core.model.peer import PeerState
from dragonfly.core.model.piece import MAX_PIECE_COUNT, ROOT_LENGTH, PieceNumber
from dragonfly.core.model.units import Bytes, Seconds
from dragonfly.core.transfer import commands as do
from dragonfly.core.transfer.events import (
    BackToSourceOffered,
    EmptyOffered,
    Event,
    MetadataOnlyOffered,
    Parent,
    ParentsOffered,
    RootsTold,
)
from dragonfly.errors import ProtocolViolation
from dragonfly.wire.convert import MAX_PORT, piece_to_pb
from dragonfly.wire.pb import common_pb2, scheduler_pb2

Request = scheduler_pb2.AnnouncePeerRequest


class PeerMessages:
    """Writes the messages of one peer, which registers with `download`; only the scheduler sees its credentials."""

    def __init__(self, host_id: str, task_id: str, peer_id: str, download: common_pb2.Download) -> None:
        self._ids = Request(host_id=host_id, task_id=task_id, peer_id=peer_id)
        self._download = download

    def request(self, command: do.Command, now: Seconds) -> Request | None:
        """The message that tells the scheduler of `command`; None where it is not for the scheduler."""
        if isinstance(command, do.Register):
            return self._register(command)
        write = _WRITERS.get(type(command))
        if write is None:
            return None
        request = Request()
        request.CopyFrom(self._ids)
        write(request, command, now)
        return request

    def _register(self, command: do.Register) -> Request:
        request = Request()
        request.CopyFrom(self._ids)
        request.register_peer_request.download.CopyFrom(self._download)
        request.register_peer_request.download.metadata_only = command.metadata_only
        request.register_peer_request.takes_unasked = True
        return request


def _started(request: Request, command: do.ReportStarted, now: Seconds) -> None:
    request.download_peer_started_request.SetInParent()


def _back_to_source_started(request: Request, command: do.ReportBackToSourceStarted, now: Seconds) -> None:
    request.download_peer_back_to_source_started_request.SetInParent()


def _piece(request: Request, command: do.ReportPiece, now: Seconds) -> None:
    if command.piece.parent_id is None:
        piece = piece_to_pb(command.piece, common_pb2.BACK_TO_SOURCE, now)
        request.download_piece_back_to_source_finished_request.piece.CopyFrom(piece)
    else:
        piece = piece_to_pb(command.piece, common_pb2.REMOTE_PEER, now)
        request.download_piece_finished_request.piece.CopyFrom(piece)


def _piece_failed(request: Request, command: do.ReportPieceFailed, now: Seconds) -> None:
    message = request.download_piece_failed_request
    message.parent_id, message.temporary = command.parent_id, command.is_its_fault
    if command.number is not None:
        message.piece_number = command.number


def _reschedule(request: Request, command: do.AskForParents, now: Seconds) -> None:
    message = request.reschedule_peer_request
    message.description = command.reason
    message.candidate_parents.extend(common_pb2.Peer(id=parent_id) for parent_id in command.failed)


def _finished(request: Request, command: do.ReportFinished, now: Seconds) -> None:
    if command.from_source:
        message = request.download_peer_back_to_source_finished_request
        message.SetInParent()
        if command.content_length is not None:
            message.content_length = command.content_length
    else:
        request.download_peer_finished_request.SetInParent()


def _failed(request: Request, command: do.ReportFailed, now: Seconds) -> None:
    if command.from_source:
        request.download_peer_back_to_source_failed_request.description = str(command.error)
    else:
        request.download_peer_failed_request.description = str(command.error)


_WRITERS: dict[type[Any], Callable[[Request, Any, Seconds], None]] = {
    do.ReportStarted: _started,
    do.ReportBackToSourceStarted: _back_to_source_started,
    do.ReportPiece: _piece,
    do.ReportPieceFailed: _piece_failed,
    do.AskForParents: _reschedule,
    do.ReportFinished: _finished,
    do.ReportFailed: _failed,
}


Answer = scheduler_pb2.AnnouncePeerResponse


@dataclass(frozen=True, slots=True)
class Heard:
    """What an answer says: the event it is for the machine, and what only the shell needs.

    `addresses` are the gRPC addresses of the parents in it, `piece_addresses` (IP, port) where those serve pieces that
    say so and have read the origin, or have the whole task; `roots` what pieces must hash to (empty: their source did
    not say), `content_length` the length of a file nobody knew.
    """

    event: Event
    addresses: Mapping[PeerId, str] = field(default_factory=dict)
    roots: Mapping[PieceNumber, bytes] = field(default_factory=dict)
    content_length: Bytes | None = None
    piece_addresses: Mapping[PeerId, tuple[str, int]] = field(default_factory=dict)


def read_response(response: Answer | None, scheduler: str) -> Heard:
    """Raises ProtocolViolation, naming the `scheduler`, for an answer without content or one gRPC could not read."""
    if response is None:
        raise ProtocolViolation(address=scheduler, reason="a message that makes no sense")
    match response.WhichOneof("response"):
        case "normal_task_response":
            peers = response.normal_task_response.candidate_parents
            addresses = {PeerId(peer.id): f"{_bracketed(peer.host.ip)}:{peer.host.port}" for peer in peers}
            places = {PeerId(peer.id): (peer.host.ip, peer.host.piece_port) for peer in peers if _serves_at_once(peer)}
            return Heard(ParentsOffered(tuple(_parent(peer) for peer in peers)), addresses, piece_addresses=places)
        case "need_back_to_source_response":
            return Heard(BackToSourceOffered(response.need_back_to_source_response.description))
        case "empty_task_response":
            return Heard(EmptyOffered())
        case "metadata_only_response":
            return Heard(MetadataOnlyOffered())
        case "piece_roots_response":
            return _roots(response.piece_roots_response, scheduler)
    raise ProtocolViolation(address=scheduler, reason="an answer without content")


def _roots(message: scheduler_pb2.PieceRootsResponse, scheduler: str) -> Heard:
    roots = {PieceNumber(told.number): told.root for told in message.roots}
    if any(number >= MAX_PIECE_COUNT or len(root) not in (0, ROOT_LENGTH) for number, root in roots.items()):
        raise ProtocolViolation(address=scheduler, reason="a root that no piece can have")
    length = message.content_length if message.HasField("content_length") else None
    return Heard(RootsTold(tuple(roots)), roots=roots, content_length=length)


def _parent(peer: common_pb2.Peer) -> Parent:
    network = peer.host.network
    spare = max(network.max_tx_bandwidth - network.tx_bandwidth, network.max_tx_bandwidth // 10)
    return Parent(PeerId(peer.id), HostId(peer.host.id), spare)


def _serves_at_once(peer: common_pb2.Peer) -> bool:
    """Whether it need not be listened to, to be asked for a piece that was read at the origin."""
    if peer.state not in (PeerState.BACK_TO_SOURCE, PeerState.SUCCEEDED):
        return False
    try:  # a literal address, as looking up a stranger's name could take for ever
        ip_address(peer.host.ip)
    except ValueError:
        return False
    return 0 < peer.host.piece_port <= MAX_PORT


def _bracketed(ip: str) -> str:
    return f"[{ip}]" if ":" in ip else ip
