"""What the tests of whole swarms share: an origin with one file of three pieces, and a small cluster."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from dragonfly.core.model.units import MiB
from dragonfly.testing.cluster import LocalCluster
from dragonfly.testing.origin import Origin

CONTENT = os.urandom(10 * MiB + 12345)  # three pieces, the last one short


@pytest.fixture
def content() -> bytes:
    """The bytes of the origin's /file."""
    return CONTENT


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as made:
        made.put("/file", CONTENT)
        yield made


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[LocalCluster]:
    """A scheduler, a seed peer and four peers."""
    async with LocalCluster(tmp_path, peers=4) as made:
        yield made
