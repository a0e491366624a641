"""Choosing pieces and parents."""

import random
from collections import Counter

from dragonfly.core.model.ids import HostId, PeerId
from dragonfly.core.model.piece import PieceNumber, PieceSet
from dragonfly.core.transfer.events import Parent
from dragonfly.core.transfer.parent_selector import ParentSelector
from dragonfly.core.transfer.piece_queue import PieceQueue
from dragonfly.errors import PieceNotFound

ANN, BOB = PeerId("ann"), PeerId("bob")


def queue(count: int, seed: int = 1) -> PieceQueue:
    return PieceQueue(PieceSet.full(count), random.Random(seed))


def selector(limit: int = 2, **spare: int) -> ParentSelector:
    made = ParentSelector(random.Random(1), limit)
    for name, bandwidth in spare.items():
        made.add(Parent(PeerId(name), HostId(name), bandwidth))
    return made


def test_piece_nobody_announced_cannot_be_had() -> None:
    assert queue(3).rarest({ANN}) is None


def test_piece_whose_holders_are_all_busy_waits() -> None:
    pieces = queue(1)
    pieces.announce(PieceNumber(0), ANN)
    assert pieces.rarest({BOB}) is None


def test_piece_with_fewest_holders_comes_first() -> None:
    pieces = queue(2)
    pieces.announce(PieceNumber(0), ANN)
    pieces.announce(PieceNumber(0), BOB)
    pieces.announce(PieceNumber(1), ANN)
    assert pieces.rarest({ANN, BOB}) == 1


def test_equally_rare_pieces_are_chosen_by_chance() -> None:
    chosen = Counter()
    for seed in range(200):
        pieces = queue(4, seed)
        for number in range(4):
            pieces.announce(PieceNumber(number), ANN)
        chosen[pieces.rarest({ANN})] += 1
    assert set(chosen) == {0, 1, 2, 3}
    assert min(chosen.values()) > 20


def test_taken_piece_is_not_chosen_until_it_is_given_back() -> None:
    pieces = queue(1)
    pieces.announce(PieceNumber(0), ANN)
    pieces.take(PieceNumber(0))
    assert pieces.rarest({ANN}) is None
    pieces.give_back(PieceNumber(0))
    assert pieces.rarest({ANN}) == 0


def test_forgotten_parent_holds_nothing() -> None:
    pieces = queue(1)
    pieces.announce(PieceNumber(0), ANN)
    assert pieces.is_useful(ANN)
    pieces.forget_parent(ANN)
    assert not pieces.is_useful(ANN)
    assert pieces.rarest({ANN}) is None


def test_parent_at_its_limit_is_not_asked() -> None:
    parents = selector(1, ann=0)
    parents.asked(ANN)
    assert parents.choose([ANN]) is None
    assert parents.free() == frozenset()
    parents.delivered(ANN)
    assert parents.choose([ANN]) == ANN


def test_parent_with_more_spare_bandwidth_is_asked_more_often() -> None:
    parents = selector(ann=9_000_000_000, bob=1_000_000_000)
    chosen = Counter(parents.choose([ANN, BOB]) for _ in range(1000))
    assert 800 < chosen[ANN] < 980


def test_dropped_parent_is_not_taken_on_again() -> None:
    parents = selector(ann=0)
    parents.drop(ANN)
    assert not parents.add(Parent(ANN, HostId("ann")))
    assert list(parents.dropped) == [ANN]


def test_success_forgives_earlier_failures() -> None:
    parents = selector(9, ann=0)
    missing = PieceNotFound(number=0, task_id="t")
    for _ in range(5):
        parents.asked(ANN)
        parents.asked(ANN)
        assert not parents.failed(ANN, missing)
        assert parents.delivered(ANN) is None
