"""Files whose origin does not tell how long they are: read as one stream, shared while they come."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dragonfly.core.model.units import MiB
from dragonfly.errors import InvalidRange, SourceTruncated
from dragonfly.testing.cluster import LocalCluster
from dragonfly.testing.origin import Origin
from dragonfly.testing.origin_answer import Fault
from dragonfly.wire.pb import common_pb2

PIECE = 4 * MiB
CHUNKED = Fault(no_length=True, ignore_range=True)
BYTES = os.urandom(3 * PIECE + 99)


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as made:
        made.put("/stream", BYTES)
        made.fail("/stream", CHUNKED)
        yield made


@pytest.mark.parametrize("length", [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE])
async def test_file_of_any_length_arrives_though_nobody_knew_it(
    cluster: LocalCluster, origin: Origin, tmp_path: Path, length: int
) -> None:
    """Attack 33."""
    origin.put("/stream", BYTES[:length])
    done = await cluster.peers[0].download(origin.url("/stream"), output=tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == BYTES[:length]
    assert done.was_open
    assert done.content_length == length


async def test_many_peers_read_the_stream_once(cluster: LocalCluster, origin: Origin, tmp_path: Path) -> None:
    outputs = [tmp_path / f"out-{number}" for number in range(4)]
    downloads = (p.download(origin.url("/stream"), output=o) for p, o in zip(cluster.peers, outputs, strict=True))
    done = await asyncio.gather(*downloads)
    assert all(output.read_bytes() == BYTES for output in outputs)
    assert [seen.bytes_from for seen in done] == [{"REMOTE_PEER": len(BYTES)}] * 4


async def test_stream_that_breaks_off_is_never_taken_for_whole(
    cluster: LocalCluster, origin: Origin, tmp_path: Path
) -> None:
    """Attack 33."""
    origin.fail("/stream", Fault(no_length=True, ignore_range=True, close_after=PIECE + 5))
    with pytest.raises(SourceTruncated):
        await cluster.peers[0].download(origin.url("/stream"), output=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    origin.fail("/stream", CHUNKED)
    await cluster.peers[0].download(origin.url("/stream"), output=tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == BYTES


async def test_stream_that_is_stored_is_not_read_again_while_its_validators_hold(
    cluster: LocalCluster, origin: Origin, tmp_path: Path
) -> None:
    peer = cluster.peers[0]
    await peer.download(origin.url("/stream"))
    again = await peer.download(origin.url("/stream"), output=tmp_path / "out")
    assert again.bytes_from == {"LOCAL_PEER": len(BYTES)}
    assert (tmp_path / "out").read_bytes() == BYTES


UNVERSIONED = Fault(no_length=True, ignore_range=True, headers={"ETag": None, "Last-Modified": None})


async def test_stream_that_nothing_tells_apart_is_shared_while_it_is_new(
    cluster: LocalCluster, origin: Origin, tmp_path: Path
) -> None:
    origin.fail("/stream", UNVERSIONED)
    outputs = [tmp_path / f"out-{number}" for number in range(4)]
    downloads = (p.download(origin.url("/stream"), output=o) for p, o in zip(cluster.peers, outputs, strict=True))
    done = await asyncio.gather(*downloads)
    assert all(output.read_bytes() == BYTES for output in outputs)
    assert not any(seen.bytes_from["BACK_TO_SOURCE"] for seen in done)


async def test_stream_that_nothing_tells_apart_is_not_taken_from_peers_that_have_it_for_long(
    origin: Origin, tmp_path: Path
) -> None:
    origin.fail("/stream", UNVERSIONED)
    async with LocalCluster(tmp_path, peers=1, settings={"upload.shareUnversioned": "0s"}) as cluster:
        await cluster.peers[0].download(origin.url("/stream"))
        origin.put("/stream", BYTES[::-1])
        await cluster.peers[0].download(origin.url("/stream"), output=tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == BYTES[::-1]


async def test_late_peer_takes_a_finished_stream_from_the_others(
    cluster: LocalCluster, origin: Origin, tmp_path: Path
) -> None:
    await cluster.peers[0].download(origin.url("/stream"))
    late = await cluster.peers[1].download(origin.url("/stream"), output=tmp_path / "out")
    assert late.bytes_from == {"REMOTE_PEER": len(BYTES)}
    assert (tmp_path / "out").read_bytes() == BYTES


async def test_stream_without_a_scheduler_comes_from_the_origin(
    cluster: LocalCluster, origin: Origin, tmp_path: Path
) -> None:
    await cluster.stop_scheduler()
    done = await cluster.peers[0].download(origin.url("/stream"), output=tmp_path / "out")
    assert done.bytes_from == {"BACK_TO_SOURCE": len(BYTES)}
    assert (tmp_path / "out").read_bytes() == BYTES


async def test_range_of_a_stream_is_refused(cluster: LocalCluster, origin: Origin) -> None:
    """Attack 33."""
    with pytest.raises(InvalidRange, match="does not tell how long"):
        await cluster.peers[0].download(origin.url("/stream"), range=common_pb2.Range(start=0, length=1))


async def test_content_of_a_stream_comes_through_the_socket(cluster: LocalCluster, origin: Origin) -> None:
    done = await cluster.peers[0].download(origin.url("/stream"), need_piece_content=True)
    assert done.content == BYTES
