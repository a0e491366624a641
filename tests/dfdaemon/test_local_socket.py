"""Making room for the unix socket."""

import socket
import stat
from pathlib import Path

import pytest

from dragonfly.dfdaemon import local_socket
from dragonfly.errors import ServiceError


def test_path_in_a_new_directory_is_made_ready(tmp_path: Path) -> None:
    path = tmp_path / "run" / "dfdaemon.sock"
    assert local_socket.prepare(path) == f"unix:{path}"
    assert path.parent.is_dir()


def test_leftover_of_a_dead_daemon_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "dfdaemon.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    local_socket.prepare(path)
    assert not path.exists()


def test_socket_of_a_living_daemon_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "dfdaemon.sock"
    with socket.socket(socket.AF_UNIX) as living:
        living.bind(str(path))
        living.listen()
        with pytest.raises(ServiceError, match="another daemon"):
            local_socket.prepare(path)
    assert path.exists()


def test_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    """Attack 25."""
    path = tmp_path / "dfdaemon.sock"
    path.write_text("precious")
    with pytest.raises(ServiceError, match="not a socket"):
        local_socket.prepare(path)
    assert path.read_text() == "precious"


def test_path_longer_than_a_socket_may_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="107 bytes"):
        local_socket.prepare(tmp_path / ("x" * 100) / "dfdaemon.sock")


def test_only_owner_and_group_may_connect(tmp_path: Path) -> None:
    """Attack 25."""
    path = tmp_path / "dfdaemon.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        local_socket.open_to_users(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
