"""Settings of a daemon that only show when something goes wrong."""

from pathlib import Path

import pytest

from dragonfly.core.model.units import MiB
from dragonfly.errors import SourceError
from dragonfly.testing.cluster import LocalCluster
from dragonfly.testing.origin import Origin
from dragonfly.testing.origin_answer import Fault


async def test_failed_request_is_made_again_as_often_as_the_settings_say(
    tmp_path: Path, origin: Origin, content: bytes
) -> None:
    url = origin.url("/file") + "?asked=by-get"
    settings = {"backend.maxRetries": "0"}
    async with LocalCluster(tmp_path, seed_peers=0, peers=1, settings=settings) as cluster:
        origin.fail("/file", Fault(status=500, times=1))
        with pytest.raises(SourceError):
            await cluster.peers[0].download(url)
        assert sum(origin.counters().requests.values()) == 1
        await cluster.peers[0].download(url, output=tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == content


async def test_parent_that_needs_too_long_for_a_piece_is_left(tmp_path: Path, origin: Origin, content: bytes) -> None:
    origin.put("/slow", content[: 4 * MiB])
    settings = {"upload.bandwidthLimit": "1MiB", "storage.writePieceTimeout": "300ms"}
    async with LocalCluster(tmp_path, peers=1, settings=settings) as cluster:
        done = await cluster.peers[0].download(origin.url("/slow"), output=tmp_path / "out")
    assert done.bytes_from == {"BACK_TO_SOURCE": 4 * MiB}
    assert (tmp_path / "out").read_bytes() == content[: 4 * MiB]
