"""What of a caller's wishes the scheduler gets to know."""

import pytest

from dragonfly.core.model.piece import PieceGeometry
from dragonfly.core.model.ranges import ByteRange
from dragonfly.core.model.units import MiB
from dragonfly.dfdaemon.registration import registration
from dragonfly.dfdaemon.request import DownloadRequest
from dragonfly.wire.pb import common_pb2

GEOMETRY = PieceGeometry(10 * MiB, 4 * MiB)


def registered(
    span: ByteRange | None = None,
    geometry: PieceGeometry = GEOMETRY,
    generation: str = "g1",
    is_seed: bool = False,
    **asked: object,
) -> common_pb2.Download:
    wire = common_pb2.Download(**{"url": "http://origin.test/file", **asked})  # type: ignore[arg-type]
    request = DownloadRequest.from_wire(wire)
    return registration(request, span, geometry, generation, concurrent_piece_count=8, is_seed=is_seed)


def test_what_was_asked_for_is_told_with_what_the_origin_said() -> None:
    told = registered(tag="t", request_header={"Authorization": "x"})
    assert (told.url, told.tag, dict(told.request_header)) == ("http://origin.test/file", "t", {"Authorization": "x"})
    assert (told.actual_content_length, told.actual_piece_length, told.actual_piece_count) == (10 * MiB, 4 * MiB, 3)
    assert (told.generation, told.concurrent_piece_count) == ("g1", 8)


def test_length_nobody_knows_is_not_told() -> None:
    told = registered(geometry=PieceGeometry.open(4 * MiB))
    assert not told.HasField("actual_content_length")
    assert not told.HasField("actual_piece_count")


def test_where_the_file_goes_is_nobody_elses_business() -> None:
    assert not registered(output_path="/home/user/secret-plans").HasField("output_path")


@pytest.mark.parametrize("asked", [{"request_header": {"rANGE": "bytes=-5"}}, {"range": common_pb2.Range(length=5)}])
def test_part_is_told_as_it_is_brought_here_not_as_it_was_asked_for(asked: dict[str, object]) -> None:
    told = registered(ByteRange(4 * MiB, 6 * MiB), **asked)
    assert (told.range.start, told.range.length) == (4 * MiB, 6 * MiB)
    assert not told.request_header
    assert not registered(**asked).HasField("range")  # all of it is brought


@pytest.mark.parametrize(("is_seed", "asks_itself"), [(False, False), (True, False), (False, True)])
def test_seed_needs_the_origin_and_so_does_who_says_so(is_seed: bool, asks_itself: bool) -> None:
    assert registered(is_seed=is_seed, need_back_to_source=asks_itself).need_back_to_source == (is_seed or asks_itself)
