import pytest

from dragonfly.core.model.host import HostType
from dragonfly.core.model.piece import PieceGeometry
from dragonfly.core.model.task import SizeScope
from dragonfly.core.model.units import MiB


@pytest.mark.parametrize(
    ("content_length", "scope"),
    [
        (0, SizeScope.EMPTY),
        (1, SizeScope.TINY),
        (128, SizeScope.TINY),
        (129, SizeScope.SMALL),
        (4 * MiB, SizeScope.SMALL),
        (4 * MiB + 1, SizeScope.NORMAL),
    ],
)
def test_size_scope_follows_length_and_pieces(content_length, scope):
    assert SizeScope.of(PieceGeometry.of(content_length)) is scope


def test_size_scope_of_an_unknown_length_is_unknown():
    assert SizeScope.of(None) is SizeScope.UNKNOWN


def test_every_type_but_normal_is_a_seed_peer():
    assert [kind.is_seed for kind in HostType] == [False, True, True, True]
