"""The watermark of a piece on its way in, and what becomes of those who wait when its writer leaves."""

from collections.abc import Callable
from threading import Event, Thread

import pytest

from dragonfly.core.model.piece import PieceNumber
from dragonfly.errors import PieceNotFound
from dragonfly.storage import in_flight
from dragonfly.storage.in_flight import InFlight

DEADLINE = 10.0


@pytest.fixture
def piece() -> InFlight:
    """One of a thousand bytes, written and followed."""
    made = InFlight("0" * 64, PieceNumber(3), 1000)
    made.take()
    made.follow()
    return made


def test_the_watermark_only_rises_while_somebody_follows(piece: InFlight) -> None:
    piece.advance(500)
    piece.advance(400)
    assert piece.wait_beyond(0, 0.0) == 500
    assert piece.begin("") == 500
    assert piece.wait_beyond(0, 0.0) == 500


def test_with_nobody_following_a_writer_begins_at_nothing(piece: InFlight) -> None:
    piece.advance(500)
    piece.unfollow()
    assert piece.begin("") == 0
    piece.follow()
    assert piece.wait_beyond(0, 0.0) == 0


def test_a_watermark_counted_in_whole_leaves_ends_with_the_piece(piece: InFlight) -> None:
    piece.advance(1 << 18)
    assert piece.wait_beyond(0, 0.0) == 1000


def test_a_piece_becomes_shorter_with_its_task(piece: InFlight) -> None:
    piece.shorten(300)
    piece.keep("crc32:1")
    assert (piece.length, piece.wait_beyond(0, 0.0), piece.digest) == (300, 300, "crc32:1")


def waits(piece: InFlight, count: int) -> tuple[Thread, list[object]]:
    """A follower who waits for more than `count` bytes, on its way, and what came of that."""
    outcome, begun = list[object](), Event()

    def wait() -> None:
        begun.set()
        try:
            outcome.append(piece.wait_beyond(count, 600.0))
        except PieceNotFound:
            outcome.append("not found")

    thread = Thread(target=wait)
    thread.start()
    begun.wait(DEADLINE)
    return thread, outcome


def test_a_follower_goes_on_with_the_next_writer(piece: InFlight) -> None:
    piece.advance(10)
    follower, outcome = waits(piece, 10)
    piece.give_up()
    piece.take()
    assert piece.begin("") == 10
    piece.advance(11)
    follower.join(DEADLINE)
    assert outcome == [11]


def test_a_follower_does_not_wait_for_ever_for_another_writer(piece: InFlight, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_flight, "TAKEOVER_TIMEOUT", 0.02)
    piece.advance(10)
    follower, outcome = waits(piece, 10)
    piece.give_up()
    follower.join(DEADLINE)
    assert outcome == ["not found"]
    assert piece.wait_beyond(9, 0.0) == 10


@pytest.mark.parametrize(
    "end", [InFlight.leave_task, lambda piece: piece.shorten(0)], ids=["deleted", "behind the end"]
)
def test_a_follower_of_what_cannot_come_is_told_at_once(piece: InFlight, end: Callable[[InFlight], None]) -> None:
    follower, outcome = waits(piece, 0)
    end(piece)
    follower.join(DEADLINE)
    assert outcome == ["not found"]


def test_whoever_waits_for_a_writer_is_told_of_one_or_of_the_end(piece: InFlight) -> None:
    assert piece.wait_for_writer(0.0)
    piece.give_up()
    assert not piece.wait_for_writer(0.0)
    piece.take()
    piece.keep("crc32:1")
    assert piece.wait_for_writer(0.0)
    piece.leave_task()
    assert not piece.wait_for_writer(0.0)
