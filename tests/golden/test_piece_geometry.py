"""Piece lengths the reference computes; children ask for pieces by number, so both must cut alike."""

import pytest

from dragonfly.core.model.piece import PieceGeometry, piece_length
from dragonfly.core.model.units import GiB, MiB


@pytest.mark.parametrize(
    ("content_length", "expected"),
    [
        (0, 4 * MiB),
        (1, 4 * MiB),
        (2_097_152_499, 4 * MiB),
        (2_097_152_500, 8 * MiB),
        (2 * GiB, 8 * MiB),
        (5 * 10**9, 16 * MiB),
        (10 * GiB, 32 * MiB),
        (17 * 10**9, 64 * MiB),
        (1024 * GiB, 64 * MiB),
    ],
)
def test_piece_length_is_the_references(content_length, expected):
    assert piece_length(content_length) == expected


@pytest.mark.parametrize(("content_length", "count"), [(0, 0), (1, 1), (4 * MiB, 1), (4 * MiB + 1, 2), (10 * GiB, 320)])
def test_last_piece_holds_the_rest(content_length, count):
    assert PieceGeometry.of(content_length).piece_count == count
