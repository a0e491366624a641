"""The contract of a TaskStore, run on every implementation: add a maker to STORES and it joins."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Barrier, Event, Thread
from zlib import crc32

import pytest
from blake3 import blake3

from dragonfly.core.model.ids import TaskId, TaskKey, content_task_id, public_task
from dragonfly.core.model.piece import Piece, PieceGeometry, PieceNumber
from dragonfly.core.model.principal import TenantScope
from dragonfly.core.model.units import MiB
from dragonfly.errors import PieceDigestMismatch, PieceLengthMismatch, PieceNotFound, StorageError, TaskNotFound
from dragonfly.storage.disk import DiskStore
from dragonfly.storage.memory import MemoryStore
from dragonfly.storage.store import OriginFacts, TaskStore

DEADLINE = 10.0
PIECE_LENGTH = 1000
CONTENT = os.urandom(2 * PIECE_LENGTH + 345)
GEOMETRY = PieceGeometry(len(CONTENT), PIECE_LENGTH)
ORIGIN = OriginFacts(
    url="http://origin.test/file", tag="t", application="a", etag='"e"', response_header={"Content-Type": "text/plain"}
)
KEY = public_task(content_task_id("a file"))
ZERO, ONE, TWO = map(PieceNumber, range(3))


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
