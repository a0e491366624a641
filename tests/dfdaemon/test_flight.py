"""A flight's last words to its scheduler."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

import pytest

from dragonfly.core.model.ids import PeerId
from dragonfly.core.model.piece import PieceGeometry, PieceNumber
from dragonfly.core.model.units import MiB
from dragonfly.core.transfer import commands as do
from dragonfly.core.transfer.download import DownloadTerms
from dragonfly.core.transfer.events import MetadataOnlyOffered
from dragonfly.dfdaemon.flight import Flight, FlightDeck
from dragonfly.dfdaemon.parent_host import ParentHost
from dragonfly.dfdaemon.pieces.client import PieceClient
from dragonfly.dfdaemon.request import DownloadRequest
from dragonfly.errors import DownloadCancelled
from dragonfly.source.protocol import SourceStat
from dragonfly.source.schemes import Sources
from dragonfly.storage.memory import MemoryStore
from dragonfly.storage.store import OriginFacts
from dragonfly.telemetry.metrics import DaemonMetrics
from dragonfly.wire.pb import common_pb2

URL = "http://origin.test/file"
CONTENT = b"0123456789"


class Scheduler:
    """Takes what is stored for announced, just when somebody ends the flight that announces it."""

    def __init__(self, flight: Flight) -> None:
        self._flight = flight
        self.heard: list[do.Command] = []

    def send(self, command: do.Command) -> None:
        self.heard.append(command)
        if isinstance(command, do.Register):
            self._flight.end(DownloadCancelled())
            self._flight.post(MetadataOnlyOffered())

    def host_of(self, parent_id: PeerId) -> ParentHost:
        raise LookupError(parent_id)

    async def close(self) -> None:
        pass


@pytest.fixture
def store() -> Iterator[MemoryStore]:
    made = MemoryStore(MiB)
    yield made
    made.close()


async def test_flight_that_is_ended_while_it_announces_a_stored_task_announces_it(store: MemoryStore) -> None:
    request = DownloadRequest.from_wire(common_pb2.Download(url=URL))
    store.create(request.key, PieceGeometry.of(len(CONTENT)), OriginFacts(url=URL))
    with store.claim(request.key, PieceNumber(0)) as writer:
        writer.write(memoryview(CONTENT))
        writer.commit(parent_id=None, cost=0.0)
    stored = store.finish(request.key)
    schedulers: list[Scheduler] = []

    def open_talk(flight: Flight) -> Scheduler:
        schedulers.append(Scheduler(flight))
        return schedulers[-1]

    def no_parent(flight: Flight, *command: object) -> NoReturn:
        raise AssertionError("nothing is missing, so no parent is needed")

    with ThreadPoolExecutor(1) as bulk:
        deck = FlightDeck(
            store=store,
            client=PieceClient(),
            bulk=bulk,
            open_talk=open_talk,
            watch_parent=no_parent,
            doubt=no_parent,
            make_room=lambda needed: False,
            pace=lambda flight, from_source, stopped: None,
            metrics=DaemonMetrics(version="1"),
            source_timeout=1.0,
        )
        source = Sources.standard().of(URL)
        stat = SourceStat(content_length=len(CONTENT))
        flight = Flight(deck, request, source, stat, stored, None, PeerId("peer"), DownloadTerms(url=URL))
        async with asyncio.timeout(10):
            await flight.fly()
    assert [type(command) for command in schedulers[0].heard] == [do.Register, do.ReportStarted, do.ReportFinished]
