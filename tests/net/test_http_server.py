"""The endpoints operators' tools ask."""

import asyncio
import socket

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from dragonfly.core.model.task import TaskKind
from dragonfly.errors import ServiceError
from dragonfly.net import host_info
from dragonfly.net.http_server import STOP_TIMEOUT, StatusServer, is_loopback
from dragonfly.telemetry.metrics import DaemonMetrics

PATIENCE = 60.0  # seconds; no call takes so long, however busy the machine is


async def ask(address: str, path: str, method: str = "GET", **headers: str) -> tuple[int, str, str]:
    """(status, content type, body)."""
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(PATIENCE)) as session,
        session.request(method, f"http://{address}{path}", headers=headers) as answer,
    ):
        return answer.status, answer.headers.get("Content-Type", ""), await answer.text()


def counting() -> DaemonMetrics:
    metrics = DaemonMetrics(version="1")
    metrics.cache_hit(TaskKind.STANDARD)
    return metrics


async def test_health_follows_the_service() -> None:
    is_serving = True
    server = StatusServer("127.0.0.1", 0, is_healthy=lambda: is_serving)
    port = await server.start()
    try:
        assert (await ask(f"127.0.0.1:{port}", "/healthy"))[0] == 200
        is_serving = False
        assert (await ask(f"127.0.0.1:{port}", "/healthy"))[0] == 503
        assert (await ask(f"127.0.0.1:{port}", "/other"))[0] == 404
    finally:
        await server.stop()


async def test_metrics_are_served_as_prometheus_reads_them() -> None:
    server = StatusServer("127.0.0.1", 0, scrape=counting().scrape)
    port = await server.start()
    try:
        status, content_type, body = await ask(f"127.0.0.1:{port}", "/metrics")
    finally:
        await server.stop()
    assert (status, content_type) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert "dragonfly_client_cache_hit" in {family.name for family in text_string_to_metric_families(body)}


async def test_a_service_without_metrics_of_its_own_tells_of_its_process_and_resets_nothing() -> None:
    server = StatusServer("127.0.0.1", 0)
    port = await server.start()
    try:
        assert "process_open_fds" in (await ask(f"127.0.0.1:{port}", "/metrics"))[2]
        assert (await ask(f"127.0.0.1:{port}", "/metrics", "DELETE"))[0] == 405
    finally:
        await server.stop()


@pytest.mark.parametrize("ip", ["127.0.0.1", "::1"])
async def test_counters_are_reset_from_this_host(ip: str) -> None:
    metrics = counting()
    server = StatusServer(ip, 0, scrape=metrics.scrape, reset=metrics.reset)
    port = await server.start()
    address = f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
    try:
        assert "cache_hit_total{" in (await ask(address, "/metrics"))[2]
        assert (await ask(address, "/metrics", "DELETE"))[0] == 200
        assert "cache_hit_total{" not in (await ask(address, "/metrics"))[2]
    finally:
        await server.stop()


async def test_nobody_else_resets_them_whatever_a_header_says() -> None:
    own = host_info.local_ip()
    if own.startswith("127."):
        pytest.skip("this host has no address but loopback")
    metrics = counting()
    server = StatusServer("0.0.0.0", 0, scrape=metrics.scrape, reset=metrics.reset)
    port = await server.start()
    forged = {"X-Forwarded-For": "127.0.0.1", "Forwarded": "for=127.0.0.1", "Host": "localhost"}
    try:
        assert (await ask(f"{own}:{port}", "/metrics", "DELETE", **forged))[0] == 403
        assert "cache_hit_total{" in (await ask(f"{own}:{port}", "/metrics"))[2]
    finally:
        await server.stop()


@pytest.mark.parametrize(
    ("ip", "expected"), [("::ffff:127.0.0.1", True), ("::ffff:10.0.0.1", False), ("fe80::1%eth0", False), ("::1", True)]
)
def test_addresses_of_a_listener_for_both_families_are_understood(ip: str, expected: bool) -> None:
    assert is_loopback(ip) is expected


async def test_requests_that_never_end_do_not_hold_up_the_end() -> None:
    server = StatusServer("127.0.0.1", 0)
    port = await server.start()
    writers = []
    for sent in (b"", b"GET /heal", b"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc"):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        await writer.drain()
        writers.append(writer)
    async with asyncio.timeout(2 * STOP_TIMEOUT + 1):
        await server.stop()
    for writer in writers:
        writer.close()


async def test_a_port_that_is_taken_is_told_in_a_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ServiceError, match="cannot listen on 127"):
            await StatusServer("127.0.0.1", taken.getsockname()[1]).start()
