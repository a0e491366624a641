"""Files of one small piece: a child asks a parent of ours for it without listening first, where that is safe."""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dragonfly.core.model.units import KiB, MiB
from dragonfly.dfdaemon.rpc_upload import UploadService
from dragonfly.testing.cluster import LocalCluster
from dragonfly.testing.origin import Origin
from dragonfly.wire.pb import dfdaemon_pb2

SMALL = os.urandom(10 * KiB)


@pytest.fixture
def listened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tasks of the SyncPieces calls that any daemon of this process serves."""
    tasks: list[str] = []
    sync_pieces = UploadService.SyncPieces

    async def noted(
        service: UploadService, request: dfdaemon_pb2.SyncPiecesRequest, context: Any
    ) -> AsyncIterator[dfdaemon_pb2.SyncPiecesResponse]:
        tasks.append(request.task_id)
        async for response in sync_pieces(service, request, context):
            yield response

    monkeypatch.setattr(UploadService, "SyncPieces", noted)
    return tasks


async def test_a_small_file_comes_from_the_seed_without_being_listened_for(
    tmp_path: Path, origin: Origin, listened: list[str]
) -> None:
    origin.put("/small", SMALL)
    async with LocalCluster(tmp_path / "cluster") as cluster:
        for number, peer in enumerate(cluster.peers):
            done = await peer.download(origin.url("/small"), output=tmp_path / str(number))
            assert done.bytes_from == {"REMOTE_PEER": len(SMALL)}
            assert (tmp_path / str(number)).read_bytes() == SMALL
    assert listened == []


async def test_a_larger_piece_is_listened_for(tmp_path: Path, origin: Origin, listened: list[str]) -> None:
    origin.put("/large", os.urandom(MiB + 1))
    async with LocalCluster(tmp_path, peers=1) as cluster:
        done = await cluster.peers[0].download(origin.url("/large"))
    assert done.bytes_from == {"REMOTE_PEER": MiB + 1}
    assert listened == [done.task_id]


async def test_a_piece_that_is_not_told_of_soon_is_listened_for(
    tmp_path: Path, origin: Origin, listened: list[str]
) -> None:
    origin.put("/small", SMALL)
    origin.limit("/small", 5 * KiB)
    async with LocalCluster(tmp_path, peers=1) as cluster:
        done = await cluster.peers[0].download(origin.url("/small"))
    assert done.bytes_from == {"REMOTE_PEER": len(SMALL)}
    assert listened == [done.task_id]


async def test_a_swarm_that_compares_no_roots_listens(tmp_path: Path, origin: Origin, listened: list[str]) -> None:
    origin.put("/small", SMALL)
    async with LocalCluster(tmp_path, peers=1, settings={"storage.pieceDigest": "crc32"}) as cluster:
        done = await cluster.peers[0].download(origin.url("/small"))
    assert done.bytes_from == {"REMOTE_PEER": len(SMALL)}
    assert listened == [done.task_id]


async def test_a_parent_that_has_dropped_the_file_costs_a_question_and_not_the_download(
    tmp_path: Path, origin: Origin
) -> None:
    origin.put("/small", SMALL)
    async with LocalCluster(tmp_path / "cluster") as cluster:
        first = await cluster.peers[0].download(origin.url("/small"))
        for daemon in (cluster.seed_peers[0], cluster.peers[0]):
            store = daemon.service._store
            [key] = [stored.key for stored in store.tasks() if stored.key.wire_id == first.task_id]
            store.delete(key)
        await cluster.peers[1].download(origin.url("/small"), output=tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == SMALL
