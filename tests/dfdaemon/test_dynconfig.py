"""Where a daemon without a manager finds its schedulers."""

import logging
import socket
from pathlib import Path

import pytest

from dragonfly.dfdaemon.dynconfig import SchedulerAddresses, from_file
from dragonfly.errors import SchedulerUnreachable


def written(file: Path, text: str) -> Path:
    file.write_text(text)
    return file


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "dynconfig.yaml"


async def test_no_file_means_no_scheduler(file: Path) -> None:
    assert await from_file(file)() == ()


async def test_addresses_win_over_the_name_and_are_read_anew_each_time(file: Path) -> None:
    lookup = from_file(file)
    for ports in (("1", "2"), ("3",)):
        addresses = ", ".join(f'"http://10.0.0.1:{port}"' for port in ports)
        written(file, f"scheduler: {{addr: 'nobody.invalid:8002', addrs: [{addresses}]}}")
        assert await lookup() == tuple(f"10.0.0.1:{port}" for port in ports)


async def test_name_stands_for_every_address_it_resolves_to(file: Path) -> None:
    for host, expected in (("127.0.0.1", "127.0.0.1:8002"), ("[::1]", "[::1]:8002")):
        written(file, f"scheduler: {{addr: '{host}:8002'}}")
        assert await from_file(file)() == (expected,)


async def test_name_that_does_not_resolve_is_told_as_the_schedulers(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unknown(*_: object, **__: object) -> object:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    written(file, "{}")
    with pytest.raises(SchedulerUnreachable):
        await from_file(file)()
    with caplog.at_level(logging.WARNING):
        await SchedulerAddresses(from_file(file), interval=60).refresh()
    (record,) = caplog.records
    assert record.getMessage() == (
        "schedulers stay as they are (none): no scheduler answers at dragonfly-scheduler:8002: "
        "its name does not resolve (Name or service not known)"
    )
