"""Finished pieces in few bytes."""

import os
import tracemalloc

import pytest

from dragonfly.core.model.piece import Piece, PieceGeometry, PieceNumber, PieceSet
from dragonfly.core.model.units import MiB
from dragonfly.errors import InvalidDigest
from dragonfly.storage.piece_table import PieceTable

GEOMETRY = PieceGeometry(1000 * MiB - 5, MiB)


def piece(number: int, parent_id: str | None = "parent", root: bytes = b"", digest: str = "crc32:7") -> Piece:
    span = GEOMETRY.span(PieceNumber(number))
    return Piece(PieceNumber(number), span.start, span.length, digest, parent_id, number / 8, root)


def test_pieces_come_back_as_they_were_put() -> None:
    table = PieceTable()
    pieces = [
        piece(999, None),
        piece(0, "a", os.urandom(32), "crc32:4294967295"),
        piece(64, "b", bytes(32), "crc32:0"),
        piece(63, "a"),
    ]
    for one in pieces:
        table.put(one)
    assert [table.get(one.number, GEOMETRY) for one in pieces] == pieces
    assert list(table.some(PieceSet([0, 1, 63, 999]), GEOMETRY)) == [pieces[1], pieces[3], pieces[0]]
    assert table.get(PieceNumber(1), GEOMETRY) is None
    assert list(table.have) == [0, 63, 64, 999]


def test_a_piece_put_again_replaces_the_first() -> None:
    table = PieceTable()
    table.put(piece(3, "a"))
    table.put(piece(3, "b"))
    assert [one.parent_id for one in table.some(PieceSet([3]), GEOMETRY)] == ["b"]


@pytest.mark.parametrize("digest", ["sha256:" + "0" * 64, "crc32:4294967296", "nothing"])
def test_only_checksums_are_kept(digest: str) -> None:
    with pytest.raises((ValueError, InvalidDigest)):
        PieceTable().put(piece(0, digest=digest))


def test_a_piece_takes_less_than_a_hundred_bytes() -> None:
    geometry = PieceGeometry(5000 * MiB, MiB)
    tracemalloc.start()
    table = PieceTable()
    for number in geometry.numbers():
        span = geometry.span(number)
        table.put(Piece(number, span.start, span.length, f"crc32:{number}", f"parent {number % 4}", 0.5, bytes(32)))
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken < 100 * geometry.piece_count
