"""Limits and certificates that the settings ask for, seen from outside a daemon."""

import asyncio
import time
from pathlib import Path

import pytest
import trustme

from dragonfly.core.model.units import MiB
from dragonfly.errors import NoSourceAllowed, Overloaded
from dragonfly.testing.cluster import LocalCluster
from dragonfly.testing.origin import Origin
from dragonfly.testing.origin_answer import Fault


async def test_more_downloads_than_are_allowed_at_once_are_refused(origin: Origin, tmp_path: Path) -> None:
    settings = {"download.concurrentTaskCount": "1"}
    async with LocalCluster(tmp_path, seed_peers=0, peers=1, settings=settings) as cluster:
        origin.fail("/file", Fault(silent_after=MiB))
        origin.put("/other", b"other")
        slow = asyncio.create_task(cluster.peers[0].download(origin.url("/file")))
        while origin.counters().body_bytes.get("/file", 0) < MiB:  # noqa: ASYNC110 - the origin is another thread
            await asyncio.sleep(0.01)
        with pytest.raises(Overloaded, match="1 downloads are under way"):
            await cluster.peers[0].download(origin.url("/other"))
        slow.cancel()
        await asyncio.gather(slow, return_exceptions=True)


@pytest.mark.parametrize(
    ("key", "through_a_seed"),
    [
        ("download.bandwidthLimit", True),
        ("download.backToSourceBandwidthLimit", False),
        ("upload.bandwidthLimit", True),
    ],
)
async def test_bandwidth_limit_is_kept(
    origin: Origin, content: bytes, tmp_path: Path, key: str, through_a_seed: bool
) -> None:
    settings = {key: "8MiB"}
    async with LocalCluster(tmp_path, seed_peers=int(through_a_seed), peers=1, settings=settings) as cluster:
        began = time.monotonic()
        await cluster.peers[0].download(origin.url("/file"), output=tmp_path / "out")
        seconds = time.monotonic() - began
    assert (tmp_path / "out").read_bytes() == content
    assert seconds >= 0.95 * (len(content) - 8 * MiB * 0.05) / (8 * MiB)  # without the burst a limit begins with


# --- TLS for pieces


def certificates(directory: Path, authority: trustme.CA, name: str) -> dict[str, str]:
    """Settings of a peer at 127.0.0.1 with a certificate of its own."""
    issued, files = authority.issue_cert("127.0.0.1"), {}
    for key, blob in (
        ("caCert", authority.cert_pem.bytes()),
        ("cert", b"".join(part.bytes() for part in issued.cert_chain_pems)),
        ("key", issued.private_key_pem.bytes()),
    ):
        path = directory / f"{name}-{key}.pem"
        path.write_bytes(blob)
        files[f"storage.server.tls.{key}"] = str(path)
    return files


async def test_pieces_travel_under_tls_between_peers_of_one_authority(
    origin: Origin, content: bytes, tmp_path: Path
) -> None:
    settings = certificates(tmp_path, trustme.CA(), "peer")
    async with LocalCluster(tmp_path, peers=2, settings=settings) as cluster:
        for number, peer in enumerate(cluster.peers):
            done = await peer.download(origin.url("/file"), output=tmp_path / f"out-{number}")
            assert done.bytes_from == {"REMOTE_PEER": len(content)}
            assert (tmp_path / f"out-{number}").read_bytes() == content


async def test_peer_in_the_clear_gets_nothing_from_peers_under_tls(origin: Origin, tmp_path: Path) -> None:
    async with LocalCluster(tmp_path, peers=1, settings=certificates(tmp_path, trustme.CA(), "peer")) as cluster:
        await cluster.peers[0].download(origin.url("/file"))
        stranger = cluster.add_peer("stranger", {})
        await stranger.start()
        await cluster.until_announced()
        with pytest.raises(NoSourceAllowed):
            await stranger.download(origin.url("/file"), disable_back_to_source=True)
