"""Delivering a finished file: what stands at the path decides, and nothing is ever half there."""

import hashlib
import os
import stat
import zlib
from pathlib import Path

import pytest

from dragonfly.core.model.digest import Digest
from dragonfly.core.model.ranges import ByteRange
from dragonfly.dfdaemon import output
from dragonfly.dfdaemon.request import OutputRequest
from dragonfly.errors import (
    ContentDigestMismatch,
    OutputExists,
    OutputIsDirectory,
    OutputParentMissing,
    OutputUnwritable,
)

CONTENT = b"the whole file" * 1000


@pytest.fixture
def content(tmp_path: Path) -> Path:
    path = tmp_path / "cache" / "content"
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    path.chmod(0o600)
    return path


def wanted(path: Path, **options: bool) -> OutputRequest:
    return OutputRequest(path=path, **options)


def is_same_file(one: Path, other: Path) -> bool:
    return one.stat().st_ino == other.stat().st_ino


def test_new_output_is_a_copy_of_its_own(content: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    output.deliver(content, wanted(target))
    assert target.read_bytes() == CONTENT
    assert not is_same_file(content, target)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_existing_output_is_refused_without_overwrite_and_kept(content: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.write_text("old")
    with pytest.raises(OutputExists):
        output.deliver(content, wanted(target))
    assert target.read_text() == "old"


def test_existing_output_is_replaced_with_overwrite_and_keeps_its_mode(content: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.write_text("old")
    target.chmod(0o640)
    output.deliver(content, wanted(target, overwrite=True))
    assert target.read_bytes() == CONTENT
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


def test_empty_file_of_our_own_user_becomes_a_hard_link_with_its_mode(content: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.touch(mode=0o644)
    output.deliver(content, wanted(target, overwrite=True))
    assert is_same_file(content, target)
    assert stat.S_IMODE(target.stat().st_mode) == stat.S_IMODE(os.stat(target).st_mode) == 0o644


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a file to another user takes root")
def test_empty_file_of_another_user_is_filled_in_place(content: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.touch(mode=0o600)
    os.chown(target, 12345, 12345)
    output.deliver(content, wanted(target, overwrite=True))
    assert target.read_bytes() == CONTENT
    assert target.stat().st_uid == 12345
    assert not is_same_file(content, target)


def test_forced_hard_link_links(content: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    output.deliver(content, wanted(target, force_hard_link=True))
    assert is_same_file(content, target)


def test_forced_hard_link_across_file_systems_fails_and_leaves_nothing(content: Path) -> None:
    shm = Path("/dev/shm")
    if not shm.is_dir() or shm.stat().st_dev == content.stat().st_dev:
        pytest.skip("no second file system at /dev/shm")
    target = shm / f"dragonfly-test-{os.getpid()}"
    with pytest.raises(OutputUnwritable, match="cross-device"):
        output.deliver(content, wanted(target, force_hard_link=True))
    assert not target.exists()
    assert not list(shm.glob(f".{target.name}*"))


def test_copy_crosses_file_systems(content: Path) -> None:
    shm = Path("/dev/shm")
    if not shm.is_dir():
        pytest.skip("no second file system at /dev/shm")
    target = shm / f"dragonfly-test-copy-{os.getpid()}"
    try:
        output.deliver(content, wanted(target))
        assert target.read_bytes() == CONTENT
    finally:
        target.unlink(missing_ok=True)


def test_directory_is_no_output(content: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputIsDirectory):
        output.deliver(content, wanted(tmp_path, overwrite=True))


def test_missing_parent_is_named(content: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputParentMissing, match="nowhere"):
        output.check(wanted(tmp_path / "nowhere" / "out"))


def test_symbolic_link_is_not_followed(content: Path, tmp_path: Path) -> None:
    """Attack 19."""
    victim, target = tmp_path / "victim", tmp_path / "out"
    victim.write_text("precious")
    target.symlink_to(victim)
    with pytest.raises(OutputUnwritable, match="not a regular file"):
        output.deliver(content, wanted(target, overwrite=True))
    assert victim.read_text() == "precious"


def test_device_is_no_output(content: Path) -> None:
    """Attack 19."""
    with pytest.raises(OutputUnwritable, match="not a regular file"):
        output.check(wanted(Path("/dev/null"), overwrite=True))


def test_output_that_cannot_be_written_keeps_what_stood_there(content: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.write_text("old")
    content.unlink()  # stands for any failure while copying
    with pytest.raises(OutputUnwritable):
        output.deliver(content, wanted(target, overwrite=True))
    assert target.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "out"]


@pytest.mark.parametrize(
    "text",
    [
        "sha256:5f8fbb4c8ec0a5f4c6d4bd4a4ac1dc9c2ea1ba5d8d4bf4d0a0ddc2df5ac8ba6e",
        "crc32:1",
        "sha512:" + "0" * 128,
    ],
)
def test_wrong_digest_is_told_with_both_values(content: Path, text: str) -> None:
    with pytest.raises(ContentDigestMismatch, match=text):
        output.verify(content, Digest.parse(text))


def test_right_digest_is_accepted(content: Path) -> None:
    output.verify(content, Digest("sha256", hashlib.sha256(CONTENT).hexdigest()))
    output.verify(content, Digest("sha512", hashlib.sha512(CONTENT).hexdigest()))
    output.verify(content, Digest.parse(f"crc32:{zlib.crc32(CONTENT):010d}"))


# --- ranges

SPAN = ByteRange(10, 4000)
PART = CONTENT[10:4010]


def test_range_is_delivered_as_a_file_of_its_own_length(content: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    output.deliver(content, wanted(target), SPAN)
    assert target.read_bytes() == PART


def test_range_fills_a_callers_empty_file_and_never_by_a_link(content: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.touch()
    output.deliver(content, wanted(target, overwrite=True), SPAN)
    assert target.read_bytes() == PART
    assert not is_same_file(content, target)


def test_range_behind_the_end_of_the_stored_file_is_an_error_and_leaves_nothing(content: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    with pytest.raises(OutputUnwritable, match="ends too early"):
        output.deliver(content, wanted(target), ByteRange(len(CONTENT) - 5, 10))
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]
