"""What callers and origins nobody vouches for cannot make of a running daemon."""

import gzip
import stat
from pathlib import Path

from dragonfly.net.grpc_client import open_channel
from dragonfly.testing.cluster import LocalCluster
from dragonfly.testing.origin import Origin
from dragonfly.testing.origin_answer import Fault
from dragonfly.wire.pb import common_pb2, dfdaemon_pb2, dfdaemon_pb2_grpc, scheduler_pb2, scheduler_pb2_grpc


async def test_caller_from_the_network_has_no_file_written_here(
    cluster: LocalCluster, origin: Origin, content: bytes, tmp_path: Path
) -> None:
    """Attacks 19 and 20: it may ask for a task; where files go is for callers of the unix socket to say."""
    assert cluster.scheduler is not None
    async with open_channel(f"127.0.0.1:{cluster.scheduler.port}") as channel:
        hosts = await scheduler_pb2_grpc.SchedulerStub(channel).ListHosts(scheduler_pb2.ListHostsRequest())
    [peer] = [host for host in hosts.hosts if host.hostname == "p0"]
    target = tmp_path / "target"
    target.write_text("precious")
    download = common_pb2.Download(
        url=origin.url("/file"), output_path=str(target), overwrite=True, force_hard_link=True
    )
    async with open_channel(f"127.0.0.1:{peer.port}") as channel:
        stub = dfdaemon_pb2_grpc.DfdaemonUploadStub(channel)
        async for answer in stub.DownloadTask(dfdaemon_pb2.DownloadTaskRequest(download=download)):
            task_id = answer.task_id
    assert (await cluster.peers[0].stat_local_task(task_id)).stored_length == len(content)
    assert target.read_text() == "precious"


async def test_socket_and_store_of_a_running_daemon_are_not_everybodys(cluster: LocalCluster) -> None:
    """Attack 25."""
    peer = cluster.peers[0]
    assert stat.S_IMODE(peer.socket.stat().st_mode) == 0o660
    assert stat.S_IMODE((peer.directory / "storage").stat().st_mode) == 0o700


async def test_file_that_an_origin_sends_in_gzip_unasked_is_the_same_for_all_hosts(
    cluster: LocalCluster, origin: Origin, content: bytes, tmp_path: Path
) -> None:
    """Attack 33: what is encoded stays as it is, so that no encoding can grow here or mean two things."""
    origin.fail("/file", Fault(gzip=True))
    for number, peer in enumerate(cluster.peers[:2]):
        await peer.download(origin.url("/file"), output=tmp_path / f"out-{number}")
    assert (tmp_path / "out-0").read_bytes() == (tmp_path / "out-1").read_bytes() != content
    assert gzip.decompress((tmp_path / "out-0").read_bytes()) == content
