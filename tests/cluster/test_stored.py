"""What is stored: asked for at the origin by condition, given without a question only where that is safe."""

import asyncio
import hashlib
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dragonfly.core.model.units import MiB
from dragonfly.errors import DiskFull, SourceForbidden, SourceUnreachable
from dragonfly.testing.cluster import LocalCluster
from dragonfly.testing.origin import Origin
from dragonfly.testing.origin_answer import Fault
from dragonfly.wire.pb import common_pb2

PIECE = 4 * MiB
BLOB = os.urandom(PIECE + 1)
BLOB_PATH = f"/v2/library/app/blobs/sha256:{hashlib.sha256(BLOB).hexdigest()}"


@pytest.fixture
def registry() -> Iterator[Origin]:
    with Origin() as made:
        made.put(BLOB_PATH, BLOB)
        yield made


def requests(origin: Origin) -> int:
    return sum(origin.counters().requests.values())


async def test_stored_file_costs_one_conditional_request(cluster: LocalCluster, origin: Origin, content: bytes) -> None:
    peer = cluster.peers[0]
    await peer.download(origin.url("/file"))
    before = origin.counters()
    again = await peer.download(origin.url("/file"))
    after = origin.counters()
    assert again.bytes_from == {"LOCAL_PEER": len(content)}
    assert sum(after.requests.values()) == sum(before.requests.values()) + 1
    assert after.kinds["/file"]["conditional"] == before.kinds["/file"].get("conditional", 0) + 1
    assert after.total_body_bytes == before.total_body_bytes


async def test_origin_that_is_away_is_said_and_nothing_stale_is_served(tmp_path: Path, content: bytes) -> None:
    async with LocalCluster(tmp_path, seed_peers=0, peers=1) as cluster:
        with Origin() as origin:
            origin.put("/file", content)
            url = origin.url("/file")
            await cluster.peers[0].download(url)
        with pytest.raises(SourceUnreachable):
            await cluster.peers[0].download(url, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


async def test_stale_bytes_are_served_with_a_notice_where_the_settings_allow_it(tmp_path: Path, content: bytes) -> None:
    settings = {"storage.serveStale": "true"}
    async with LocalCluster(tmp_path, seed_peers=0, peers=1, settings=settings) as cluster:
        with Origin() as origin:
            origin.put("/file", content)
            origin.put("/other", content)
            url, other = origin.url("/file"), origin.url("/other")
            await cluster.peers[0].download(url)
        done = await cluster.peers[0].download(url, output=tmp_path / "out")
        with pytest.raises(SourceUnreachable):
            await cluster.peers[0].download(other)
    assert (tmp_path / "out").read_bytes() == content
    assert "may be stale" in done.notices[0]


async def test_file_whose_url_names_its_digest_is_not_asked_for_again(
    cluster: LocalCluster, registry: Origin, tmp_path: Path
) -> None:
    peer = cluster.peers[0]
    await peer.download(registry.url(BLOB_PATH))
    before = requests(registry)
    await peer.download(registry.url(BLOB_PATH), output=tmp_path / "out")
    assert requests(registry) == before
    assert (tmp_path / "out").read_bytes() == BLOB


async def test_private_file_is_not_given_to_others_though_its_url_names_its_digest(
    cluster: LocalCluster, registry: Origin
) -> None:
    registry.fail(BLOB_PATH, Fault(authorization="Bearer right"))
    url, peer = registry.url(BLOB_PATH), cluster.peers[0]
    await peer.download(url, request_header={"Authorization": "Bearer right"})
    with pytest.raises(SourceForbidden):
        await peer.download(url)


async def test_new_version_is_never_mixed_with_what_peers_hold_of_the_old_one(
    cluster: LocalCluster, origin: Origin, content: bytes, tmp_path: Path
) -> None:
    """Attack 30."""
    await cluster.peers[0].download(origin.url("/file"))  # the seed and this peer hold the old version
    origin.put("/file", content[::-1])
    await cluster.peers[1].download(origin.url("/file"), output=tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == content[::-1]


@pytest.mark.parametrize("wants_content", [False, True])
async def test_copy_that_somebody_edited_is_fetched_anew(
    cluster: LocalCluster, origin: Origin, content: bytes, tmp_path: Path, wants_content: bool
) -> None:
    peer, output = cluster.peers[0], tmp_path / "out"
    await peer.download(origin.url("/file"), output=output, force_hard_link=True)
    assert output.stat().st_nlink == 2  # the store's own file, which its owner may write to
    output.write_bytes(b"edited")
    how: dict[str, Any] = {"need_piece_content": True} if wants_content else {"output": tmp_path / "again"}
    done = await peer.download(origin.url("/file"), **how)
    assert (done.content if wants_content else (tmp_path / "again").read_bytes()) == content


async def test_file_that_nothing_tells_from_a_newer_one_is_not_served_from_the_store(
    tmp_path: Path, origin: Origin, content: bytes
) -> None:
    origin.fail("/file", Fault(headers={"ETag": None, "Last-Modified": None}))
    async with LocalCluster(tmp_path, peers=2, settings={"upload.shareUnversioned": "0s"}) as cluster:
        await cluster.peers[0].download(origin.url("/file"))
        origin.put("/file", content[::-1])
        for number, peer in enumerate(cluster.peers):
            await peer.download(origin.url("/file"), output=tmp_path / f"out-{number}")
            assert (tmp_path / f"out-{number}").read_bytes() == content[::-1]


# --- room


def quota(size: str) -> dict[str, str]:
    return {"gc.policy.diskThreshold": size, "gc.interval": "1h"}


@pytest.mark.parametrize("seed_peers", [0, 1])
async def test_older_tasks_make_room_for_a_new_one_within_the_quota(
    tmp_path: Path, origin: Origin, content: bytes, seed_peers: int
) -> None:
    async with LocalCluster(tmp_path, seed_peers=seed_peers, peers=1, settings=quota("24MiB")) as cluster:
        peer = cluster.peers[0]
        for name in ("/a", "/b", "/c"):
            origin.put(name, content + name.encode())
            await peer.download(origin.url(name), output=tmp_path / name[1:])
        assert (tmp_path / "c").read_bytes() == content + b"/c"
        again = await peer.download(origin.url("/c"))
    assert set(again.bytes_from) == {"LOCAL_PEER"}
    for host in ("p0", "s0")[: 1 + seed_peers]:
        kept = (path for path in (tmp_path / host / "storage" / "content").rglob("*") if path.is_file())
        assert sum(path.stat().st_size for path in kept) <= 24 * MiB


async def test_parts_of_files_make_room_like_whole_ones(tmp_path: Path, origin: Origin, content: bytes) -> None:
    async with LocalCluster(tmp_path, seed_peers=0, peers=1, settings=quota("24MiB")) as cluster:
        for number in range(8):
            origin.put(f"/{number}", content + bytes([number]))
            part = common_pb2.Range(start=0, length=1)
            done = await cluster.peers[0].download(origin.url(f"/{number}"), range=part)
            assert sum(done.bytes_from.values()) == PIECE
        await cluster.peers[0].download(origin.url("/file"), output=tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == content


async def test_downloads_at_once_evict_none_of_each_other_before_they_are_delivered(
    tmp_path: Path, origin: Origin, content: bytes
) -> None:
    async with LocalCluster(tmp_path, seed_peers=0, peers=1, settings=quota("48MiB")) as cluster:
        for number in range(12):
            origin.put(f"/{number}", content + bytes([number]))
        for start in range(0, 12, 3):
            numbers = range(start, start + 3)
            outputs = [tmp_path / str(number) for number in numbers]
            downloads = (cluster.peers[0].download(origin.url(f"/{out.name}"), output=out) for out in outputs)
            await asyncio.gather(*downloads)
    assert all((tmp_path / str(number)).read_bytes() == content + bytes([number]) for number in range(12))


async def test_file_larger_than_the_quota_is_refused_before_a_byte_is_written(
    tmp_path: Path, origin: Origin, content: bytes
) -> None:
    async with LocalCluster(tmp_path, seed_peers=0, peers=1, settings=quota("8MiB")) as cluster:
        with pytest.raises(DiskFull, match=rf"needs {len(content)} bytes and has {8 * MiB}"):
            await cluster.peers[0].download(origin.url("/file"), output=tmp_path / "out")
        part = await cluster.peers[0].download(origin.url("/file"), range=common_pb2.Range(start=0, length=1))
    assert sum(part.bytes_from.values()) == PIECE
    assert not (tmp_path / "out").exists()


# --- wrong bytes with a right checksum


def forged(piece: bytes) -> bytes:
    """Other bytes with the same CRC-32: a byte is flipped, and the last four are made to undo it."""
    target, changed = zlib.crc32(piece), bytearray(piece)
    changed[0] ^= 0xFF
    changed[-4:] = b"\0\0\0\0"
    base = zlib.crc32(changed)
    effects = []
    for bit in range(32):
        changed[-4:] = (1 << bit).to_bytes(4, "little")
        effects.append((zlib.crc32(changed) ^ base, 1 << bit))
    solution, wanted = 0, target ^ base
    for column in range(32):  # Gauss over bits: CRC-32 is linear in what it reads
        pivot = next(pair for pair in effects if pair[0] >> column & 1)
        effects.remove(pivot)
        effects = [(e ^ pivot[0], v ^ pivot[1]) if e >> column & 1 else (e, v) for e, v in effects]
        if wanted >> column & 1:
            wanted, solution = wanted ^ pivot[0], solution ^ pivot[1]
    changed[-4:] = solution.to_bytes(4, "little")
    assert zlib.crc32(changed) == target
    return bytes(changed)


async def test_peer_with_wrong_bytes_and_a_right_checksum_is_caught(
    cluster: LocalCluster, origin: Origin, content: bytes, tmp_path: Path
) -> None:
    """Attack 26: the right CRC of the wrong content, in a swarm."""
    done = await cluster.peers[0].download(origin.url("/file"))
    stored = tmp_path / "p0" / "storage" / "content" / "tasks" / done.task_id[:3] / done.task_id
    facts = stored.stat()
    with stored.open("r+b") as file:
        file.write(forged(content[:PIECE]))
    os.utime(stored, ns=(facts.st_atime_ns, facts.st_mtime_ns))  # a thorough liar
    for number, peer in enumerate(cluster.peers[1:]):
        await peer.download(origin.url("/file"), output=tmp_path / f"out-{number}")
        assert (tmp_path / f"out-{number}").read_bytes() == content


async def test_two_files_that_callers_gave_one_name_are_never_taken_for_each_other(
    cluster: LocalCluster, origin: Origin, content: bytes, tmp_path: Path
) -> None:
    """Attack 31: a text of the callers' own is no proof that two files are one."""
    other = content[::-1]
    origin.put("/other", other)
    name = {"content_for_calculating_task_id": "the same"}
    for number, peer in enumerate(cluster.peers[:2]):
        first = await peer.download(origin.url("/file"), output=tmp_path / f"file-{number}", **name)
        second = await peer.download(origin.url("/other"), output=tmp_path / f"other-{number}", **name)
        assert first.task_id == second.task_id
        assert (tmp_path / f"file-{number}").read_bytes() == content
        assert (tmp_path / f"other-{number}").read_bytes() == other
