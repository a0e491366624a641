"""The contract of a TaskStore, run on every implementation: add a maker to STORES and it joins."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from threading import Barrier, Event, Thread
from zlib import crc32

import pytest
from blake3 import blake3

from dragonfly.core.model.ids import TaskId, TaskKey, content_task_id, public_task
from dragonfly.core.model.piece import LEAF_LENGTH, Piece, PieceGeometry, PieceNumber
from dragonfly.core.model.principal import TenantScope
from dragonfly.core.model.ranges import ByteRange
from dragonfly.core.model.units import MiB
from dragonfly.errors import (
    DiskFull,
    PieceDigestMismatch,
    PieceLengthMismatch,
    PieceNotFound,
    StorageError,
    TaskNotFound,
)
from dragonfly.storage.disk import DiskStore
from dragonfly.storage.memory import MemoryStore
from dragonfly.storage.piece_store import PieceStore
from dragonfly.storage.store import OriginFacts, PieceFollower, PieceWriter, TaskStore

DEADLINE = 10.0
PIECE_LENGTH = 1000
CONTENT = os.urandom(2 * PIECE_LENGTH + 345)
GEOMETRY = PieceGeometry(len(CONTENT), PIECE_LENGTH)
ORIGIN = OriginFacts(
    url="http://origin.test/file", tag="t", application="a", etag='"e"', response_header={"Content-Type": "text/plain"}
)
KEY = public_task(content_task_id("a file"))
OTHER = public_task(content_task_id("another file"))
ZERO, ONE, TWO = map(PieceNumber, range(3))
OPEN = PieceGeometry.open(PIECE_LENGTH)
BYTES = os.urandom(2 * LEAF_LENGTH + 77_777)  # a piece of three leaves
LARGE = PieceGeometry(len(BYTES), len(BYTES))
LEAVES = b"".join(bytes(blake3(BYTES[at : at + LEAF_LENGTH]).digest()) for at in range(0, len(BYTES), LEAF_LENGTH))


class FakeTime:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> FakeTime:
    return FakeTime()


def disk_store(directory: Path, clock: FakeTime) -> TaskStore:
    return DiskStore(directory / "store", free_reserve=0, clock=clock)


def memory_store(directory: Path, clock: FakeTime) -> TaskStore:
    return MemoryStore(64 * MiB, clock=clock)


STORES: dict[str, Callable[[Path, FakeTime], TaskStore]] = {"disk": disk_store, "memory": memory_store}


@pytest.fixture(params=STORES.values(), ids=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path, clock: FakeTime) -> Iterator[TaskStore]:
    made = request.param(tmp_path, clock)
    yield made
    made.close()


@pytest.fixture
def task(store: TaskStore) -> TaskKey:
    return store.create(KEY, GEOMETRY, ORIGIN).key


def hash_of(data: bytes) -> bytes:
    return bytes(blake3(data).digest())


def content_of(number: PieceNumber, geometry: PieceGeometry = GEOMETRY) -> bytes:
    span = geometry.span(number)
    return CONTENT[span.start : span.end]


def write(store: TaskStore, key: TaskKey, number: PieceNumber, parent_id: str | None = "parent") -> Piece:
    with store.claim(key, number) as writer:
        writer.write(memoryview(content_of(number)))
        return writer.commit(parent_id=parent_id, cost=0.5)


def put(store: TaskStore, key: TaskKey, number: PieceNumber, data: bytes) -> Piece:
    with store.claim(key, number) as writer:
        writer.write(memoryview(data))
        return writer.commit(parent_id=None, cost=0.0)


def write_all(store: TaskStore, key: TaskKey) -> None:
    for number in GEOMETRY.numbers():
        write(store, key, number)


def read(store: TaskStore, key: TaskKey, number: PieceNumber, wait: float = 0.0) -> bytes:
    with store.open_piece(key, number, wait=wait) as reader:
        return os.pread(reader.fd, reader.piece.length, reader.position)


def test_a_task_just_created_has_no_pieces_and_is_not_finished(store: TaskStore, task: TaskKey) -> None:
    stored = store.get(task)
    assert stored is not None
    assert (stored.geometry, stored.origin, list(stored.pieces)) == (GEOMETRY, ORIGIN, [])
    assert stored.created_at == 1_700_000_000.0
    assert not stored.is_finished
    assert store.pieces(task) == []


def test_a_task_is_found_by_the_id_others_name_it_by(store: TaskStore) -> None:
    private = TaskKey(TenantScope("tenant"), TaskId(KEY.task_id))
    store.create(KEY, GEOMETRY, ORIGIN)
    store.create(private, GEOMETRY, ORIGIN)
    assert store.find(KEY.wire_id) == KEY
    assert store.find(private.wire_id) == private
    assert store.find("0" * 64) is None


def test_a_task_cannot_be_created_twice(store: TaskStore, task: TaskKey) -> None:
    with pytest.raises(FileExistsError):
        store.create(task, GEOMETRY, ORIGIN)


def test_of_many_who_create_a_task_at_once_one_does(store: TaskStore) -> None:
    barrier, outcomes = Barrier(8), list[str]()

    def create() -> None:
        barrier.wait(DEADLINE)
        try:
            store.create(KEY, GEOMETRY, ORIGIN)
            outcomes.append("created")
        except FileExistsError:
            outcomes.append("exists" if store.get(KEY) else "nothing there")

    run_all([create] * 8)
    assert sorted(outcomes) == ["created"] + ["exists"] * 7


def test_a_committed_piece_is_read_back_with_its_facts(store: TaskStore, task: TaskKey) -> None:
    piece = write(store, task, TWO)
    leaves = hash_of(CONTENT[2000:])
    assert piece == Piece(TWO, 2000, 345, f"crc32:{crc32(CONTENT[2000:])}", "parent", 0.5, hash_of(leaves), leaves)
    assert read(store, task, TWO) == CONTENT[2000:]
    assert store.pieces(task) == [replace(piece, leaves=b"")]
    assert store.leaves(task, TWO) == leaves
    stored = store.get(task)
    assert stored is not None
    assert list(stored.pieces) == [TWO]


def test_pieces_are_told_by_number(store: TaskStore, task: TaskKey) -> None:
    for number in (TWO, ZERO, ONE):
        write(store, task, number)
    assert [piece.number for piece in store.pieces(task)] == [0, 1, 2]


def test_a_piece_may_come_in_parts_of_any_size(store: TaskStore, task: TaskKey) -> None:
    with store.claim(task, ONE) as writer:
        rest = memoryview(content_of(ONE))
        for size in (1, 0, 7, 500, 492):
            writer.write(rest[:size])
            rest = rest[size:]
            assert writer.remaining == len(rest)
        assert (writer.number, writer.offset, writer.length) == (ONE, 1000, 1000)
        writer.commit(parent_id=None, cost=0.0)
    assert read(store, task, ONE) == content_of(ONE)


def test_a_piece_does_not_exist_before_its_commit(store: TaskStore, task: TaskKey) -> None:
    with store.claim(task, ZERO) as writer:
        writer.write(memoryview(content_of(ZERO)))
        with pytest.raises(PieceNotFound):
            store.open_piece(task, ZERO)
        assert store.pieces(task) == []


def test_a_claim_left_without_a_commit_is_given_back(store: TaskStore, task: TaskKey) -> None:
    with store.claim(task, ZERO) as writer:
        writer.write(memoryview(b"half"))
    assert store.pieces(task) == []
    write(store, task, ZERO)
    assert read(store, task, ZERO) == content_of(ZERO)


def test_a_piece_has_one_writer_and_is_written_once(store: TaskStore, task: TaskKey) -> None:
    with store.claim(task, ZERO) as writer:
        with pytest.raises(FileExistsError):
            store.claim(task, ZERO)
        writer.write(memoryview(content_of(ZERO)))
        writer.commit(parent_id=None, cost=0.0)
    with pytest.raises(FileExistsError):
        store.claim(task, ZERO)


def test_of_many_who_claim_a_piece_at_once_one_does(store: TaskStore, task: TaskKey) -> None:
    barrier, done, claimed = Barrier(8), Event(), list[bool]()

    def claim() -> None:
        barrier.wait(DEADLINE)
        try:
            with store.claim(task, ZERO):
                claimed.append(True)
                done.wait(DEADLINE)
        except FileExistsError:
            claimed.append(False)
        if len(claimed) == 8:
            done.set()

    run_all([claim] * 8)
    assert sorted(claimed) == [False] * 7 + [True]


def test_a_writer_that_restarts_begins_anew(store: TaskStore, task: TaskKey) -> None:
    with store.claim(task, ZERO) as writer:
        writer.write(memoryview(b"wrong" * 100))
        writer.restart()
        assert writer.remaining == PIECE_LENGTH
        writer.write(memoryview(content_of(ZERO)))
        writer.commit(parent_id=None, cost=0.0)
    assert read(store, task, ZERO) == content_of(ZERO)


def test_bytes_beyond_the_piece_are_refused(store: TaskStore, task: TaskKey) -> None:
    write(store, task, ONE)
    with store.claim(task, ZERO) as writer, pytest.raises(PieceLengthMismatch):
        writer.write(memoryview(content_of(ZERO) + b"x"))
    assert read(store, task, ONE) == content_of(ONE)


def test_a_short_piece_is_not_committed(store: TaskStore, task: TaskKey) -> None:
    with store.claim(task, ZERO) as writer:
        writer.write(memoryview(b"short"))
        with pytest.raises(PieceLengthMismatch) as caught:
            writer.commit(parent_id=None, cost=0.0)
    assert caught.value.facts == {"number": 0, "got": 5, "expected": 1000}
    assert store.pieces(task) == []


@pytest.mark.parametrize(
    "expected",
    ["crc32:1", "sha256:" + "0" * 64, "md5:1", "nonsense", "crc32:" + "9" * 5000],
    ids=lambda text: text[:10],
)
def test_a_piece_of_another_digest_is_not_committed(store: TaskStore, task: TaskKey, expected: str) -> None:
    """Attack 27: nobody talks us into another algorithm."""
    with store.claim(task, ZERO) as writer:
        writer.write(memoryview(content_of(ZERO)))
        with pytest.raises(PieceDigestMismatch):
            writer.commit(parent_id=None, cost=0.0, expected_digest=expected)
    assert store.pieces(task) == []


def test_the_expected_digest_may_be_padded(store: TaskStore, task: TaskKey) -> None:
    with store.claim(task, ZERO) as writer:
        writer.write(memoryview(content_of(ZERO)))
        padded = f"crc32:{crc32(content_of(ZERO)):010d}"
        assert writer.commit(parent_id=None, cost=0.0, expected_digest=padded).digest == f"crc32:{int(padded[6:])}"


@pytest.mark.parametrize("number", [-1, 3, 2**32 - 1])
def test_a_number_the_task_does_not_have_is_not_found(store: TaskStore, task: TaskKey, number: int) -> None:
    with pytest.raises(PieceNotFound):
        store.open_piece(task, PieceNumber(number), wait=DEADLINE)
    with pytest.raises(PieceNotFound):
        store.claim(task, PieceNumber(number))


def test_a_task_that_is_not_stored_is_not_found(store: TaskStore) -> None:
    asking: tuple[Callable[[], object], ...] = (
        lambda: store.pieces(KEY),
        lambda: store.claim(KEY, ZERO),
        lambda: store.open_piece(KEY, ZERO),
        lambda: store.finish(KEY),
        lambda: store.content_path(KEY),
    )
    for ask in asking:
        with pytest.raises(TaskNotFound):
            ask()
    assert store.get(KEY) is None
    store.delete(KEY)


def test_a_reader_waits_for_a_piece_in_flight(store: TaskStore, task: TaskKey) -> None:
    received = list[bytes]()
    with store.claim(task, ZERO) as writer:
        waiters = [Thread(target=lambda: received.append(read(store, task, ZERO, wait=DEADLINE))) for _ in range(4)]
        for waiter in waiters:
            waiter.start()
        writer.write(memoryview(content_of(ZERO)))
        writer.commit(parent_id=None, cost=0.0)
        for waiter in waiters:  # told by the commit, not by the end of the claim
            waiter.join(DEADLINE)
    assert received == [content_of(ZERO)] * 4


def test_a_reader_gives_up_when_the_wait_is_over(store: TaskStore, task: TaskKey) -> None:
    with store.claim(task, ZERO), pytest.raises(PieceNotFound):
        store.open_piece(task, ZERO, wait=0.01)


def test_a_reader_waiting_for_a_claim_that_fails_is_told_at_once(store: TaskStore, task: TaskKey) -> None:
    assert_waiter_fails(store, task, lambda: None, PieceNotFound)


def test_a_reader_waiting_when_the_task_is_deleted_is_told_at_once(store: TaskStore, task: TaskKey) -> None:
    assert_waiter_fails(store, task, lambda: store.delete(task), TaskNotFound)


def assert_waiter_fails(store: TaskStore, task: TaskKey, end: Callable[[], None], error: type[Exception]) -> None:
    outcome = list[type[Exception]]()

    def wait() -> None:
        try:
            store.open_piece(task, ZERO, wait=600.0)
        except Exception as caught:
            outcome.append(type(caught))

    waiter = Thread(target=wait)
    with store.claim(task, ZERO):
        waiter.start()
        end()
    waiter.join(DEADLINE)
    assert outcome == [error]


def test_a_finished_task_says_when_and_holds_the_whole_content(
    store: TaskStore, task: TaskKey, clock: FakeTime
) -> None:
    write_all(store, task)
    clock.now += 5
    finished = store.finish(task)
    assert (finished.finished_at, finished.updated_at, finished.created_at) == (clock.now, clock.now, clock.now - 5)
    assert store.content_path(task).read_bytes() == CONTENT
    assert [read(store, task, number) for number in GEOMETRY.numbers()] == [
        CONTENT[i : i + 1000] for i in (0, 1000, 2000)
    ]


def test_finishing_twice_changes_nothing(store: TaskStore, task: TaskKey, clock: FakeTime) -> None:
    write_all(store, task)
    first = store.finish(task)
    clock.now += 5
    assert store.finish(task) == first


def test_a_task_with_missing_pieces_cannot_be_finished(store: TaskStore, task: TaskKey) -> None:
    write(store, task, ZERO)
    with pytest.raises(StorageError):
        store.finish(task)


def test_an_unfinished_task_has_no_content_path(store: TaskStore, task: TaskKey) -> None:
    with pytest.raises(TaskNotFound):
        store.content_path(task)


def test_an_empty_file_is_a_task_without_pieces(store: TaskStore) -> None:
    store.create(KEY, PieceGeometry(0, PIECE_LENGTH), ORIGIN)
    assert store.finish(KEY).is_finished
    assert store.content_path(KEY).read_bytes() == b""
    with pytest.raises(PieceNotFound):
        store.open_piece(KEY, ZERO)


def test_reading_a_piece_counts_as_use(store: TaskStore, task: TaskKey, clock: FakeTime) -> None:
    write(store, task, ZERO)
    clock.now += 60
    read(store, task, ZERO)
    stored = store.get(task)
    assert stored is not None
    assert stored.updated_at == clock.now


def test_tasks_are_listed_oldest_first(store: TaskStore, clock: FakeTime) -> None:
    keys = [public_task(content_task_id(name)) for name in ("b", "a", "c")]
    for key in keys:
        store.create(key, GEOMETRY, ORIGIN)
        clock.now += 1
    assert [stored.key for stored in store.tasks()] == keys


def test_a_snapshot_does_not_follow_the_task(store: TaskStore, task: TaskKey) -> None:
    before = store.get(task)
    assert before is not None
    write(store, task, ZERO)
    assert list(before.pieces) == []


def test_a_deleted_task_is_gone_but_open_readers_keep_it(store: TaskStore, task: TaskKey) -> None:
    """Attack 24."""
    write(store, task, ZERO)
    with store.open_piece(task, ZERO) as reader:
        store.delete(task)
        assert os.pread(reader.fd, reader.piece.length, reader.position) == content_of(ZERO)
        with pytest.raises(TaskNotFound):
            store.open_piece(task, ZERO)
    assert store.tasks() == []
    assert store.find(task.wire_id) is None


def test_a_writer_cannot_commit_into_a_task_made_anew(store: TaskStore, task: TaskKey) -> None:
    with store.claim(task, ZERO) as writer:
        writer.write(memoryview(content_of(ZERO)))
        store.delete(task)
        store.create(task, GEOMETRY, ORIGIN)
        with pytest.raises(TaskNotFound):
            writer.commit(parent_id=None, cost=0.0)
    assert store.pieces(task) == []
    write(store, task, ZERO)
    assert read(store, task, ZERO) == content_of(ZERO)


def test_a_reader_may_be_left_twice(store: TaskStore, task: TaskKey) -> None:
    write(store, task, ZERO)
    reader = store.open_piece(task, ZERO)
    with reader:
        pass
    reader.__exit__(None, None, None)
    assert read(store, task, ZERO) == content_of(ZERO)


# --- sparse tasks, and tasks whose length nobody knows yet


def test_a_sparse_task_takes_room_for_the_pieces_it_has(store: TaskStore) -> None:
    store.create(KEY, PieceGeometry(1 << 40, MiB), ORIGIN, sparse=True)
    assert store.usage().stored == 0
    put(store, KEY, PieceNumber((1 << 20) - 1), os.urandom(MiB))
    with store.claim(KEY, ZERO):
        assert store.usage().stored == 2 * MiB
    assert [task.room for task in store.tasks()] == [2 * MiB]  # kept for whoever claims it next
    with store.claim(KEY, ZERO):
        assert store.usage().stored == 2 * MiB


@pytest.mark.parametrize("geometry", [PieceGeometry(1 << 43, 1 << 42), PieceGeometry(1 << 62, 1 << 42, is_open=True)])
def test_a_claim_without_room_is_refused_before_a_byte(store: TaskStore, geometry: PieceGeometry) -> None:
    """Attack 23."""
    store.create(KEY, geometry, ORIGIN, sparse=True)
    for _ in range(2):  # and leaves nothing behind that would be in the way
        with pytest.raises(DiskFull) as caught:
            store.claim(KEY, ZERO)
        assert caught.value.facts["needed"] == 1 << 42
    assert store.usage().stored == 0
    assert store.evict(KEY) == 0
    assert store.tasks() == []


def test_a_whole_task_takes_its_room_when_it_is_made(store: TaskStore, task: TaskKey) -> None:
    assert (store.usage().stored, store.usage().task_count) == (len(CONTENT), 1)
    with pytest.raises(DiskFull):
        store.create(OTHER, PieceGeometry.of(1 << 46), ORIGIN)
    assert (store.usage().stored, store.usage().task_count) == (len(CONTENT), 1)
    assert store.get(OTHER) is None


def test_parts_of_an_unfinished_task_are_found_at_their_place(store: TaskStore) -> None:
    store.create(KEY, GEOMETRY, ORIGIN, sparse=True)
    for number in (ONE, TWO):
        write(store, KEY, number)
    with store.pin(KEY):
        path = store.content_path(KEY, ByteRange(1000, 1345))
        assert path.read_bytes()[1000:] == CONTENT[1000:]
    assert store.content_path(KEY, ByteRange(2344, 5)) == path
    for span in (ByteRange(999, 2), ByteRange(0, 2345), None):
        with pytest.raises(TaskNotFound):
            store.content_path(KEY, span)


def test_a_part_of_a_task_of_unknown_length_is_found_once_it_is_here(store: TaskStore) -> None:
    store.create(KEY, OPEN, ORIGIN)
    write(store, KEY, ONE)
    assert store.content_path(KEY, ByteRange(1500, 500)).read_bytes()[1000:2000] == content_of(ONE)
    for span in (ByteRange(1500, 501), ByteRange(0, 1 << 60)):
        with pytest.raises(TaskNotFound):
            store.content_path(KEY, span)


def test_a_task_of_unknown_length_grows_until_its_length_is_settled(store: TaskStore) -> None:
    store.create(KEY, OPEN, ORIGIN)
    for number in (ONE, ZERO):
        write(store, KEY, number)
    with pytest.raises(StorageError):
        store.finish(KEY)
    with store.claim(KEY, TWO) as writer:
        writer.write(memoryview(CONTENT)[2000:])
        assert writer.remaining == 655
        settled = store.settle_length(KEY, len(CONTENT))
        assert (writer.length, writer.remaining) == (345, 0)
        piece = writer.commit(parent_id=None, cost=0.0)
    assert settled.geometry == GEOMETRY
    assert (piece.length, piece.leaves) == (345, hash_of(CONTENT[2000:]))
    assert store.finish(KEY).is_finished
    assert store.content_path(KEY).read_bytes() == CONTENT
    assert store.usage().stored == len(CONTENT)


def test_settling_the_same_length_again_changes_nothing(store: TaskStore) -> None:
    store.create(KEY, OPEN, ORIGIN)
    settled = store.settle_length(KEY, 2345)
    assert store.settle_length(KEY, 2345) == settled
    with pytest.raises(StorageError):
        store.settle_length(KEY, 2346)
    with pytest.raises(TaskNotFound):
        store.settle_length(OTHER, 0)


@pytest.mark.parametrize("length", [0, 1000, 1999])
def test_a_length_that_would_cut_pieces_off_is_refused(store: TaskStore, length: int) -> None:
    store.create(KEY, OPEN, ORIGIN)
    write(store, KEY, ONE)
    with pytest.raises(StorageError):
        store.settle_length(KEY, length)
    assert store.settle_length(KEY, 2000).geometry.piece_count == 2


def test_a_claim_behind_the_end_comes_to_nothing(store: TaskStore) -> None:
    store.create(KEY, OPEN, ORIGIN)
    write(store, KEY, ZERO)
    with store.claim(KEY, ONE) as writer, store.claim(KEY, TWO) as started:
        started.write(memoryview(CONTENT)[:500])
        with store.follow_piece(KEY, TWO) as follower:
            store.settle_length(KEY, 1000)
            with pytest.raises(PieceNotFound):
                follower.wait_beyond(0, DEADLINE)
        for behind in (writer, started):
            with pytest.raises(PieceLengthMismatch):
                behind.write(memoryview(b"x"))
            with pytest.raises(PieceNotFound):
                behind.commit(parent_id=None, cost=0.0)
    assert store.finish(KEY).is_finished
    assert store.content_path(KEY).read_bytes() == CONTENT[:1000]
    assert store.usage().stored == 1000


def test_nothing_at_all_is_an_empty_file(store: TaskStore) -> None:
    store.create(KEY, OPEN, replace(ORIGIN, tells_length=False, is_private=True))
    with store.claim(KEY, ZERO):
        store.settle_length(KEY, 0)
    finished = store.finish(KEY)
    assert store.content_path(KEY).read_bytes() == b""
    assert (finished.version.content_length, finished.origin.is_private) == (None, True)
    assert store.usage().stored == 0


# --- leaves


@pytest.mark.parametrize("sizes", [[LEAF_LENGTH], [1 << 20], [7, 300_000], [LEAF_LENGTH - 1, 1], [100_000]])
def test_a_pieces_root_is_the_hash_of_its_leaves_hashes_however_it_came(store: TaskStore, sizes: list[int]) -> None:
    store.create(KEY, LARGE, ORIGIN)
    leaves = b"".join(hash_of(BYTES[at : at + LEAF_LENGTH]) for at in range(0, len(BYTES), LEAF_LENGTH))
    with store.claim(KEY, ZERO) as writer:
        rest, turns = memoryview(BYTES), cycle(sizes)
        while rest:
            size = next(turns)
            writer.write(rest[:size])
            rest = rest[size:]
        piece = writer.commit(parent_id=None, cost=0.0, root=hash_of(leaves))
    assert (piece.leaves, piece.root) == (leaves, hash_of(leaves))
    assert store.leaves(KEY, ZERO) == leaves
    assert [piece.root for piece in store.pieces(KEY)] == [hash_of(leaves)]
    with store.open_piece(KEY, ZERO) as reader:
        assert reader.piece.root == hash_of(leaves)


def test_a_piece_of_another_root_is_not_committed(store: TaskStore, task: TaskKey) -> None:
    """Attack 26: right checksum, wrong content."""
    with store.claim(task, ZERO) as writer:
        writer.write(memoryview(content_of(ZERO)))
        with pytest.raises(PieceDigestMismatch):
            writer.commit(parent_id=None, cost=0.0, root=hash_of(b"another"))
    assert store.pieces(task) == []


def test_a_wrong_leaf_is_noticed_when_it_is_full(store: TaskStore) -> None:
    store.create(KEY, LARGE, ORIGIN)
    with store.claim(KEY, ZERO) as writer:
        writer.restart(leaves=LEAVES)
        writer.write(memoryview(BYTES)[:LEAF_LENGTH])
        wrong = bytearray(BYTES[LEAF_LENGTH : 2 * LEAF_LENGTH])
        wrong[77] ^= 1
        writer.write(memoryview(wrong)[:-1])
        with pytest.raises(PieceDigestMismatch):
            writer.write(memoryview(wrong)[-1:])
        with pytest.raises(ValueError, match="restart"):
            writer.write(memoryview(b"more"))
        with pytest.raises(PieceLengthMismatch):
            writer.commit(parent_id=None, cost=0.0)
        writer.restart(leaves=LEAVES)
        writer.write(memoryview(BYTES))
        writer.commit(parent_id=None, cost=0.0)
    assert read(store, KEY, ZERO) == BYTES


@pytest.mark.parametrize("change", [32, -32, 1])
def test_leaves_that_are_not_as_many_as_the_piece_has_are_refused(store: TaskStore, change: int) -> None:
    store.create(KEY, LARGE, ORIGIN)
    with store.claim(KEY, ZERO) as writer, pytest.raises(PieceDigestMismatch):
        writer.restart(leaves=(LEAVES + LEAVES)[: len(LEAVES) + change])


def test_leaves_are_those_of_a_piece_that_is_here(store: TaskStore, task: TaskKey) -> None:
    with pytest.raises(PieceNotFound):
        store.leaves(task, ZERO)
    with pytest.raises(TaskNotFound):
        store.leaves(OTHER, ZERO)
    write(store, task, ZERO)
    store.delete(task)
    store.create(task, GEOMETRY, ORIGIN)
    with pytest.raises(PieceNotFound):
        store.leaves(task, ZERO)


# --- followers


@pytest.fixture
def large(store: TaskStore) -> TaskKey:
    return store.create(KEY, LARGE, ORIGIN).key


def followed(follower: PieceFollower, count: int) -> bytes:
    return os.pread(follower.fd, count, follower.position)


def test_bytes_of_the_origin_are_followed_as_they_come(store: TaskStore, large: TaskKey) -> None:
    with store.claim(large, ZERO) as writer, store.follow_piece(large, ZERO) as follower:
        writer.restart(is_certain=True)
        assert (follower.number, follower.position, follower.length) == (ZERO, 0, len(BYTES))
        assert follower.wait_beyond(0, 0.0) == 0
        for end in (1, 100, LEAF_LENGTH, LEAF_LENGTH + 5):
            writer.write(memoryview(BYTES)[end - writer_gap(writer, end) : end])
            assert follower.wait_beyond(end - 1, DEADLINE) == end
            assert followed(follower, end) == BYTES[:end]


def writer_gap(writer: PieceWriter, end: int) -> int:
    return end - (writer.length - writer.remaining)


def test_bytes_of_a_parent_are_followed_leaf_by_leaf(store: TaskStore, large: TaskKey) -> None:
    with store.claim(large, ZERO) as writer, store.follow_piece(large, ZERO) as follower:
        writer.restart(leaves=LEAVES, digest="crc32:7")
        assert follower.digest == "crc32:7"
        seen = []
        for at in range(0, len(BYTES), 100_000):
            writer.write(memoryview(BYTES)[at : at + 100_000])
            seen.append(follower.wait_beyond(0, 0.0))
        assert seen == [0, 0, LEAF_LENGTH, LEAF_LENGTH, LEAF_LENGTH, 2 * LEAF_LENGTH, len(BYTES)]


def test_bytes_of_a_parent_without_hashes_are_followed_after_the_commit(store: TaskStore, large: TaskKey) -> None:
    with store.claim(large, ZERO) as writer, store.follow_piece(large, ZERO) as follower:
        writer.restart(digest="crc32:1")
        writer.write(memoryview(BYTES))
        assert follower.wait_beyond(0, 0.01) == 0
        piece = writer.commit(parent_id="parent", cost=0.0)
        assert follower.wait_beyond(0, DEADLINE) == len(BYTES)
        assert follower.digest == piece.digest
        assert followed(follower, len(BYTES)) == BYTES


@pytest.mark.parametrize("how", [{"is_certain": True}, {"leaves": LEAVES}], ids=["from the origin", "from a parent"])
def test_a_piece_may_be_read_to_its_end_before_its_commit(
    store: TaskStore, large: TaskKey, how: dict[str, object]
) -> None:
    with store.claim(large, ZERO) as writer, store.follow_piece(large, ZERO) as follower:
        writer.restart(**how)  # type: ignore[arg-type]  # the options of two cases
        writer.write(memoryview(BYTES))
        assert follower.wait_beyond(0, 0.0) == len(BYTES)
        assert store.pieces(large) == []


def test_who_waits_beyond_the_end_of_a_piece_is_told_of_its_commit(store: TaskStore, large: TaskKey) -> None:
    told = list[int]()
    with store.claim(large, ZERO) as writer, store.follow_piece(large, ZERO) as follower:
        writer.restart(is_certain=True)
        writer.write(memoryview(BYTES))
        waiting = Thread(target=lambda: told.append(follower.wait_beyond(len(BYTES), 600.0)))
        waiting.start()
        writer.commit(parent_id=None, cost=0.0)
        waiting.join(DEADLINE)
        assert told == [len(BYTES)]


def test_followers_are_woken_by_the_writer(store: TaskStore, large: TaskKey) -> None:
    received = list[bytes]()

    def follow() -> None:
        with store.follow_piece(large, ZERO, wait=DEADLINE) as follower:
            count, read = 0, b""
            while count < follower.length:
                upto = follower.wait_beyond(count, DEADLINE)
                read += os.pread(follower.fd, upto - count, count)
                count = upto
            received.append(read)

    followers = [Thread(target=follow) for _ in range(8)]
    for follower in followers[:4]:  # these wait for the claim, the others come when they come
        follower.start()
    with store.claim(large, ZERO) as writer:
        writer.restart(leaves=LEAVES)
        for at in range(0, len(BYTES), 50_000):
            writer.write(memoryview(BYTES)[at : at + 50_000])
            if at == 300_000:
                for follower in followers[4:]:
                    follower.start()
        writer.commit(parent_id="parent", cost=0.0)
    for follower in followers:
        follower.join(DEADLINE)
    assert [data == BYTES for data in received] == [True] * 8


def test_a_piece_that_is_here_is_followed_to_its_end_at_once(store: TaskStore, task: TaskKey) -> None:
    piece = write(store, task, TWO)
    with store.follow_piece(task, TWO) as follower:
        assert (follower.wait_beyond(0, 0.0), follower.length, follower.digest) == (345, 345, piece.digest)
        assert follower.wait_beyond(345, 600.0) == 345
        store.delete(task)
        assert followed(follower, 345) == CONTENT[2000:]
        assert follower.wait_beyond(0, 0.0) == 345


def test_a_piece_nobody_writes_is_not_followed(store: TaskStore, task: TaskKey) -> None:
    for wait in (0.0, 0.01):
        with pytest.raises(PieceNotFound):
            store.follow_piece(task, ZERO, wait=wait)
    with pytest.raises(PieceNotFound):
        store.follow_piece(task, PieceNumber(3), wait=DEADLINE)
    with pytest.raises(TaskNotFound):
        store.follow_piece(OTHER, ZERO, wait=DEADLINE)
    assert store.evict(task) == len(CONTENT)  # and nobody is left counted as using it


def test_a_follower_whose_writer_gave_up_is_told(store: TaskStore, large: TaskKey) -> None:
    writer = store.claim(large, ZERO)
    with store.follow_piece(large, ZERO) as follower:
        writer.restart(is_certain=True)
        writer.write(memoryview(BYTES)[:100])
        writer.__exit__(None, None, None)
        assert follower.wait_beyond(99, DEADLINE) == 100  # what was certain still is
        with pytest.raises(PieceNotFound):
            follower.wait_beyond(100, 0.01)
    with pytest.raises(PieceNotFound):
        store.follow_piece(large, ZERO)


def test_another_writer_goes_on_where_readers_are(store: TaskStore, large: TaskKey) -> None:
    """The watermark never falls, and what it covers is never written again."""
    first = store.claim(large, ZERO)
    with store.follow_piece(large, ZERO) as follower:
        first.restart(is_certain=True)
        first.write(memoryview(BYTES)[:300_000])
        first.__exit__(None, None, None)
        with store.claim(large, ZERO) as second:
            second.restart(leaves=LEAVES)
            assert follower.wait_beyond(0, 0.0) == 300_000
            second.write(memoryview(BYTES)[:LEAF_LENGTH])
            assert follower.wait_beyond(0, 0.0) == 300_000
            second.write(memoryview(BYTES)[LEAF_LENGTH:])
            assert follower.wait_beyond(300_000, DEADLINE) == len(BYTES)
            second.commit(parent_id="second", cost=0.0)
        assert followed(follower, len(BYTES)) == BYTES
    assert read(store, large, ZERO) == BYTES


@pytest.mark.parametrize("leaves", [True, False], ids=["leaf by leaf", "unproven"])
def test_a_writer_that_brings_other_bytes_does_not_reach_readers(
    store: TaskStore, large: TaskKey, leaves: bool
) -> None:
    other = BYTES[:1000] + bytes([BYTES[1000] ^ 1]) + BYTES[1001:]
    with store.claim(large, ZERO) as writer, store.follow_piece(large, ZERO) as follower:
        writer.restart(is_certain=True)
        writer.write(memoryview(BYTES)[:2000])
        writer.restart(leaves=LEAVES if leaves else b"")
        with pytest.raises(PieceDigestMismatch):
            writer.write(memoryview(other))
        assert follower.wait_beyond(0, 0.0) == 2000
        assert followed(follower, 2000) == BYTES[:2000]
        with pytest.raises(PieceLengthMismatch):
            writer.commit(parent_id="liar", cost=0.0)


def test_without_readers_another_writer_may_bring_what_it_likes(store: TaskStore, large: TaskKey) -> None:
    with store.claim(large, ZERO) as writer:
        writer.restart(is_certain=True)
        writer.write(memoryview(b"?" * 2000))
        writer.restart(is_certain=True)
        with store.follow_piece(large, ZERO) as follower:
            assert follower.wait_beyond(0, 0.0) == 0
            writer.write(memoryview(BYTES))
            writer.commit(parent_id=None, cost=0.0)
            assert followed(follower, follower.wait_beyond(0, 0.0)) == BYTES


def test_deleting_a_task_ends_those_who_follow_what_does_not_come(store: TaskStore, task: TaskKey) -> None:
    outcome = list[type[Exception]]()

    def follow(number: PieceNumber) -> None:
        try:
            with store.follow_piece(task, number, wait=600.0) as follower:
                follower.wait_beyond(0, 600.0)
        except Exception as error:
            outcome.append(type(error))

    with store.claim(task, ZERO):
        followers = [Thread(target=follow, args=(number,)) for number in (ZERO, ONE)]
        for follower in followers:
            follower.start()
        while not is_used_by(store, task, 2):
            pass
        store.delete(task)
        for follower in followers:
            follower.join(DEADLINE)
    assert sorted(error.__name__ for error in outcome) == ["PieceNotFound", "TaskNotFound"]


def is_used_by(store: TaskStore, key: TaskKey, followers: int) -> bool:
    """Whether so many follow it besides one writer; no question of the contract, so the table is looked at."""
    assert isinstance(store, PieceStore)
    return store._tasks[key].users == followers + 1


def test_nothing_is_written_into_a_piece_after_its_commit(store: TaskStore, task: TaskKey) -> None:
    with store.claim(task, ZERO) as writer:
        writer.write(memoryview(content_of(ZERO)))
        writer.commit(parent_id=None, cost=0.0)
        for act in (
            writer.restart,
            lambda: writer.write(memoryview(b"")),
            lambda: writer.commit(parent_id=None, cost=0.0),
        ):
            with pytest.raises(ValueError, match="given back"):
                act()
    assert read(store, task, ZERO) == content_of(ZERO)


# --- use and eviction


def test_a_task_nobody_uses_is_evicted_and_says_what_that_gave_back(store: TaskStore, task: TaskKey) -> None:
    write_all(store, task)
    store.finish(task)
    assert store.evict(task) == len(CONTENT)
    assert store.evict(task) == 0
    assert (store.usage().stored, store.usage().task_count, store.get(task)) == (0, 0, None)


@pytest.mark.parametrize(
    "use",
    [
        lambda store: store.claim(KEY, ONE),
        lambda store: store.open_piece(KEY, ZERO),
        lambda store: store.follow_piece(KEY, ZERO),
        lambda store: store.pin(KEY),
    ],
    ids=["claimed", "read", "followed", "pinned"],
)
def test_a_task_in_use_is_not_evicted(
    store: TaskStore, task: TaskKey, use: Callable[[TaskStore], AbstractContextManager[object]]
) -> None:
    """Attack 24, invariant I3."""
    write(store, task, ZERO)
    with use(store):
        assert [stored.is_in_use for stored in store.tasks()] == [True]
        assert store.evict(task) == 0
        assert store.get(task) is not None
    assert [stored.is_in_use for stored in store.tasks()] == [False]
    assert store.evict(task) == len(CONTENT)


def test_a_task_that_is_not_stored_cannot_be_pinned(store: TaskStore) -> None:
    with pytest.raises(TaskNotFound), store.pin(KEY):
        pass


def test_following_a_piece_and_asking_for_the_file_count_as_use(
    store: TaskStore, task: TaskKey, clock: FakeTime
) -> None:
    write_all(store, task)
    store.finish(task)
    uses: tuple[Callable[[], object], ...] = (
        lambda: store.follow_piece(task, ZERO).__exit__(None, None, None),
        lambda: store.content_path(task),
        lambda: store.content_path(task, ByteRange(0, 1)),
    )
    for use in uses:
        clock.now += 60
        use()
        assert [stored.updated_at for stored in store.tasks()] == [clock.now]
    clock.now += 60
    store.cool(task)
    assert [stored.updated_at for stored in store.tasks()] == [clock.now - 60]
    assert read(store, task, ONE) == content_of(ONE)
    store.cool(OTHER)


def test_what_is_left_counts_down_as_tasks_come(store: TaskStore) -> None:
    before = store.usage()
    assert 0 < before.free <= before.capacity
    store.create(KEY, PieceGeometry(16 * MiB, MiB), ORIGIN)
    assert store.usage().free <= before.free - 15 * MiB


def test_readers_writers_and_deleters_never_see_each_others_bytes(store: TaskStore) -> None:
    """Attack 24: whatever is read under a key has the bytes the key was made with."""
    keys = [public_task(content_task_id(f"churn {number}")) for number in range(3)]
    wrong, stop = list[object](), Event()

    def churn(key: TaskKey) -> None:
        for _ in range(40):
            try:
                store.create(key, GEOMETRY, ORIGIN)
                write_all(store, key)
                store.finish(key)
            except (FileExistsError, StorageError):  # the other one was quicker, or deleted it under us
                pass
            store.delete(key)

    def look() -> None:
        while not stop.is_set():
            for key in keys:
                try:
                    if read(store, key, ONE) != content_of(ONE):
                        wrong.append(key)
                except (TaskNotFound, PieceNotFound):
                    pass
                except BaseException as error:
                    wrong.append(error)
                    raise

    readers = [Thread(target=look) for _ in range(2)]
    for reader in readers:
        reader.start()
    run_all([lambda key=key: churn(key) for key in keys for _ in range(2)])
    stop.set()
    for reader in readers:
        reader.join(DEADLINE)
    assert wrong == []


def run_all(actions: list[Callable[[], None]]) -> None:
    threads = [Thread(target=action) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE * 3)
    assert not any(thread.is_alive() for thread in threads)


# --- pieces that are looked at again


def spoil(store: TaskStore, key: TaskKey, number: PieceNumber, data: bytes) -> None:
    """Other bytes where a piece lies, past the store; its file keeps the size and the time it had."""
    with store.open_piece(key, number) as reader:
        facts = os.fstat(reader.fd)
        os.pwrite(reader.fd, data, reader.position)
        os.utime(reader.fd, ns=(facts.st_atime_ns, facts.st_mtime_ns))


@pytest.mark.parametrize("is_finished", [False, True])
def test_only_a_piece_whose_bytes_changed_is_not_intact(store: TaskStore, task: TaskKey, is_finished: bool) -> None:
    write_all(store, task)
    if is_finished:
        store.finish(task)
    assert all(store.is_intact(task, number) for number in (ZERO, ONE, TWO))
    spoil(store, task, ONE, bytes([content_of(ONE)[0] ^ 1]))
    assert [store.is_intact(task, number) for number in (ZERO, ONE, TWO)] == [True, False, True]


def test_other_bytes_with_the_right_checksum_are_not_intact(store: TaskStore) -> None:
    """Attack 32, by somebody who can calculate."""
    key = store.create(KEY, LARGE, ORIGIN).key
    put(store, key, ZERO, BYTES)
    other = with_checksum_of(BYTES)
    assert crc32(other) == crc32(BYTES)
    spoil(store, key, ZERO, other)
    assert not store.is_intact(key, ZERO)


def with_checksum_of(data: bytes) -> bytes:
    """Other bytes with the same CRC-32, which is affine: a multiple of its polynomial added changes nothing."""
    polynomial = 0x1_DB71_0641  # the highest power in the lowest bit, which goes first
    return (int.from_bytes(data[:5], "little") ^ polynomial).to_bytes(5, "little") + data[5:]


def test_a_piece_cut_off_is_not_intact(store: TaskStore, task: TaskKey) -> None:
    write_all(store, task)
    with store.open_piece(task, TWO) as reader:
        os.ftruncate(reader.fd, reader.position + 1)
    assert not store.is_intact(task, TWO)


def test_looking_at_a_piece_is_no_use_of_its_task(store: TaskStore, task: TaskKey, clock: FakeTime) -> None:
    write(store, task, ZERO)
    before = store.get(task)
    clock.now += 1000
    store.is_intact(task, ZERO)
    assert store.get(task) == before


def test_a_piece_that_is_not_here_cannot_be_looked_at(store: TaskStore, task: TaskKey) -> None:
    for number in (ONE, PieceNumber(3)):
        with pytest.raises(PieceNotFound):
            store.is_intact(task, number)
    with pytest.raises(TaskNotFound):
        store.is_intact(OTHER, ZERO)
