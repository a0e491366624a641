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


@pytest.fixture
def source(waits: list[Seconds]) -> Iterator[HttpSource]:
    source = HttpSource(sleep=waits.append)
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
