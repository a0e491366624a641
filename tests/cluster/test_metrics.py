"""What operators scrape from a daemon after things happened in it."""

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from dragonfly.core.model.units import MiB
from dragonfly.errors import SourceNotFound
from dragonfly.testing.cluster import LocalCluster, LocalDaemon
from dragonfly.testing.origin import Origin
from dragonfly.testing.origin_answer import Fault
from dragonfly.wire.pb import common_pb2


async def scraped(daemon: LocalDaemon) -> dict[str, float]:
    """Every sample of the page, summed over its labels; the parser ends every counter's name in _total."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{daemon.service.metrics_port}/metrics") as answer,
    ):
        text = await answer.text()
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    return {name.removeprefix("dragonfly_client_"): value for name, value in sums.items()}


async def test_download_is_counted_where_it_was_made_and_where_it_came_from(
    cluster: LocalCluster, origin: Origin, content: bytes
) -> None:
    await cluster.peers[0].download(origin.url("/file"))
    await cluster.peers[0].download(origin.url("/file"))
    origin.fail("/file", Fault(status=404))
    with pytest.raises(SourceNotFound):
        await cluster.peers[0].download(origin.url("/file"))
    peer, seed = await scraped(cluster.peers[0]), await scraped(cluster.seed_peers[0])
    assert peer["download_task_total"] == 3
    assert peer["download_task_failure_total"] == 1
    assert peer["concurrent_download_task_total"] == 0
    assert peer["download_traffic_total"] == seed["upload_traffic_total"] == len(content)
    assert (peer["cache_miss_total"], peer["cache_hit_total"]) == (1, 1)
    assert peer["piece_duration_milliseconds_count"] == 3
    assert peer["first_byte_duration_milliseconds_count"] == 2
    assert peer["disk_space_total"] > peer["disk_usage_space_total"] > 0
    assert seed["download_traffic_total"] == len(content)


async def test_calls_are_counted(cluster: LocalCluster, origin: Origin) -> None:
    done = await cluster.peers[0].download(origin.url("/file"), range=common_pb2.Range(start=0, length=1))
    await cluster.peers[0].stat_local_task(done.task_id)
    assert (await scraped(cluster.peers[0]))["stat_local_task_total"] == 1


async def test_evicted_tasks_are_counted(
    origin: Origin, content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    settings = {"gc.policy.diskThreshold": "16MiB", "gc.interval": "1h"}
    async with LocalCluster(tmp_path_factory.mktemp("c"), seed_peers=0, peers=1, settings=settings) as cluster:
        origin.put("/other", content[: 8 * MiB])
        await cluster.peers[0].download(origin.url("/file"))
        await cluster.peers[0].download(origin.url("/other"))
        seen = await scraped(cluster.peers[0])
    assert (seen["evicted_task_total"], seen["evicted_bytes_total"]) == (1, len(content))
