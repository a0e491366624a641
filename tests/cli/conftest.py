"""What several tests of the command line tools need."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dragonfly.testing.fake_daemon import FakeDaemon
from tests.cli.desk import Desk


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    for name in [name for name in os.environ if name.startswith("DFGET_")]:
        monkeypatch.delenv(name)
    directory = tmp_path / "downloads"
    directory.mkdir()
    with FakeDaemon(tmp_path / "daemon.sock") as daemon:
        yield Desk(directory, daemon, capsys)
