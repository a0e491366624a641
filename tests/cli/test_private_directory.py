"""Directories of one running process."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dragonfly.cli.up.private_directory import (
    LOCK_NAME,
    DirectoryLock,
    PrivateDirectory,
    Purpose,
    remove_orphans,
    short_base,
)
from dragonfly.errors import ServiceError, StorageUnusable


def make_old(path: Path) -> None:
    long_ago = time.time() - 2 * 3600
    os.utime(path, (long_ago, long_ago))


def test_private_directory_is_ours_alone_and_gone_after_removal(tmp_path: Path) -> None:
    """Attack 25."""
    directory = PrivateDirectory(tmp_path)
    (directory.path / "file").touch()
    assert directory.path.stat().st_mode & 0o777 == 0o700
    directory.remove()
    assert list(tmp_path.iterdir()) == []


def test_private_directory_where_nothing_can_be_made_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageUnusable, match="No such file or directory"):
        PrivateDirectory(tmp_path / "missing")


def test_directory_is_locked_once(tmp_path: Path) -> None:
    lock = DirectoryLock(tmp_path / "data")
    with pytest.raises(ServiceError, match=r"data is in use by another `dragonfly up`"):
        DirectoryLock(tmp_path / "data")
    lock.release()
    DirectoryLock(tmp_path / "data").release()


def test_file_in_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    with pytest.raises(StorageUnusable, match="cannot be used"):
        DirectoryLock(tmp_path / "data")


@pytest.mark.parametrize("purpose", ["up", "demo"])
def test_directory_of_a_killed_owner_is_removed_at_once(purpose: Purpose, tmp_path: Path) -> None:
    made = f"""
import os, signal
from pathlib import Path
from dragonfly.cli.up.private_directory import PrivateDirectory
directory = PrivateDirectory(Path({str(tmp_path)!r}), {purpose!r})
(directory.path / "below").mkdir()
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", made], check=False, timeout=60)
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(f"dragonfly-{purpose}-")
    remove_orphans(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_directory_without_a_lock_is_removed_when_it_is_old(tmp_path: Path) -> None:
    old, young = tmp_path / "dragonfly-up-old", tmp_path / "dragonfly-up-young"
    old.mkdir()
    young.mkdir()
    make_old(old)
    remove_orphans(tmp_path)
    assert list(tmp_path.iterdir()) == [young]


@pytest.mark.parametrize("purpose", ["up", "demo"])
def test_directory_in_use_or_of_others_stays(purpose: Purpose, tmp_path: Path) -> None:
    used = PrivateDirectory(tmp_path, purpose)
    make_old(used.path)
    other, file, link = tmp_path / "other", tmp_path / "dragonfly-up-file", tmp_path / "dragonfly-up-link"
    other.mkdir()
    (other / LOCK_NAME).touch()
    file.touch()
    link.symlink_to(other)
    for path in (other, file):
        make_old(path)
    remove_orphans(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {used.path.name, file.name, other.name, link.name}
    used.remove()


def test_sockets_go_to_the_runtime_directory_if_it_is_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/dev/shm")
    assert short_base() == Path("/dev/shm")
    for unusable in ("", "relative", str(tmp_path / ("x" * 60)), "/does/not/exist"):
        monkeypatch.setenv("XDG_RUNTIME_DIR", unusable)
        assert short_base() == Path("/tmp")
