"""Whole swarms in one process: real services, sockets and files; an origin that counts what it serves."""

import asyncio
import hashlib
import os
from pathlib import Path

import grpc
import grpc.aio
import pytest

from dragonfly.core.model.units import MiB
from dragonfly.errors import (
    ContentDigestMismatch,
    DiskFull,
    DownloadForbidden,
    NoSourceAllowed,
    OutputExists,
    Overloaded,
    SourceChanged,
    SourceForbidden,
    SourceNotFound,
    SourceUnavailable,
    SourceUnreachable,
)
from dragonfly.net.grpc_client import open_channel
from dragonfly.testing.cluster import LocalCluster
from dragonfly.testing.origin import Origin
from dragonfly.testing.origin_answer import Fault
from dragonfly.wire.pb import dfdaemon_pb2, dfdaemon_pb2_grpc

PATIENT = {"scheduler.announceInterval": "1m"}
"""Hosts are announced when they start and not again during a test, nor missed on a machine that is busy."""


def read_from(origin: Origin, path: str = "/file") -> int:
    """Bytes of the file that the origin sent; the question each download asks first costs one byte."""
    return origin.counters().body_bytes.get(path, 0)


async def test_many_peers_at_once_read_the_origin_once(
    cluster: LocalCluster, origin: Origin, tmp_path: Path, content: bytes
) -> None:
    outputs = [tmp_path / f"out-{number}" for number in range(4)]
    downloads = (p.download(origin.url("/file"), output=o) for p, o in zip(cluster.peers, outputs, strict=True))
    done = await asyncio.gather(*downloads)
    assert all(output.read_bytes() == content for output in outputs)
    assert read_from(origin) <= len(content) + 5
    assert [seen.bytes_from for seen in done] == [{"REMOTE_PEER": len(content)}] * 4


async def test_second_download_on_a_host_is_local(
    cluster: LocalCluster, origin: Origin, tmp_path: Path, content: bytes
) -> None:
    peer = cluster.peers[0]
    await peer.download(origin.url("/file"))
    again = await peer.download(origin.url("/file"), output=tmp_path / "out")
    assert again.bytes_from == {"LOCAL_PEER": len(content)}
    assert (tmp_path / "out").read_bytes() == content


async def test_callers_of_one_host_share_one_flight(
    cluster: LocalCluster, origin: Origin, tmp_path: Path, content: bytes
) -> None:
    outputs = [tmp_path / f"out-{number}" for number in range(5)]
    await asyncio.gather(*(cluster.peers[0].download(origin.url("/file"), output=output) for output in outputs))
    assert all(output.read_bytes() == content for output in outputs)
    assert read_from(origin) <= len(content) + 6


async def test_late_peer_is_served_by_earlier_ones(cluster: LocalCluster, origin: Origin, content: bytes) -> None:
    await cluster.peers[0].download(origin.url("/file"))
    before = read_from(origin)
    await cluster.seed_peers[0].stop()
    late = await cluster.peers[1].download(origin.url("/file"))
    assert late.bytes_from == {"REMOTE_PEER": len(content)}
    assert read_from(origin) == before + 1
    await cluster.seed_peers[0].start()


@pytest.mark.parametrize("length", [0, 1, 4 * MiB, 4 * MiB + 1])
async def test_file_of_any_length_arrives(
    cluster: LocalCluster, origin: Origin, tmp_path: Path, length: int, content: bytes
) -> None:
    """Attack 33: tiny and empty files too."""
    origin.put("/sized", content[:length])
    done = await cluster.peers[0].download(origin.url("/sized"), output=tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == content[:length]
    assert done.content_length == length


async def test_origin_without_ranges_is_read_in_one_go(
    cluster: LocalCluster, origin: Origin, tmp_path: Path, content: bytes
) -> None:
    origin.fail("/file", Fault(ignore_range=True))
    await cluster.peers[0].download(origin.url("/file"), output=tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == content


async def test_task_id_is_the_references(cluster: LocalCluster, origin: Origin) -> None:
    done = await cluster.peers[0].download(origin.url("/file"), content_for_calculating_task_id="This is a test file")
    assert done.task_id == "e2d0fe1585a63ec6009c8016ff8dda8b17719a637405a4e23c0ff81339148249"


# --- seeds and schedulers that are away


async def test_without_a_seed_one_peer_goes_to_the_origin_for_all(
    tmp_path: Path, origin: Origin, content: bytes
) -> None:
    async with LocalCluster(tmp_path, seed_peers=0, peers=4, settings=PATIENT) as cluster:
        done = await asyncio.gather(*(peer.download(origin.url("/file")) for peer in cluster.peers))
    assert read_from(origin) <= len(content) + 4
    assert sum(seen.bytes_from["BACK_TO_SOURCE"] for seen in done) == len(content)


async def test_without_a_scheduler_a_download_reads_the_origin_and_says_so(
    cluster: LocalCluster, origin: Origin, tmp_path: Path, content: bytes
) -> None:
    await cluster.stop_scheduler()
    done = await cluster.peers[0].download(origin.url("/file"), output=tmp_path / "out")
    assert done.bytes_from == {"BACK_TO_SOURCE": len(content)}
    assert "downloading from the origin: no scheduler answers" in done.notices[0]
    assert (tmp_path / "out").read_bytes() == content


async def test_daemons_join_a_scheduler_that_returns(cluster: LocalCluster, origin: Origin, content: bytes) -> None:
    await cluster.stop_scheduler()
    await cluster.start_scheduler()
    await cluster.until_announced()
    done = await cluster.peers[0].download(origin.url("/file"))
    assert done.bytes_from == {"REMOTE_PEER": len(content)}


async def test_scheduler_that_just_started_is_introduced_to_whoever_asks(
    tmp_path: Path, origin: Origin, content: bytes
) -> None:
    async with LocalCluster(tmp_path, peers=1, settings=PATIENT) as cluster:
        await cluster.stop_scheduler()
        await cluster.start_scheduler()
        done = await cluster.peers[0].download(origin.url("/file"))  # before the next announcement
    assert sum(done.bytes_from.values()) == len(content)
    assert not done.notices


async def test_daemon_leaves_the_scheduler_when_it_stops(cluster: LocalCluster) -> None:
    await cluster.peers[0].stop()
    await cluster.until_announced(4)
    await cluster.peers[0].start()


async def test_seed_host_can_be_asked_itself(
    cluster: LocalCluster, origin: Origin, tmp_path: Path, content: bytes
) -> None:
    await cluster.seed_peers[0].download(origin.url("/file"), output=tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == content


async def test_stored_task_survives_a_restart_of_its_daemon(
    cluster: LocalCluster, origin: Origin, tmp_path: Path, content: bytes
) -> None:
    peer = cluster.peers[0]
    await peer.download(origin.url("/file"))
    await peer.stop()
    await peer.start()
    done = await peer.download(origin.url("/file"), output=tmp_path / "out")
    assert done.bytes_from == {"LOCAL_PEER": len(content)}
    assert (tmp_path / "out").read_bytes() == content


# --- origins that say no, or lie


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault(status=404), SourceNotFound),
        (Fault(status=403), SourceForbidden),
        (Fault(status=503), SourceUnavailable),
    ],
    ids=["404", "403", "503"],
)
async def test_what_the_origin_answers_reaches_the_caller(
    cluster: LocalCluster, origin: Origin, tmp_path: Path, fault: Fault, error: type[Exception]
) -> None:
    origin.fail("/file", fault)
    with pytest.raises(error):
        await cluster.peers[0].download(origin.url("/file"), output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


async def test_origin_that_is_not_there_is_named(cluster: LocalCluster) -> None:
    with pytest.raises(SourceUnreachable, match=r"127\.0\.0\.1:9"):
        await cluster.peers[0].download("http://127.0.0.1:9/file")


async def test_file_that_changes_midway_is_refused_whole(origin: Origin, tmp_path: Path, content: bytes) -> None:
    """Attack 30."""
    origin.fail("/file", Fault(changes_after=5 * MiB, becomes=content[::-1]))
    async with LocalCluster(tmp_path, peers=1, settings={"download.concurrentPieceCount": "1"}) as cluster:
        with pytest.raises(SourceChanged):
            await cluster.peers[0].download(origin.url("/file"), output=tmp_path / "out")
        assert not (tmp_path / "out").exists()
        await cluster.peers[0].download(origin.url("/file"), output=tmp_path / "out")  # the new version, whole
    assert (tmp_path / "out").read_bytes() == content[::-1]


async def test_changed_file_is_fetched_anew(
    cluster: LocalCluster, origin: Origin, tmp_path: Path, content: bytes
) -> None:
    """Attack 30."""
    peer = cluster.peers[0]
    await peer.download(origin.url("/file"))
    origin.put("/file", content[::-1])
    await peer.download(origin.url("/file"), output=tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == content[::-1]


async def test_credentials_reach_the_origin_through_the_seed(
    cluster: LocalCluster, origin: Origin, content: bytes
) -> None:
    origin.fail("/file", Fault(authorization="Bearer right"))
    with pytest.raises(SourceForbidden):
        await cluster.peers[0].download(origin.url("/file"))
    done = await cluster.peers[0].download(origin.url("/file"), request_header={"Authorization": "Bearer right"})
    assert done.bytes_from == {"REMOTE_PEER": len(content)}
    with pytest.raises(SourceForbidden):  # though it is stored here
        await cluster.peers[0].download(origin.url("/file"))


# --- what callers forbid or get wrong


async def test_peers_only_is_refused_where_no_peer_has_it(cluster: LocalCluster, origin: Origin) -> None:
    async with LocalCluster(cluster.peers[0].directory / "alone", seed_peers=0, peers=1) as alone:
        with pytest.raises(NoSourceAllowed):
            await alone.peers[0].download(origin.url("/file"), disable_back_to_source=True)


async def test_forbidding_priority_is_refused(cluster: LocalCluster, origin: Origin) -> None:
    with pytest.raises(DownloadForbidden):
        await cluster.peers[0].download(origin.url("/file"), priority=1)


async def test_wrong_digest_delivers_nothing(
    cluster: LocalCluster, origin: Origin, tmp_path: Path, content: bytes
) -> None:
    right = hashlib.sha256(content).hexdigest()
    with pytest.raises(ContentDigestMismatch):
        await cluster.peers[0].download(origin.url("/file"), output=tmp_path / "out", digest="sha256:" + "0" * 64)
    assert not (tmp_path / "out").exists()
    await cluster.peers[0].download(origin.url("/file"), output=tmp_path / "out", digest=f"sha256:{right}")


async def test_output_that_exists_is_refused_before_the_origin_is_asked(
    cluster: LocalCluster, origin: Origin, tmp_path: Path
) -> None:
    (tmp_path / "out").write_text("old")
    with pytest.raises(OutputExists):
        await cluster.peers[0].download(origin.url("/file"), output=tmp_path / "out")
    assert read_from(origin) == 0
    assert (tmp_path / "out").read_text() == "old"


async def test_file_larger_than_the_disk_is_refused_before_a_byte_is_written(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    huge = tmp_path / "files" / "huge"
    huge.parent.mkdir()
    huge.touch()
    os.truncate(huge, 4 << 40)  # sparse
    with Origin(huge.parent) as origin:
        with pytest.raises(DiskFull):
            await cluster.peers[0].download(origin.url("/huge"))
        assert read_from(origin, "/huge") <= 1


async def test_deleted_task_is_gone(cluster: LocalCluster, origin: Origin) -> None:
    peer = cluster.peers[0]
    done = await peer.download(origin.url("/file"))
    async with open_channel(f"unix:{peer.socket}") as channel:
        stub = dfdaemon_pb2_grpc.DfdaemonDownloadStub(channel)
        listed = await stub.ListLocalTasks(dfdaemon_pb2.ListLocalTasksRequest())
        assert [task.task_id for task in listed.tasks] == [done.task_id]
        await stub.DeleteTask(dfdaemon_pb2.DeleteTaskRequest(task_id=done.task_id))
        assert not (await stub.ListLocalTasks(dfdaemon_pb2.ListLocalTasksRequest())).tasks
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.StatLocalTask(dfdaemon_pb2.StatLocalTaskRequest(task_id=done.task_id))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


# --- callers that come and go


async def test_download_that_was_given_up_can_be_asked_for_again_at_once(
    cluster: LocalCluster, origin: Origin, tmp_path: Path, content: bytes
) -> None:
    origin.fail("/file", Fault(silent_after=5 * MiB, times=8))
    await cluster.stop_scheduler()  # so that this peer reads the origin itself
    given_up = asyncio.create_task(cluster.peers[0].download(origin.url("/file")))
    while read_from(origin) < 4 * MiB:  # noqa: ASYNC110 - the origin is another thread
        await asyncio.sleep(0.01)
    given_up.cancel()
    await asyncio.gather(given_up, return_exceptions=True)
    origin.fail("/file", None)
    try:
        await cluster.peers[0].download(origin.url("/file"), output=tmp_path / "out")
    except Overloaded:  # threads still wait for the silent origin: it is said, and nothing is lost
        assert not (tmp_path / "out").exists()
    else:
        assert (tmp_path / "out").read_bytes() == content


async def test_daemon_stops_though_an_origin_says_nothing(origin: Origin, tmp_path: Path) -> None:
    origin.fail("/file", Fault(silent_after=MiB))
    async with LocalCluster(tmp_path, peers=1) as cluster:
        hanging = asyncio.create_task(cluster.peers[0].download(origin.url("/file")))
        while read_from(origin) < MiB:  # noqa: ASYNC110 - the origin is another thread
            await asyncio.sleep(0.01)
        async with asyncio.timeout(15):
            await cluster.seed_peers[0].stop()
            await cluster.peers[0].stop()
        await asyncio.gather(hanging, return_exceptions=True)
        for daemon in (*cluster.seed_peers, *cluster.peers):
            await daemon.start()


async def test_caller_who_forbids_the_origin_does_not_forbid_it_to_others(
    tmp_path: Path, origin: Origin, content: bytes
) -> None:
    async with LocalCluster(tmp_path, seed_peers=0, peers=1) as cluster:
        peer = cluster.peers[0]
        strict, free = await asyncio.gather(
            peer.download(origin.url("/file"), disable_back_to_source=True),
            peer.download(origin.url("/file"), output=tmp_path / "out"),
            return_exceptions=True,
        )
    assert not isinstance(free, BaseException)
    assert (tmp_path / "out").read_bytes() == content
    assert isinstance(strict, NoSourceAllowed) or not isinstance(strict, BaseException)


async def test_content_that_proved_wrong_is_not_kept(cluster: LocalCluster, origin: Origin, content: bytes) -> None:
    peer = cluster.peers[0]
    with pytest.raises(ContentDigestMismatch):
        await peer.download(origin.url("/file"), digest="sha256:" + "0" * 64)
    again = await peer.download(origin.url("/file"))
    assert again.bytes_from == {"REMOTE_PEER": len(content)}


async def test_second_output_of_a_host_is_a_file_of_its_own(
    cluster: LocalCluster, origin: Origin, tmp_path: Path, content: bytes
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for output in (first, second):
        output.touch()
        await cluster.peers[0].download(origin.url("/file"), output=output, overwrite=True)
    assert first.stat().st_ino != second.stat().st_ino
    second.write_bytes(b"edited")
    assert first.read_bytes() == content


async def test_password_in_a_url_is_not_told(cluster: LocalCluster, tmp_path: Path, origin: Origin) -> None:
    url = origin.url("/file").replace("http://", "http://user:secret@")
    async with LocalCluster(tmp_path / "alone", seed_peers=0, peers=1) as alone:
        with pytest.raises(NoSourceAllowed) as caught:
            await alone.peers[0].download(url, disable_back_to_source=True)
    assert "secret" not in str(caught.value)
