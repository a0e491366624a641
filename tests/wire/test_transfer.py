"""What a daemon and a scheduler say to each other about one peer, from the daemon's side."""

import pytest

from dragonfly.core.model.ids import PeerId
from dragonfly.core.model.piece import MAX_PIECE_COUNT, Piece, PieceNumber
from dragonfly.core.transfer import commands as do
from dragonfly.core.transfer.events import (
    BackToSourceOffered,
    EmptyOffered,
    MetadataOnlyOffered,
    ParentsOffered,
    RootsTold,
)
from dragonfly.errors import ProtocolViolation, SourceNotFound
from dragonfly.wire.pb import common_pb2, scheduler_pb2
from dragonfly.wire.transfer import Answer, PeerMessages, Request, read_response

ROOT = b"r" * 32


def messages() -> PeerMessages:
    download = common_pb2.Download(url="http://o/f", request_header={"Authorization": "secret"})
    return PeerMessages("host", "t" * 64, "peer", download)


def said(command: do.Command) -> Request:
    request = messages().request(command, 1000.0)
    assert request is not None
    assert (request.host_id, request.task_id, request.peer_id) == ("host", "t" * 64, "peer")
    return request


def test_registration_carries_the_download_and_says_that_answers_are_heard_at_any_time() -> None:
    register = said(do.Register(metadata_only=True)).register_peer_request
    assert register.download.url == "http://o/f"
    assert register.download.metadata_only
    assert register.takes_unasked


@pytest.mark.parametrize(("parent", "kind"), [(None, "download_piece_back_to_source_finished_request"),
                                              ("p", "download_piece_finished_request")])  # fmt: skip
def test_piece_is_reported_by_where_it_came_from_with_what_it_hashed_to(parent: str | None, kind: str) -> None:
    request = said(do.ReportPiece(Piece(PieceNumber(3), 30, 10, "crc32:1", parent, root=ROOT)))
    assert request.WhichOneof("request") == kind
    piece = getattr(request, kind).piece
    assert (piece.number, piece.offset, piece.length, piece.root) == (3, 30, 10, ROOT)


def test_length_that_was_learnt_at_the_origin_is_told_at_the_end() -> None:
    request = said(do.ReportFinished(from_source=True, content_length=7))
    assert request.download_peer_back_to_source_finished_request.content_length == 7
    request = said(do.ReportFinished(from_source=True))
    assert not request.download_peer_back_to_source_finished_request.HasField("content_length")
    assert said(do.ReportFinished(from_source=False)).WhichOneof("request") == "download_peer_finished_request"


def test_failure_is_told_in_a_sentence() -> None:
    error = SourceNotFound(url="http://o/f", status=404)
    assert said(do.ReportFailed(error, from_source=False)).download_peer_failed_request.description == str(error)


@pytest.mark.parametrize("command", [do.Finish(), do.CallAgainAt(1.0), do.Notify("x"), do.StreamFromSource()])
def test_what_is_not_for_the_scheduler_is_no_message(command: do.Command) -> None:
    assert messages().request(command, 0.0) is None


def test_offered_parents_come_with_where_they_answer() -> None:
    host = common_pb2.Host(id="h", ip="::1", port=9)
    normal = scheduler_pb2.NormalTaskResponse(candidate_parents=[common_pb2.Peer(id="p", host=host)])
    heard = read_response(Answer(normal_task_response=normal), "s")
    assert isinstance(heard.event, ParentsOffered)
    assert heard.addresses == {"p": "[::1]:9"}


@pytest.mark.parametrize(("state", "ip", "port", "places"), [
    ("Succeeded", "10.0.0.1", 4001, {"p": ("10.0.0.1", 4001)}),
    ("BackToSource", "::1", 4001, {"p": ("::1", 4001)}),
    ("Running", "10.0.0.1", 4001, {}),  # it may not have it yet
    ("Succeeded", "10.0.0.1", 0, {}),  # a parent of the reference
    ("Succeeded", "10.0.0.1", 65536, {}),
    ("Succeeded", "parent.test", 4001, {}),
])  # fmt: skip
def test_parents_are_known_by_where_they_serve_pieces_if_they_have_some_and_say_so(
    state: str, ip: str, port: int, places: dict[str, tuple[str, int]]
) -> None:
    peer = common_pb2.Peer(id="p", state=state, host=common_pb2.Host(id="h", ip=ip, port=9, piece_port=port))
    normal = scheduler_pb2.NormalTaskResponse(candidate_parents=[peer])
    assert read_response(Answer(normal_task_response=normal), "s").piece_addresses == places


def test_other_answers_are_events() -> None:
    back = scheduler_pb2.NeedBackToSourceResponse(description="why")
    assert read_response(Answer(need_back_to_source_response=back), "s").event == BackToSourceOffered("why")
    assert read_response(Answer(empty_task_response={}), "s").event == EmptyOffered()
    assert read_response(Answer(metadata_only_response={}), "s").event == MetadataOnlyOffered()


def roots(*told: tuple[int, bytes], **more: int) -> Answer:
    pairs = [scheduler_pb2.PieceRoot(number=number, root=root) for number, root in told]
    return Answer(piece_roots_response=scheduler_pb2.PieceRootsResponse(roots=pairs, **more))


def test_roots_come_with_their_numbers_and_an_empty_one_says_that_there_is_none() -> None:
    heard = read_response(roots((1, ROOT), (2, b"")), "s")
    assert heard.event == RootsTold((PieceNumber(1), PieceNumber(2)))
    assert heard.roots == {1: ROOT, 2: b""}
    assert heard.content_length is None
    assert read_response(roots(content_length=0), "s").content_length == 0


@pytest.mark.parametrize("told", [(0, b"short"), (MAX_PIECE_COUNT, ROOT)])
def test_root_that_no_piece_can_have_is_a_violation(told: tuple[int, bytes]) -> None:
    with pytest.raises(ProtocolViolation):
        read_response(roots(told), "s")


@pytest.mark.parametrize("answer", [None, Answer()])
def test_answer_without_content_is_a_violation(answer: Answer | None) -> None:
    with pytest.raises(ProtocolViolation, match="s"):
        read_response(answer, "s")


def test_spare_bandwidth_of_a_parent_is_never_less_than_a_tenth() -> None:
    network = common_pb2.Network(max_tx_bandwidth=1000, tx_bandwidth=990)
    peer = common_pb2.Peer(id=PeerId("p"), host=common_pb2.Host(ip="1.2.3.4", network=network))
    heard = read_response(Answer(normal_task_response={"candidate_parents": [peer]}), "s")
    assert isinstance(heard.event, ParentsOffered)
    assert heard.event.parents[0].spare_bandwidth == 100
