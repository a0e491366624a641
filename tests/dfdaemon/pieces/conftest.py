"""A store that has the file, one that lacks it, servers and a client between them."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from dragonfly.dfdaemon.pieces.client import PieceClient
from dragonfly.storage.memory import MemoryStore
from tests.dfdaemon.pieces.peers import DEADLINE, Serve, new_store, servers


@pytest.fixture
def parent() -> Iterator[MemoryStore]:
    with closing(new_store(filled=True)) as store:
        yield store


@pytest.fixture
def child() -> Iterator[MemoryStore]:
    with closing(new_store(filled=False)) as store:
        yield store


@pytest.fixture
def serve() -> Iterator[Serve]:
    with servers() as start:
        yield start


@pytest.fixture
def client() -> Iterator[PieceClient]:
    with closing(PieceClient(header_timeout=DEADLINE, body_silence=DEADLINE)) as made:
        yield made
