import pytest

from dragonfly.core.model.piece import (
    MAX_PIECE_COUNT,
    MIN_PIECE_LENGTH,
    PieceGeometry,
    PieceSet,
    check_requested_piece_length,
    piece_length,
)
from dragonfly.core.model.ranges import ByteRange
from dragonfly.core.model.units import GiB, MiB
from dragonfly.errors import InvalidContentLength, InvalidPieceLength

TEN_BY_FOUR = PieceGeometry(10, 4)


def test_negative_content_cannot_be_cut():
    with pytest.raises(InvalidContentLength):
        piece_length(-1)
    with pytest.raises(InvalidContentLength):
        PieceGeometry(-1, 4)


@pytest.mark.parametrize("length", [4 * MiB, 5 * MiB, GiB])
def test_piece_length_within_bounds_may_be_asked_for(length):
    assert check_requested_piece_length(length) == length


@pytest.mark.parametrize("length", [-1, 0, 4 * MiB - 1, GiB + 1])
def test_piece_length_out_of_bounds_may_not_be_asked_for(length):
    with pytest.raises(InvalidPieceLength):
        check_requested_piece_length(length)


def test_requested_piece_length_wins_over_the_computed_one():
    assert PieceGeometry.of(100 * MiB, 10 * MiB) == PieceGeometry(100 * MiB, 10 * MiB)
    assert PieceGeometry.of(100 * MiB, None) == PieceGeometry(100 * MiB, 4 * MiB)


@pytest.mark.parametrize("length", [0, -4])
def test_pieces_have_a_length(length):
    with pytest.raises(InvalidPieceLength):
        PieceGeometry(10, length)


def test_content_in_more_pieces_than_a_set_can_hold_is_refused():
    assert PieceGeometry(MAX_PIECE_COUNT, 1).piece_count == MAX_PIECE_COUNT
    with pytest.raises(InvalidPieceLength, match="outside 2 to"):
        PieceGeometry(MAX_PIECE_COUNT + 1, 1)
    with pytest.raises(InvalidPieceLength):
        PieceGeometry.of(2**64 - 1)


def test_last_piece_may_be_shorter():
    assert [TEN_BY_FOUR.span(number) for number in TEN_BY_FOUR.numbers()] == [
        ByteRange(0, 4),
        ByteRange(4, 4),
        ByteRange(8, 2),
    ]


@pytest.mark.parametrize("number", [-1, 3, 2**32])
def test_piece_that_is_not_there_has_no_span(number):
    with pytest.raises(IndexError):
        TEN_BY_FOUR.span(number)


@pytest.mark.parametrize(
    ("start", "length", "numbers"),
    [
        (0, 1, [0]),
        (3, 2, [0, 1]),
        (0, 10, [0, 1, 2]),
        (4, 4, [1]),
        (9, 1, [2]),
        (9, 1000, [2]),
        (10, 1, []),
        (11, 1, []),
        (1000, 5, []),
    ],
)
def test_range_touches_the_pieces_that_hold_its_bytes(start, length, numbers):
    assert list(TEN_BY_FOUR.pieces_in(ByteRange(start, length))) == numbers


def test_empty_content_has_no_piece():
    empty = PieceGeometry.of(0)
    assert empty.piece_count == 0
    assert list(empty.numbers()) == list(empty.pieces_in(ByteRange(0, 1))) == []


@pytest.mark.parametrize("number", [-1, MAX_PIECE_COUNT, 2**32 - 1, 2**64])
def test_number_no_task_has_is_never_in_a_set(number):
    pieces = PieceSet([0])
    assert number not in pieces
    pieces.discard(number)
    with pytest.raises(IndexError):
        pieces.add(number)
    assert pieces == PieceSet([0])


@pytest.mark.parametrize("count", [-1, MAX_PIECE_COUNT + 1])
def test_set_cannot_be_full_of_more_than_a_task_may_have(count):
    with pytest.raises(IndexError):
        PieceSet.full(count)


def test_piece_set_is_written_as_its_numbers():
    assert repr(PieceSet([5, 1])) == "PieceSet([1, 5])"


def test_piece_set_is_not_hashable_as_it_changes():
    with pytest.raises(TypeError):
        hash(PieceSet())


# --- open lengths and parts


def test_open_geometry_has_every_piece_a_task_can_have_and_closes_at_a_length() -> None:
    opened = PieceGeometry.open()
    assert opened.is_open
    assert opened.piece_count == MAX_PIECE_COUNT
    assert opened.closed(MIN_PIECE_LENGTH + 1) == PieceGeometry(MIN_PIECE_LENGTH + 1, MIN_PIECE_LENGTH)


def test_set_of_a_span_holds_the_pieces_that_have_a_byte_of_it() -> None:
    geometry = PieceGeometry(25, 10)
    assert PieceSet.of(geometry) == PieceSet([0, 1, 2])
    assert PieceSet.of(geometry, ByteRange(9, 2)) == PieceSet([0, 1])
    assert PieceSet.of(geometry, ByteRange(20, 1)) == PieceSet([2])


def test_length_of_some_pieces_counts_the_short_last_one_as_it_is() -> None:
    geometry = PieceGeometry(25, 10)
    assert geometry.length_of(PieceSet()) == 0
    assert geometry.length_of(PieceSet([0])) == 10
    assert geometry.length_of(PieceSet([0, 2])) == 15
    assert geometry.length_of(PieceSet([1, 99])) == 10
    assert PieceGeometry(0, 10).length_of(PieceSet()) == 0
