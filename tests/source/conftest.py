import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from dragonfly.core.model.units import Seconds
from dragonfly.source.http import HttpSource
from dragonfly.testing.origin import Origin
from dragonfly.testing.source_reader import Reader
from dragonfly.testing.tls import Authority


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as origin:
        yield origin


@pytest.fixture
def waits() -> list[Seconds]:
    """What the source would have waited between tries."""
    return []


class EvenChance(random.Random):
    """Chance that lies in the middle, so that delays are as long as they are on average."""

    def random(self) -> float:
        return 0.5


@pytest.fixture
def even_chance() -> random.Random:
    return EvenChance()


@pytest.fixture
def source(waits: list[Seconds], even_chance: random.Random) -> Iterator[HttpSource]:
    source = HttpSource(sleep=waits.append, rng=even_chance)
    yield source
    source.close()


@pytest.fixture
def reader(source: HttpSource, waits: list[Seconds]) -> Reader:
    return Reader(source, waits)


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def ca_file(authority: Authority, tmp_path: Path) -> Path:
    return authority.write_ca(tmp_path / "ca.pem")
