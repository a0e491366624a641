"""The AnnouncePeer stream's messages, and those that tell of held tasks."""

from contextlib import suppress
from dataclasses import replace

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from dragonfly.core.model.host import Host, HostType
from dragonfly.core.model.ids import HostId, PeerId, public_task
from dragonfly.core.model.piece import PieceGeometry
from dragonfly.core.model.ranges import ByteRange
from dragonfly.core.model.task import HeldTask, TaskDescription
from dragonfly.core.model.units import MiB
from dragonfly.core.scheduling.commands import TellRoots
from dragonfly.core.scheduling.events import PieceFinished, TasksHeld
from dragonfly.errors import InvalidIdentifier, InvalidInput
from dragonfly.wire.announce import (
    MAX_HELD_TASKS,
    StreamIdentity,
    event_from_pb,
    held_task_to_pb,
    held_tasks_from_pb,
    registration_from_pb,
    roots_to_pb,
    seed_trigger,
)
from dragonfly.wire.convert import host_to_pb
from dragonfly.wire.pb import common_pb2, scheduler_pb2

TASK = "c" * 64
URL = "http://origin.test/file"
IDENTITY = StreamIdentity(HostId("h"), public_task(TASK), PeerId("p"))
HELD = HeldTask(
    TaskDescription(
        key=public_task(TASK), url=URL, geometry=PieceGeometry(10 * MiB, 4 * MiB), tag="t", application="a"
    ),
    "0123456789abcdef",
)


def request(**message: object) -> scheduler_pb2.AnnouncePeerRequest:
    return scheduler_pb2.AnnouncePeerRequest(host_id="h", task_id=TASK, peer_id="p", **message)


def registration(**download: object) -> scheduler_pb2.AnnouncePeerRequest:
    wire = common_pb2.Download(url=URL, **download)
    return request(register_peer_request=scheduler_pb2.RegisterPeerRequest(download=wire))


def announcement(*held: scheduler_pb2.HeldTask) -> scheduler_pb2.AnnounceHostRequest:
    host = Host(id=HostId("h"), type=HostType.NORMAL, hostname="h", ip="127.0.0.1", port=1)
    return scheduler_pb2.AnnounceHostRequest(host=host_to_pb(host), held_tasks=held)


def test_registration_names_the_generation_and_may_not_know_the_length() -> None:
    event = registration_from_pb(IDENTITY, registration(generation="abc"))
    assert (event.generation, event.task.geometry) == ("abc", None)
    assert registration_from_pb(IDENTITY, registration()).generation == ""


def test_range_of_a_file_of_unknown_length_stays_as_it_is() -> None:
    event = registration_from_pb(IDENTITY, registration(range=common_pb2.Range(start=0, length=100)))
    assert event.interest == ByteRange(0, 100)


@pytest.mark.parametrize("generation", ["x" * 65, "line\nbreak"])
def test_generation_that_is_none_is_refused(generation: str) -> None:
    with pytest.raises(InvalidIdentifier):
        registration_from_pb(IDENTITY, registration(generation=generation))


@pytest.mark.parametrize(("sent", "heard"), [(b"r" * 32, b"r" * 32), (b"", b""), (b"r" * 31, b""), (b"r" * 33, b"")])
def test_reported_piece_brings_its_root_or_none(sent: bytes, heard: bytes) -> None:
    piece = common_pb2.Piece(number=3, root=sent)
    from_source = scheduler_pb2.DownloadPieceBackToSourceFinishedRequest(piece=piece)
    event = event_from_pb(IDENTITY, request(download_piece_back_to_source_finished_request=from_source))
    assert event == PieceFinished(PeerId("p"), 3, None, heard)
    from_parent = scheduler_pb2.DownloadPieceFinishedRequest(piece=piece)
    from_parent.piece.parent_id = "q"
    event = event_from_pb(IDENTITY, request(download_piece_finished_request=from_parent))
    assert event == PieceFinished(PeerId("p"), 3, PeerId("q"), heard)


def test_roots_are_told_by_number_and_an_empty_list_is_a_message_too() -> None:
    roots = roots_to_pb(TellRoots(PeerId("p"), ((3, b"r" * 32), (4, b"")))).piece_roots_response.roots
    assert [(root.number, root.root) for root in roots] == [(3, b"r" * 32), (4, b"")]
    assert roots_to_pb(TellRoots(PeerId("p"), ())).WhichOneof("response") == "piece_roots_response"


def test_held_tasks_arrive_as_they_were_sent() -> None:
    assert held_tasks_from_pb(announcement(held_task_to_pb(HELD))) == TasksHeld(HostId("h"), (HELD,))
    assert held_tasks_from_pb(announcement()) is None


def test_too_many_held_tasks_in_one_message_are_refused() -> None:
    with pytest.raises(InvalidInput, match="held tasks"):
        held_tasks_from_pb(announcement(*[held_task_to_pb(HELD)] * (MAX_HELD_TASKS + 1)))


@pytest.mark.parametrize(
    "change",
    [
        {"task_id": "short"},
        {"url": ""},
        {"url": "http://o/" + "x" * 9000},
        {"generation": "g" * 100},
        {"content_length": 1 << 63, "piece_length": 1},
    ],
)
def test_held_task_that_cannot_be_is_refused(change: dict[str, object]) -> None:
    message = held_task_to_pb(HELD)
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(InvalidInput):
        held_tasks_from_pb(announcement(message))


@given(st.binary(max_size=127))
def test_announcement_made_of_any_bytes_is_read_or_refused(wire: bytes) -> None:
    """Attack 43."""
    message = announcement()
    with suppress(DecodeError, InvalidInput):
        message.MergeFromString(b"\xc2\x3e" + bytes([len(wire)]) + wire)  # as one held task
        held_tasks_from_pb(message)


def test_seed_is_woken_for_the_part_and_finds_out_the_rest_by_itself() -> None:
    download = common_pb2.Download(
        url=URL,
        generation="abc",
        prefetch=True,
        range=common_pb2.Range(start=5, length=1),
        request_header={"range": "bytes=5-5", "Authorization": "Basic x"},
    )
    seeded = seed_trigger(download, ByteRange(0, 4 * MiB)).download
    assert (seeded.range.start, seeded.range.length) == (0, 4 * MiB)
    assert dict(seeded.request_header) == {"Authorization": "Basic x"}
    assert (seeded.generation, seeded.prefetch, seeded.need_back_to_source) == ("", False, True)
    assert not seed_trigger(download, None).download.HasField("range")


def test_held_task_of_unknown_generation_is_one() -> None:
    held = replace(HELD, generation="")
    event = held_tasks_from_pb(announcement(held_task_to_pb(held)))
    assert event is not None
    assert event.tasks == (held,)
