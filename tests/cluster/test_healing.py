"""Bytes that change on a holder's disk, its size and time kept: who finds it, and what becomes of the copy."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from dragonfly.core.model.units import MiB
from dragonfly.errors import StorageError
from dragonfly.net.grpc_client import open_channel
from dragonfly.testing.cluster import Downloaded, LocalCluster, LocalDaemon
from dragonfly.testing.origin import Origin
from dragonfly.wire.pb import dfdaemon_pb2, dfdaemon_pb2_grpc

PIECE = 4 * MiB


@pytest.fixture
def slow_origin(content: bytes) -> Iterator[Origin]:
    """Takes two and a half seconds for the file."""
    with Origin(limit=4 * MiB) as made:
        made.put("/file", content)
        yield made


def stored_file(daemon: LocalDaemon, task_id: str) -> Path:
    return daemon.directory / "storage" / "content" / "tasks" / task_id[:3] / task_id


def rot(path: Path, offset: int) -> None:
    """Flip one byte; the file's size and times stay."""
    facts = path.stat()
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


async def doubt(daemon: LocalDaemon, task_id: str, number: int) -> None:
    """What a child says of a piece, true or not."""
    async with open_channel(f"127.0.0.1:{daemon.service.upload_port}") as channel:
        stub = dfdaemon_pb2_grpc.DfdaemonUploadStub(channel)
        await stub.DoubtPiece(dfdaemon_pb2.DoubtPieceRequest(host_id="child", task_id=task_id, number=number))


async def until_dropped(daemon: LocalDaemon) -> None:
    """Wait until the daemon counts a broken task; it may have a new copy already."""
    async with asyncio.timeout(10):
        while await broken_tasks(daemon) < 1:  # noqa: ASYNC110 - over the wire there is only asking
            await asyncio.sleep(0.01)


async def broken_tasks(daemon: LocalDaemon) -> float:
    """What the daemon counts of them."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{daemon.service.metrics_port}/metrics") as answer,
    ):
        families = text_string_to_metric_families(await answer.text())
    samples = (sample for family in families for sample in family.samples)
    return sum(sample.value for sample in samples if sample.name == "dragonfly_client_broken_task_total")


@pytest.mark.parametrize("offset", [5, PIECE + 5])
async def test_seed_whose_copy_rots_fetches_it_anew_for_the_next_child(
    cluster: LocalCluster, origin: Origin, content: bytes, tmp_path: Path, offset: int
) -> None:
    """Attack 32: the first child is right and tells the seed; the next one, who may not ask the origin, is served."""
    seed, (first, second, third, *_) = cluster.seed_peers[0], cluster.peers
    task_id = (await first.download(origin.url("/file"))).task_id
    await first.stop()
    bad = stored_file(seed, task_id)
    rot(bad, offset)
    await second.download(origin.url("/file"), output=tmp_path / "second")
    assert (tmp_path / "second").read_bytes() == content
    await until_dropped(seed)
    await second.stop()  # its right copy goes with it
    await third.download(origin.url("/file"), output=tmp_path / "third", disable_back_to_source=True)
    assert (tmp_path / "third").read_bytes() == content
    await seed.download(origin.url("/file"), output=tmp_path / "seed")
    assert (tmp_path / "seed").read_bytes() == content
    await first.start()


async def test_peer_whose_copy_rots_gives_its_own_user_right_bytes_after_the_doubt(
    cluster: LocalCluster, origin: Origin, content: bytes, tmp_path: Path
) -> None:
    """Attack 32."""
    peer = cluster.peers[0]
    bad = stored_file(peer, (await peer.download(origin.url("/file"))).task_id)
    rot(bad, 0)
    await doubt(peer, bad.name, 0)
    await until_dropped(peer)
    again = await peer.download(origin.url("/file"), output=tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == content
    assert again.bytes_from == {"REMOTE_PEER": len(content)}


async def test_doubt_without_reason_changes_nothing(cluster: LocalCluster, origin: Origin, content: bytes) -> None:
    peer = cluster.peers[0]
    done = await peer.download(origin.url("/file"))
    for number in (0, 1, 2, 3, 2**32 - 1):
        await doubt(peer, done.task_id, number)
    await doubt(peer, "0" * 64, 0)
    again = await peer.download(origin.url("/file"))
    assert again.bytes_from == {"LOCAL_PEER": len(content)}


async def test_download_under_way_on_pieces_that_rot_fails_and_the_next_one_is_right(
    slow_origin: Origin, content: bytes, tmp_path: Path
) -> None:
    url, output = slow_origin.url("/file"), tmp_path / "out"
    async with LocalCluster(tmp_path / "alone", seed_peers=0, peers=1) as cluster:
        peer = cluster.peers[0]
        download: asyncio.Task[Downloaded] = asyncio.create_task(peer.download(url, output=output))
        half_done = await until_a_piece_is_here(peer)
        for number in range(3):
            rot(half_done, number * PIECE)
        for number in range(3):  # those that are still being written are not looked at
            await doubt(peer, half_done.name, number)
        with pytest.raises(StorageError, match=r"piece \d is not what was written any more"):
            await download
        assert not output.exists()
        await peer.download(url, output=output)
    assert output.read_bytes() == content


async def until_a_piece_is_here(daemon: LocalDaemon) -> Path:
    """Wait until the only task has a piece; its file."""
    contents = daemon.directory / "storage" / "content" / "tasks"
    async with asyncio.timeout(10):
        while True:
            for path in contents.glob("*/*"):
                if (await daemon.stat_local_task(path.name)).stored_length:
                    return path
            await asyncio.sleep(0.01)
