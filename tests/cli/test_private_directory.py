"""Directories of one running process."""

import os
import time
from pathlib import Path

import pytest

from dragonfly.cli.up.private_directory import DirectoryLock, PrivateDirectory, remove_orphans, short_base
from dragonfly.errors import ServiceError, StorageUnusable


def make_old(path: Path) -> None:
    long_ago = time.time() - 3600
    os.utime(path, (long_ago, long_ago))


def test_private_directory_is_ours_alone_and_gone_after_removal(tmp_path: Path) -> None:
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


def test_orphan_is_removed(tmp_path: Path) -> None:
    orphan = tmp_path / "dragonfly-up-1"
    (orphan / "below").mkdir(parents=True)
    make_old(orphan)
    remove_orphans(tmp_path)
    assert not orphan.exists()


def test_directory_in_use_or_in_the_making_or_of_others_stays(tmp_path: Path) -> None:
    used = PrivateDirectory(tmp_path)
    make_old(used.path)
    young, other = tmp_path / "dragonfly-up-young", tmp_path / "other"
    young.mkdir()
    other.mkdir()
    make_old(other)
    link = tmp_path / "dragonfly-up-link"
    link.symlink_to(other)
    remove_orphans(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {used.path.name, young.name, other.name, link.name}
    used.remove()


def test_sockets_go_to_the_runtime_directory_if_it_is_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/dev/shm")
    assert short_base() == Path("/dev/shm")
    for unusable in ("", "relative", str(tmp_path / ("x" * 60)), "/does/not/exist"):
        monkeypatch.setenv("XDG_RUNTIME_DIR", unusable)
        assert short_base() == Path("/tmp")
