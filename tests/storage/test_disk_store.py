"""The disk store beyond the contract: rights, space, restarts, and what a crash or a stranger left behind."""

import errno
import os
import resource
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from dragonfly.core.model.ids import TaskId, TaskKey, content_task_id, public_task
from dragonfly.core.model.piece import PieceGeometry, PieceNumber
from dragonfly.core.model.principal import PUBLIC_SCOPE, TenantScope
from dragonfly.core.model.units import KiB, MiB
from dragonfly.errors import (
    DiskFull,
    InvalidIdentifier,
    PieceDigestMismatch,
    PieceLengthMismatch,
    PieceNotFound,
    StorageError,
    StorageUnusable,
    TaskNotFound,
)
from dragonfly.storage import checksum, room
from dragonfly.storage.disk import DiskStore
from dragonfly.storage.store import OriginFacts

CONTENT = os.urandom(2345)
GEOMETRY = PieceGeometry(len(CONTENT), 1000)
ORIGIN = OriginFacts(url="http://origin.test/file", etag='"1"', response_header={"a": "b"})
KEY = public_task(content_task_id("a file"))
ZERO, ONE = PieceNumber(0), PieceNumber(1)
BLOCK = 64 * KiB  # a multiple of every file system's blocks


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "store"


def opened(directory: Path, **options: object) -> DiskStore:
    return DiskStore(directory, free_reserve=0, **options)  # type: ignore[arg-type]  # options of the call site


def write(store: DiskStore, number: PieceNumber, key: TaskKey = KEY) -> None:
    span = GEOMETRY.span(number)
    with store.claim(key, number) as writer:
        writer.write(memoryview(CONTENT)[span.start : span.end])
        writer.commit(parent_id=None, cost=0.25)


def filled(directory: Path, *numbers: int) -> Path:
    """A store that holds these pieces of one task, closed again; finished if they are all. The content's path."""
    store = opened(directory)
    store.create(KEY, GEOMETRY, ORIGIN)
    for number in numbers:
        write(store, PieceNumber(number))
    if len(numbers) == GEOMETRY.piece_count:
        store.finish(KEY)
    store.close()
    return content_file(directory)


def content_file(directory: Path) -> Path:
    return directory / "content" / "tasks" / KEY.wire_id[:3] / KEY.wire_id


def numbers(directory: Path) -> list[int] | None:
    """The pieces a store opened there has of the task; None where it has no such task."""
    store = opened(directory)
    stored = store.get(KEY)
    store.close()
    return None if stored is None else list(stored.pieces)


def change_index(directory: Path, statement: str) -> None:
    with sqlite3.connect(directory / "metadata" / "store.db") as database:
        database.execute(statement)
    database.close()


# --- restart


def test_everything_is_there_again_after_a_restart(directory: Path) -> None:
    store = opened(directory)
    private = TaskKey(TenantScope("tenant"), KEY.task_id)
    for key in (KEY, private):
        store.create(key, GEOMETRY, ORIGIN)
        write(store, ONE, key)
    before, pieces = store.tasks(), store.pieces(KEY)
    store.close()
    store = opened(directory)
    assert store.tasks() == before
    assert store.pieces(KEY) == pieces
    assert store.find(private.wire_id) == private
    store.close()


def test_a_finished_task_is_finished_after_a_restart(directory: Path) -> None:
    filled(directory, 0, 1, 2)
    store = opened(directory)
    stored = store.get(KEY)
    assert stored is not None
    assert stored.is_finished
    assert store.content_path(KEY).read_bytes() == CONTENT
    store.close()


def test_the_last_use_is_remembered(directory: Path) -> None:
    filled(directory, 0)
    store = opened(directory, clock=lambda: 2e9)
    with store.open_piece(KEY, ZERO):
        pass
    store.close()
    store = opened(directory)
    assert [stored.updated_at for stored in store.tasks()] == [2e9]
    store.close()


def test_a_deleted_task_stays_deleted(directory: Path) -> None:
    path = filled(directory, 0, 1, 2)
    store = opened(directory)
    store.delete(KEY)
    assert not path.exists()
    store.close()
    assert numbers(directory) is None


def test_a_store_that_does_not_keep_begins_empty(directory: Path) -> None:
    path = filled(directory, 0, 1, 2)
    opened(directory, keep=False).close()
    assert not path.exists()
    assert numbers(directory) is None


# --- torn states: attack 23, invariant I8


def test_content_without_a_record_is_removed(directory: Path) -> None:
    path = filled(directory, 0)
    stranger = path.with_name("e" * 64)
    stranger.write_bytes(b"orphan")
    change_index(directory, "DELETE FROM task")
    assert numbers(directory) is None
    assert not path.exists()
    assert not stranger.exists()


def test_a_piece_without_a_record_is_fetched_again(directory: Path) -> None:
    filled(directory, 0, 1)
    change_index(directory, "DELETE FROM piece WHERE number = 1")
    assert numbers(directory) == [0]


@pytest.mark.parametrize("torn", [b"\0" * 1000, CONTENT[1000:1500] + b"\0" * 500], ids=["nothing", "half"])
def test_a_record_whose_bytes_never_reached_the_disk_is_dropped(directory: Path, torn: bytes) -> None:
    path = filled(directory, 0, 1)
    with path.open("r+b") as file:
        file.seek(1000)
        file.write(torn)
    assert numbers(directory) == [0]
    assert numbers(directory) == [0]  # and is not looked for again


@pytest.mark.parametrize("pieces", [(0,), (0, 1, 2)], ids=["unfinished", "finished"])
def test_a_task_whose_file_is_gone_is_forgotten(directory: Path, pieces: tuple[int, ...]) -> None:
    filled(directory, *pieces).unlink()
    assert numbers(directory) is None


@pytest.mark.parametrize("length", [0, 2344, 2346])
@pytest.mark.parametrize("pieces", [(0,), (0, 1, 2)], ids=["unfinished", "finished"])
def test_a_task_whose_file_has_another_size_is_forgotten(directory: Path, pieces: tuple[int, ...], length: int) -> None:
    path = filled(directory, *pieces)
    os.truncate(path, length)
    assert numbers(directory) is None
    assert not path.exists()


def test_a_file_that_became_a_symbolic_link_is_not_followed(directory: Path, tmp_path: Path) -> None:
    """Attack 19."""
    path = filled(directory, 0)
    secret = tmp_path / "secret"
    secret.write_bytes(CONTENT)
    path.unlink()
    path.symlink_to(secret)
    assert numbers(directory) is None
    assert secret.read_bytes() == CONTENT


def test_a_finished_task_that_lacks_a_piece_record_is_forgotten(directory: Path) -> None:
    filled(directory, 0, 1, 2)
    change_index(directory, "DELETE FROM piece WHERE number = 1")
    assert numbers(directory) is None


@pytest.mark.parametrize("damage", [b"", b"not a database at all" * 50], ids=["empty", "garbage"])
def test_an_unreadable_index_is_begun_anew(directory: Path, damage: bytes) -> None:
    filled(directory, 0, 1, 2)
    (directory / "metadata" / "store.db").write_bytes(damage)
    assert numbers(directory) is None
    filled(directory, 0)
    assert numbers(directory) == [0]


def test_an_index_of_another_version_is_begun_anew(directory: Path) -> None:
    filled(directory, 0)
    change_index(directory, "PRAGMA user_version = 99")
    assert numbers(directory) is None


def test_after_a_reboot_a_finished_piece_is_read_before_it_is_believed(directory: Path) -> None:
    """A machine that lost power may have the record and the size, and zeros for bytes."""
    path = filled(directory, 0, 1, 2)
    facts = path.stat()
    with path.open("r+b") as file:
        file.seek(1000)
        file.write(b"\0" * 1000)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    change_index(directory, "UPDATE task SET boot_id = 'another run'")
    store = opened(directory)
    with store.open_piece(KEY, ZERO) as reader:
        assert os.pread(reader.fd, 1000, 0) == CONTENT[:1000]
    with pytest.raises(TaskNotFound):
        store.open_piece(KEY, ONE)
    assert store.get(KEY) is None
    store.close()


def test_after_a_reboot_the_whole_content_is_read_before_it_is_believed(directory: Path) -> None:
    filled(directory, 0, 1, 2)
    change_index(directory, "UPDATE task SET boot_id = 'another run'")
    store = opened(directory)
    assert store.content_path(KEY).read_bytes() == CONTENT
    store.close()
    with sqlite3.connect(directory / "metadata" / "store.db") as database:
        assert database.execute("SELECT boot_id FROM task").fetchone() != ("another run",)  # proven once is enough
    database.close()


# --- sparse tasks, and those of unknown length

SPARSE = PieceGeometry(8 * BLOCK, BLOCK)
OPEN = PieceGeometry.open(BLOCK)


def partly_filled(directory: Path, geometry: PieceGeometry, *numbers: int) -> Path:
    """A closed store that holds these pieces of a sparse task, and once had a claim on the next one."""
    store = opened(directory)
    store.create(KEY, geometry, ORIGIN, sparse=True)
    for number in numbers:
        with store.claim(KEY, PieceNumber(number)) as writer:
            writer.write(memoryview(bytes([number]) * BLOCK))
            writer.commit(parent_id="p", cost=0.0)
    with store.claim(KEY, PieceNumber(max(numbers) + 1)) as writer:
        writer.write(memoryview(b"half"))
    assert store.usage().stored == (len(numbers) + 1) * BLOCK
    store.close()
    return content_file(directory)


@pytest.mark.parametrize("geometry", [SPARSE, OPEN], ids=["sparse", "open"])
def test_a_sparse_task_keeps_its_pieces_and_no_other_room_over_a_restart(
    directory: Path, geometry: PieceGeometry
) -> None:
    path = partly_filled(directory, geometry, 1, 4)
    store = opened(directory)
    assert [(task.geometry, list(task.pieces), task.room) for task in store.tasks()] == [(geometry, [1, 4], 2 * BLOCK)]
    assert store.usage().stored == path.stat().st_blocks * 512 == 2 * BLOCK
    with store.open_piece(KEY, PieceNumber(4)) as reader:
        assert os.pread(reader.fd, BLOCK, reader.position) == b"\4" * BLOCK
    store.close()


def test_a_task_of_unknown_length_goes_on_after_a_restart(directory: Path) -> None:
    partly_filled(directory, OPEN, 0)
    store = opened(directory)
    store.settle_length(KEY, BLOCK + 10)
    with store.claim(KEY, ONE) as writer:
        writer.write(memoryview(b"0123456789"))
        writer.commit(parent_id=None, cost=0.0)
    store.finish(KEY)
    store.close()
    store = opened(directory)
    assert store.content_path(KEY).read_bytes() == bytes(BLOCK) + b"0123456789"
    assert store.usage().stored == BLOCK + 10
    store.close()


def test_a_length_settled_in_the_moment_of_a_crash_is_settled_afterwards(directory: Path) -> None:
    path = partly_filled(directory, OPEN, 0)
    change_index(directory, f"UPDATE task SET is_open = 0, content_length = {BLOCK + 10}")
    assert numbers(directory) == [0]
    assert path.stat().st_size == BLOCK + 10


def test_a_sparse_file_cut_short_by_somebody_else_is_not_served(directory: Path) -> None:
    path = partly_filled(directory, SPARSE, 1, 4)
    store = opened(directory)
    os.truncate(path, 3 * BLOCK)
    with store.open_piece(KEY, ONE):
        pass
    with pytest.raises(TaskNotFound):
        store.open_piece(KEY, PieceNumber(4))
    assert store.tasks() == []
    store.close()


def test_facts_of_the_origin_survive_a_restart(directory: Path) -> None:
    origin = OriginFacts(url="u", tag="t", application="a", etag="e", tells_length=False, is_private=True)
    store = opened(directory)
    store.create(KEY, GEOMETRY, origin)
    store.close()
    store = opened(directory)
    assert [task.origin for task in store.tasks()] == [origin]
    store.close()


def test_leaves_are_told_at_once_and_after_a_restart(directory: Path) -> None:
    store = opened(directory)
    store.create(KEY, GEOMETRY, ORIGIN)
    with store.claim(KEY, ZERO) as writer:
        writer.write(memoryview(CONTENT)[:1000])
        piece = writer.commit(parent_id=None, cost=0.0)
    assert len(piece.leaves) == 32
    assert store.leaves(KEY, ZERO) == piece.leaves
    store.close()
    store = opened(directory)
    assert store.leaves(KEY, ZERO) == piece.leaves
    assert [found.root for found in store.pieces(KEY)] == [piece.root]
    store.delete(KEY)
    store.create(KEY, GEOMETRY, ORIGIN)
    store.close()
    with sqlite3.connect(directory / "metadata" / "store.db") as database:
        assert database.execute("SELECT count(*) FROM leaves").fetchone() == (0,)
    database.close()


def test_a_store_that_does_not_hash_promises_nothing_and_still_compares_leaves(directory: Path) -> None:
    store = opened(directory, hashes_leaves=False)
    store.create(KEY, GEOMETRY, ORIGIN)
    with store.claim(KEY, ZERO) as writer:
        writer.write(memoryview(CONTENT)[:1000])
        with pytest.raises(PieceDigestMismatch):
            writer.commit(parent_id=None, cost=0.0, root=b"r" * 32)
        writer.restart(leaves=b"l" * 32)
        with pytest.raises(PieceDigestMismatch):
            writer.write(memoryview(CONTENT)[:1000])
    write(store, ZERO)
    assert [(piece.root, store.leaves(KEY, ZERO)) for piece in store.pieces(KEY)] == [(b"", b"")]
    store.close()


@pytest.mark.parametrize(
    "nonsense", ["response_header = 'no json'", "content_length = -1", "piece_length = 0", "created_at = 'long ago'"]
)
def test_a_record_that_makes_no_sense_is_dropped_alone(directory: Path, nonsense: str) -> None:
    filled(directory, 0)
    store = opened(directory)
    other = store.create(public_task(content_task_id("another")), GEOMETRY, ORIGIN).key
    store.close()
    change_index(directory, f"UPDATE task SET {nonsense} WHERE wire_id = '{KEY.wire_id}'")
    for _ in range(2):
        store = opened(directory)
        assert [task.key for task in store.tasks()] == [other]
        store.close()
    assert not content_file(directory).exists()


def test_a_change_that_cannot_be_written_takes_no_other_with_it(directory: Path) -> None:
    store = opened(directory)
    store.create(KEY, GEOMETRY, ORIGIN)
    for number, parent_id in ((ZERO, "\udce4"), (ONE, "fine")):
        span = GEOMETRY.span(number)
        with store.claim(KEY, number) as writer:
            writer.write(memoryview(CONTENT)[span.start : span.end])
            writer.commit(parent_id=parent_id, cost=0.0)
    store.close()
    assert numbers(directory) == [1]


def test_the_last_use_is_remembered_now_and_then_also_without_a_clean_end(directory: Path) -> None:
    filled(directory, 0)
    now = 2e9
    store = opened(directory, clock=lambda: now)
    with store.open_piece(KEY, ZERO):
        pass
    store.create(public_task(content_task_id("another")), GEOMETRY, ORIGIN)
    store._metadata.flush()
    with sqlite3.connect(directory / "metadata" / "store.db") as database:
        assert database.execute("SELECT max(updated_at), count(*) FROM task").fetchone() == (2e9, 2)
    database.close()
    store.close()


KILLED = """
import os, signal, sys
from pathlib import Path
from dragonfly.core.model.ids import content_task_id, public_task
from dragonfly.core.model.piece import PieceGeometry, PieceNumber
from dragonfly.storage.disk import DiskStore
from dragonfly.storage.store import OriginFacts

store, content = DiskStore(Path(sys.argv[1]), free_reserve=0), sys.stdin.buffer.read()
geometry = PieceGeometry(len(content), 1000)
key = store.create(public_task(content_task_id("a file")), geometry, OriginFacts(url="u")).key
for number in geometry.numbers():
    with store.claim(key, number) as writer:
        writer.write(memoryview(content)[number * 1000 : number * 1000 + 500])
        if number == 2:
            store._metadata.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        writer.write(memoryview(content)[number * 1000 + 500 : number * 1000 + 1000])
        writer.commit(parent_id=None, cost=0.0)
"""


def test_a_killed_process_leaves_the_pieces_it_committed(directory: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, directory], input=CONTENT, timeout=60, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert numbers(directory) == [0, 1]


# --- a finished file that somebody else touches


@pytest.fixture
def finished(directory: Path) -> Iterator[DiskStore]:
    filled(directory, 0, 1, 2)
    store = opened(directory)
    yield store
    store.close()


def test_an_output_edited_through_its_hard_link_is_never_served(finished: DiskStore, tmp_path: Path) -> None:
    output = tmp_path / "output"
    output.hardlink_to(finished.content_path(KEY))
    with output.open("r+b") as file:
        file.write(b"edited")
    with pytest.raises(TaskNotFound):
        finished.open_piece(KEY, ONE)
    assert finished.get(KEY) is None
    assert output.read_bytes()[:6] == b"edited"  # the user's file is the user's


def test_an_edited_output_is_noticed_by_the_next_who_wants_the_file(finished: DiskStore, tmp_path: Path) -> None:
    output = tmp_path / "output"
    output.hardlink_to(finished.content_path(KEY))
    output.open("ab").close()
    assert finished.content_path(KEY).read_bytes() == CONTENT  # opened, not changed
    with output.open("ab") as file:
        file.write(b"more")
    with pytest.raises(TaskNotFound):
        finished.content_path(KEY)


def test_a_hard_link_and_other_rights_change_nothing(finished: DiskStore, directory: Path, tmp_path: Path) -> None:
    output = tmp_path / "output"
    output.hardlink_to(finished.content_path(KEY))
    output.chmod(0o644)
    output.unlink()
    with finished.open_piece(KEY, ONE) as reader:
        assert os.pread(reader.fd, 1000, reader.position) == CONTENT[1000:2000]
    finished.close()
    assert numbers(directory) == [0, 1, 2]


def test_a_removed_file_drops_its_task(finished: DiskStore, directory: Path) -> None:
    content_file(directory).unlink()
    with pytest.raises(TaskNotFound):
        finished.content_path(KEY)
    assert finished.find(KEY.wire_id) is None


# --- rights: attack 21


def test_directories_are_0700_and_files_0600_whatever_the_umask(directory: Path) -> None:
    before = os.umask(0)
    try:
        filled(directory, 0)
    finally:
        os.umask(before)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (directory, *directory.rglob("*"))}
    assert all(mode == (0o700 if path.is_dir() else 0o600) for path, mode in modes.items()), modes


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o720, 0o1777])
@pytest.mark.parametrize("inner", [".", "content", "metadata"])
def test_a_directory_others_may_write_is_refused(directory: Path, inner: str, mode: int) -> None:
    opened(directory).close()
    (directory / inner).chmod(mode)
    with pytest.raises(StorageUnusable, match="may write"):
        opened(directory)


def test_rights_are_those_of_the_settings(directory: Path) -> None:
    """Attack 25."""
    modes = {"file_mode": 0o640, "directory_mode": 0o770}
    before = os.umask(0o077)
    try:
        store = opened(directory, **modes)
        store.create(KEY, GEOMETRY, ORIGIN)
        store.close()
    finally:
        os.umask(before)
    assert stat.S_IMODE(content_file(directory).stat().st_mode) == 0o640
    folders = {path for path in (directory, *directory.rglob("*")) if path.is_dir()}
    assert {stat.S_IMODE(path.stat().st_mode) for path in folders} == {0o770}
    opened(directory, **modes).close()  # what we opened to our group is no reason to refuse it
    with pytest.raises(StorageUnusable, match="may write"):
        opened(directory)
    directory.chmod(0o777)
    with pytest.raises(StorageUnusable, match="may write"):
        opened(directory, **modes)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_another_user_is_refused(directory: Path) -> None:
    opened(directory).close()
    os.chown(directory, 12345, -1)
    with pytest.raises(StorageUnusable, match="user 12345"):
        opened(directory)


def test_a_file_in_place_of_the_directory_is_refused(directory: Path) -> None:
    directory.write_bytes(b"")
    with pytest.raises(StorageUnusable, match="not a directory"):
        opened(directory)


def test_two_stores_never_share_a_directory(directory: Path) -> None:
    store = opened(directory)
    with pytest.raises(StorageUnusable, match="another process"):
        opened(directory)
    store.close()
    opened(directory).close()


@pytest.mark.parametrize("task_id", ["../" * 20 + "etc/passwd", "a" * 63 + "/", "A" * 64, "a" * 65, "", "\0" * 64])
def test_an_id_that_is_no_id_never_becomes_a_path(directory: Path, task_id: str) -> None:
    """Attack 19."""
    store = opened(directory)
    with pytest.raises(InvalidIdentifier):
        store.create(TaskKey(PUBLIC_SCOPE, TaskId(task_id)), GEOMETRY, ORIGIN)
    assert list((directory / "content" / "tasks").iterdir()) == []
    store.close()


# --- space: attack 23


def test_a_task_larger_than_the_disk_is_refused_before_its_first_byte(directory: Path) -> None:
    store = opened(directory)
    with pytest.raises(DiskFull) as caught:
        store.create(KEY, PieceGeometry.of(1 << 46), ORIGIN)
    assert caught.value.facts["needed"] == 1 << 46
    assert store.get(KEY) is None
    assert not content_file(directory).exists()
    store.create(KEY, GEOMETRY, ORIGIN)
    store.close()


def test_the_reserve_of_the_file_system_is_left_to_others(directory: Path) -> None:
    store = DiskStore(directory, free_reserve=1 << 60)
    with pytest.raises(DiskFull):
        store.create(KEY, GEOMETRY, ORIGIN)
    store.close()


@contextmanager
def small_file_system(mounted: Path, options: str) -> Iterator[Path]:
    """A file system of 4 MiB, where this user may mount one."""
    mounted.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size=4m,mode=0700{options}", "tmpfs", str(mounted)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=30, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount program here")
    if done.returncode != 0:
        pytest.skip("a tmpfs cannot be mounted here")
    try:
        yield mounted
    finally:
        subprocess.run(["umount", str(mounted)], timeout=30, check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with small_file_system(tmp_path / "small", "") as mounted:
        yield mounted


@contextmanager
def filled_up(directory: Path) -> Iterator[None]:
    """Not a byte is free."""
    path = directory / "filler"
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4 * KiB))
    try:
        yield
    finally:
        path.unlink()


def test_a_claim_of_a_sparse_task_finds_the_disk_full_before_a_byte(small_disk: Path) -> None:
    store = opened(small_disk / "store")
    store.create(KEY, PieceGeometry(100 * MiB, MiB), ORIGIN, sparse=True)
    for taken in range(3):
        store.claim(KEY, PieceNumber(taken)).__exit__(None, None, None)
    with pytest.raises(DiskFull):
        store.claim(KEY, PieceNumber(3))
    assert store.usage().stored == 3 * MiB
    with store.claim(KEY, ONE) as writer:  # which has its room already, on a disk that is full
        writer.write(memoryview(bytes(MiB)))
        writer.commit(parent_id=None, cost=0.0)
    store.close()


def test_a_file_system_out_of_inodes_is_a_full_disk(tmp_path: Path) -> None:
    """Attack 24."""
    with small_file_system(tmp_path / "small", ",nr_inodes=40") as mounted:
        store = opened(mounted / "store")
        keys = [public_task(content_task_id(str(number))) for number in range(40)]
        with suppress(DiskFull):
            for key in keys:
                store.create(key, GEOMETRY, ORIGIN)
        tasks = store.tasks()
        with pytest.raises(DiskFull):
            store.create(keys[-1], GEOMETRY, ORIGIN)
        assert 5 < len(tasks) < 40
        assert store.usage().stored == len(tasks) * len(CONTENT)
        store.delete(tasks[0].key)
        store.create(tasks[0].key, GEOMETRY, ORIGIN)
        store.close()


def test_a_write_that_finds_no_room_leaves_no_piece(small_disk: Path) -> None:
    """As on file systems that copy on write, where room once taken may be gone."""
    store = opened(small_disk / "store")
    store.create(KEY, PieceGeometry(2 * MiB, MiB), ORIGIN)
    data = os.urandom(MiB)
    with store.claim(KEY, ONE) as writer, store.follow_piece(KEY, ONE) as follower:
        writer.restart(is_certain=True)
        writer.write(memoryview(data)[:1000])
        room.give_back(follower.fd, MiB + 4 * KiB, MiB - 4 * KiB)
        with filled_up(small_disk):
            with pytest.raises(DiskFull):
                writer.write(memoryview(data)[1000:])
            assert follower.wait_beyond(0, 0.0) == 1000
            with pytest.raises(PieceLengthMismatch):
                writer.commit(parent_id=None, cost=0.0)
        writer.restart(is_certain=True)
        writer.write(memoryview(data))
        writer.commit(parent_id=None, cost=0.0)
        assert os.pread(follower.fd, MiB, follower.position) == data
    store.close()


def test_an_index_that_finds_no_room_is_written_later(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = opened(small_disk / "store")
    geometry = PieceGeometry(400 * KiB, 400)
    store.create(KEY, geometry, ORIGIN)
    with filled_up(small_disk):
        for number in geometry.numbers():
            with store.claim(KEY, number) as writer:
                writer.write(memoryview(bytes(400)))
                writer.commit(parent_id=None, cost=0.0)
        assert store.finish(KEY).is_finished  # the content is whole; only its record waits
        assert "cannot be written, for now" in caplog.text
        assert store.leaves(KEY, PieceNumber(900)) != b""
    store.close()
    store = opened(small_disk / "store")
    assert [(task.is_finished, len(task.pieces)) for task in store.tasks()] == [(True, 1024)]
    store.close()


def test_the_blocks_of_a_task_are_taken_when_it_is_created(small_disk: Path) -> None:
    store = opened(small_disk / "store")
    store.create(KEY, PieceGeometry(3 * MiB, MiB), ORIGIN)
    other = public_task(content_task_id("another"))
    with pytest.raises(DiskFull):
        store.create(other, PieceGeometry(3 * MiB, MiB), ORIGIN)
    store.delete(KEY)
    store.create(other, PieceGeometry(3 * MiB, MiB), ORIGIN)
    store.close()


def test_a_file_system_that_fills_under_us_is_a_full_disk(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(small_disk / "store")
    room = os.statvfs(small_disk)

    def roomy(path: object) -> os.statvfs_result:
        return os.statvfs_result([*room[:4], 1 << 40, *room[5:]])

    monkeypatch.setattr(os, "statvfs", roomy)  # another process was quicker than our look
    with pytest.raises(DiskFull):
        store.create(KEY, PieceGeometry(64 * MiB, MiB), ORIGIN)
    assert not content_file(small_disk / "store").exists()
    store.close()


def test_a_write_that_fails_is_told_and_nothing_is_kept(directory: Path) -> None:
    """A file size limit stands in for the disk that fails in the middle of a write."""
    store = opened(directory)
    store.create(KEY, GEOMETRY, ORIGIN)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with store.claim(KEY, ONE) as writer:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1500, before[1]))
            try:
                with pytest.raises(StorageError) as caught:
                    writer.write(memoryview(CONTENT)[1000:2000])
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, before)
    finally:
        signal.signal(signal.SIGXFSZ, handler)
    assert os.strerror(errno.EFBIG) in str(caught.value)
    with pytest.raises(PieceNotFound):
        store.open_piece(KEY, ONE)
    write(store, ONE)
    store.close()
    assert numbers(directory) == [1]


# --- descriptors and threads


def test_few_descriptors_serve_many_tasks(directory: Path) -> None:
    store = opened(directory, open_files=4)
    keys = [public_task(content_task_id(f"file {number}")) for number in range(20)]
    before = len(os.listdir("/proc/self/fd"))
    for key in keys:
        store.create(key, GEOMETRY, ORIGIN)
        write(store, ZERO, key)
    assert len(os.listdir("/proc/self/fd")) <= before + 4
    readers = [store.open_piece(key, ZERO) for key in keys]  # more at once than are kept: each stays good
    assert [os.pread(reader.fd, 1000, 0) for reader in readers] == [CONTENT[:1000]] * 20
    for reader in readers:
        reader.__exit__(None, None, None)
    assert len(os.listdir("/proc/self/fd")) <= before + 4
    store.close()
    assert len(os.listdir("/proc/self/fd")) < before


def test_a_closed_store_leaves_no_thread_and_no_descriptor(directory: Path) -> None:
    threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))
    filled(directory, 0, 1, 2)
    assert threading.active_count() == threads
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_isal_and_zlib_agree(tmp_path: Path) -> None:
    import zlib

    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    with path.open("rb") as file:
        assert checksum.crc32_of_file(file.fileno(), 5, 2000) == zlib.crc32(CONTENT[5:2005])
        assert checksum.crc32_of_file(file.fileno(), 1000, 5000) is None
