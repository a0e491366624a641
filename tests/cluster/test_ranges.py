"""Ranges of a file through a swarm: pieces of it and no more, and never the whole task marked as done."""

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dragonfly.core.model.units import MiB
from dragonfly.errors import InvalidRange
from dragonfly.testing.cluster import LocalCluster, LocalDaemon
from dragonfly.testing.origin import Origin
from dragonfly.testing.origin_answer import Fault
from dragonfly.wire.pb import common_pb2

PIECE = 4 * MiB


def span(start: int, length: int) -> dict[str, Any]:
    return {"range": common_pb2.Range(start=start, length=length)}


def read_from(origin: Origin) -> int:
    """Bytes of the file the origin sent, without the one byte of each question."""
    return sum(count for count in origin.counters().body_bytes.values() if count > 1000)


async def stored_length(peer: LocalDaemon, task_id: str) -> int:
    return (await peer.stat_local_task(task_id)).stored_length


async def test_one_byte_costs_one_piece(cluster: LocalCluster, origin: Origin, content: bytes, tmp_path: Path) -> None:
    done = await cluster.peers[0].download(origin.url("/file"), output=tmp_path / "out", **span(PIECE + 7, 1))
    assert (tmp_path / "out").read_bytes() == content[PIECE + 7 : PIECE + 8]
    assert done.bytes_from == {"REMOTE_PEER": PIECE}
    assert PIECE <= read_from(origin) <= PIECE + 10


@pytest.mark.parametrize(("start", "length"), [(0, 5), (PIECE - 1, 2), (PIECE, PIECE), (8 * MiB, 10 * MiB), (3, 10**9)])
async def test_range_arrives_as_a_file_of_its_own(
    cluster: LocalCluster, origin: Origin, content: bytes, tmp_path: Path, start: int, length: int
) -> None:
    await cluster.peers[0].download(origin.url("/file"), output=tmp_path / "out", **span(start, length))
    assert (tmp_path / "out").read_bytes() == content[start : start + length]


async def test_range_in_a_header_is_as_good(
    cluster: LocalCluster, origin: Origin, content: bytes, tmp_path: Path
) -> None:
    header = {"Range": "bytes=-100"}
    await cluster.peers[0].download(origin.url("/file"), output=tmp_path / "out", request_header=header)
    assert (tmp_path / "out").read_bytes() == content[-100:]


def dfget(peer: LocalDaemon, url: str, output: Path, *flags: str) -> list[str]:
    return [sys.executable, "-m", "dragonfly.cli.dfget", url, "-O", str(output), "-e", str(peer.socket), *flags]


@pytest.mark.parametrize("transfer", [[], ["--transfer-from-dfdaemon"]], ids=["direct", "transfer"])
@pytest.mark.parametrize(
    "text", ["0-", "0-{last}", "-{length}", "-99999999", "0-99999999999", "0-18446744073709551616"]
)
async def test_range_that_is_the_whole_file_is_the_whole_file_to_dfget(
    cluster: LocalCluster, origin: Origin, content: bytes, tmp_path: Path, text: str, transfer: list[str]
) -> None:
    """Attack 33."""
    text = text.format(last=len(content) - 1, length=len(content))
    command = dfget(cluster.peers[0], origin.url("/file"), tmp_path / "out", "--range", text, *transfer)
    process = await asyncio.create_subprocess_exec(*command, stderr=subprocess.PIPE)
    _, errors = await process.communicate()
    assert (process.returncode, (tmp_path / "out").read_bytes() == content) == (0, True), errors


async def test_range_that_is_the_whole_file_shares_the_flight_of_the_whole(
    cluster: LocalCluster, origin: Origin, content: bytes, tmp_path: Path
) -> None:
    peer, url = cluster.peers[0], origin.url("/file")
    outputs = tmp_path / "whole", tmp_path / "range"
    _, part = await asyncio.gather(
        peer.download(url, output=outputs[0]), peer.download(url, output=outputs[1], **span(0, len(content)))
    )
    assert [output.read_bytes() == content for output in outputs] == [True, True]
    assert (await peer.stat_local_task(part.task_id)).HasField("finished_at")
    assert read_from(origin) <= len(content) + 20


async def test_range_does_not_finish_the_task_and_the_rest_is_fetched_when_asked_for(
    cluster: LocalCluster, origin: Origin, content: bytes, tmp_path: Path
) -> None:
    peer = cluster.peers[0]
    part = await peer.download(origin.url("/file"), **span(0, 1))
    assert await stored_length(peer, part.task_id) == PIECE
    assert not (await peer.stat_local_task(part.task_id)).HasField("finished_at")
    whole = await peer.download(origin.url("/file"), output=tmp_path / "out")
    assert whole.task_id == part.task_id
    assert (tmp_path / "out").read_bytes() == content
    assert whole.bytes_from["LOCAL_PEER"] == PIECE
    assert read_from(origin) <= len(content) + 20


async def test_ranges_that_fill_the_file_finish_it(cluster: LocalCluster, origin: Origin, content: bytes) -> None:
    peer = cluster.peers[0]
    for start in (0, PIECE, 2 * PIECE):
        done = await peer.download(origin.url("/file"), **span(start, 10))
    assert (await peer.stat_local_task(done.task_id)).HasField("finished_at")


async def test_same_range_on_many_hosts_is_read_from_the_origin_once(
    cluster: LocalCluster, origin: Origin, content: bytes, tmp_path: Path
) -> None:
    outputs = [tmp_path / f"out-{number}" for number in range(4)]
    await asyncio.gather(
        *(
            peer.download(origin.url("/file"), output=output, **span(PIECE, 100))
            for peer, output in zip(cluster.peers, outputs, strict=True)
        )
    )
    assert all(output.read_bytes() == content[PIECE : PIECE + 100] for output in outputs)
    assert read_from(origin) <= PIECE + 20


async def test_ranges_and_the_whole_of_one_file_at_once_on_one_host(
    cluster: LocalCluster, origin: Origin, content: bytes, tmp_path: Path
) -> None:
    peer, wanted = cluster.peers[0], [(0, 10), (PIECE - 5, 10), (2 * PIECE, 9), (0, len(content)), (5, 2 * PIECE)]
    outputs = [tmp_path / f"out-{number}" for number in range(len(wanted))]
    await asyncio.gather(
        *(
            peer.download(origin.url("/file"), output=output, **span(*each))
            for output, each in zip(outputs, wanted, strict=True)
        )
    )
    for output, (start, length) in zip(outputs, wanted, strict=True):
        assert output.read_bytes() == content[start : start + length]
    assert read_from(origin) <= len(content) + 30


@pytest.mark.parametrize("text", ["bytes=99999999-", "bytes=5-4", "bytes=-0", "bytes=0-0,5-5", f"bytes={2**64}-"])
async def test_range_that_cannot_be_satisfied_is_refused_and_harms_nothing(
    cluster: LocalCluster, origin: Origin, content: bytes, tmp_path: Path, text: str
) -> None:
    """Attack 33."""
    peer = cluster.peers[0]
    await peer.download(origin.url("/file"))
    with pytest.raises(InvalidRange):
        await peer.download(origin.url("/file"), output=tmp_path / "out", request_header={"Range": text})
    assert not (tmp_path / "out").exists()
    again = await peer.download(origin.url("/file"))
    assert again.bytes_from == {"LOCAL_PEER": len(content)}


async def test_range_of_a_stored_file_needs_no_byte_of_the_origin(
    cluster: LocalCluster, origin: Origin, content: bytes, tmp_path: Path
) -> None:
    peer = cluster.peers[0]
    await peer.download(origin.url("/file"))
    before = read_from(origin)
    done = await peer.download(origin.url("/file"), output=tmp_path / "out", **span(7, 11))
    assert done.bytes_from == {"LOCAL_PEER": PIECE}
    assert (tmp_path / "out").read_bytes() == content[7:18]
    assert read_from(origin) <= before + 1


async def test_prefetch_brings_the_whole_file_behind_a_range(
    cluster: LocalCluster, origin: Origin, content: bytes
) -> None:
    peer = cluster.peers[0]
    done = await peer.download(origin.url("/file"), prefetch=True, **span(0, 1))
    async with asyncio.timeout(20):
        while not (await peer.stat_local_task(done.task_id)).HasField("finished_at"):  # noqa: ASYNC110 - over the wire
            await asyncio.sleep(0.02)
    assert read_from(origin) <= len(content) + 20


async def test_prefetch_that_fails_does_not_fail_the_range(origin: Origin, content: bytes, tmp_path: Path) -> None:
    origin.fail("/file", Fault(close_after=PIECE + 10))
    async with LocalCluster(tmp_path, seed_peers=0, peers=1) as cluster:
        await cluster.peers[0].download(origin.url("/file"), output=tmp_path / "out", prefetch=True, **span(0, 5))
    assert (tmp_path / "out").read_bytes() == content[:5]


# --- the bytes themselves through the socket


async def test_content_comes_through_the_socket_where_the_caller_wants_it(
    cluster: LocalCluster, origin: Origin, content: bytes
) -> None:
    done = await cluster.peers[0].download(origin.url("/file"), need_piece_content=True)
    assert done.content == content
    again = await cluster.peers[0].download(origin.url("/file"), need_piece_content=True)
    assert again.content == content
    assert again.bytes_from == {"LOCAL_PEER": len(content)}


async def test_content_of_a_range_is_cut_to_it(cluster: LocalCluster, origin: Origin, content: bytes) -> None:
    done = await cluster.peers[0].download(origin.url("/file"), need_piece_content=True, **span(PIECE - 3, 10))
    assert min(done.parts) == PIECE - 3
    assert done.content == content[PIECE - 3 : PIECE + 7]
