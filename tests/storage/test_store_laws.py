"""Laws of a store under any order of calls: what it offers is right, what is followed stays, what is counted is so."""

import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from blake3 import blake3
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dragonfly.core.model.ids import TaskKey, content_task_id, public_task
from dragonfly.core.model.piece import PieceGeometry, PieceNumber
from dragonfly.core.model.units import KiB, MiB
from dragonfly.errors import DragonflyError, PieceDigestMismatch, PieceLengthMismatch, PieceNotFound, StorageError
from dragonfly.storage.disk import DiskStore
from dragonfly.storage.memory import MemoryStore
from dragonfly.storage.piece_store import PieceStore
from dragonfly.storage.store import OriginFacts, PieceFollower, PieceWriter

PIECE = 4 * KiB
LENGTH = 2 * PIECE + 1000
KEYS = [public_task(content_task_id(f"task {number}")) for number in range(2)]
KINDS = st.sampled_from(["whole", "sparse", "open"])
CONTENT = {key: os.urandom(LENGTH) for key in KEYS}


@dataclass
class Writing:
    """A claim, and which bytes it was given. Only bytes of the file are ever called certain."""

    key: TaskKey
    writer: PieceWriter
    is_honest: bool = True
    proves: bool = False


@dataclass
class Following:
    key: TaskKey
    follower: PieceFollower
    seen: int = 0


@dataclass
class Model:
    is_sparse: bool
    is_open: bool
    have: set[int] = field(default_factory=set)
    is_finished: bool = False


class DiskLaws(RuleBasedStateMachine):
    """Rules do what a daemon may do, and some things it must not; each says what has to come of it."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.store = self.opened()
        self.tasks: dict[TaskKey, Model] = {}
        self.writing: list[Writing] = []
        self.following: list[Following] = []

    def opened(self) -> PieceStore:
        return DiskStore(self.directory / "store", free_reserve=0)

    def teardown(self) -> None:
        self.leave_all()
        self.store.close()
        shutil.rmtree(self.directory)

    def leave_all(self) -> None:
        for one in self.writing:
            one.writer.__exit__(None, None, None)
        for other in self.following:
            other.follower.__exit__(None, None, None)
        self.writing, self.following = [], []

    # --- tasks

    @initialize(kinds=st.tuples(KINDS, KINDS))
    def begin(self, kinds: tuple[str, str]) -> None:
        for key, kind in zip(KEYS, kinds, strict=True):
            self.create(key, kind)

    @precondition(lambda self: len(self.tasks) < len(KEYS))
    @rule(key=st.sampled_from(KEYS), kind=KINDS)
    def create(self, key: TaskKey, kind: str) -> None:
        geometry = PieceGeometry.open(PIECE) if kind == "open" else PieceGeometry(LENGTH, PIECE)
        try:
            self.store.create(key, geometry, OriginFacts(url="u"), sparse=kind == "sparse")
        except FileExistsError:
            assert key in self.tasks
        else:
            assert key not in self.tasks
            self.tasks[key] = Model(kind != "whole", kind == "open")

    @precondition(lambda self: any(task.is_open for task in self.tasks.values()))
    @rule()
    def settle(self) -> None:
        for key, task in self.tasks.items():
            assert self.store.settle_length(key, LENGTH).geometry == PieceGeometry(LENGTH, PIECE)
            task.is_open = False

    @rule(key=st.sampled_from(KEYS))
    def finish(self, key: TaskKey) -> None:
        if key not in self.tasks:
            return
        is_whole = self.tasks[key].have == {0, 1, 2} and not self.tasks[key].is_open
        try:
            self.store.finish(key)
        except StorageError:
            assert not is_whole
        else:
            assert is_whole
            self.tasks[key].is_finished = True
            assert self.store.content_path(key).read_bytes() == CONTENT[key]

    @precondition(lambda self: any(task.have for task in self.tasks.values()))
    @rule(key=st.sampled_from(KEYS))
    def delete(self, key: TaskKey) -> None:
        self.store.delete(key)
        self.tasks.pop(key, None)
        self.leave_task(key)

    def leave_task(self, key: TaskKey) -> None:
        """Writers of a deleted task cannot commit; whatever they do, it harms nobody."""
        for one in [one for one in self.writing if one.key == key]:
            try:
                one.writer.commit(parent_id=None, cost=0.0)
            except DragonflyError:
                pass
            else:
                raise AssertionError("a piece of a deleted task was kept")
            one.writer.__exit__(None, None, None)
            self.writing.remove(one)
        for other in [other for other in self.following if other.key == key]:
            self.look(other)
            other.follower.__exit__(None, None, None)
            self.following.remove(other)

    @rule(key=st.sampled_from(KEYS))
    def evict(self, key: TaskKey) -> None:
        is_used = any(one.key == key for one in (*self.writing, *self.following))
        self.store.evict(key)
        assert (self.store.get(key) is not None) == (key in self.tasks and is_used)
        if not is_used:
            self.tasks.pop(key, None)

    # --- pieces

    @rule(key=st.sampled_from(KEYS), number=st.integers(0, 3))
    def claim(self, key: TaskKey, number: int) -> None:
        task = self.tasks.get(key)
        if task is None:
            return
        is_taken = number in task.have or any(one.key == key and one.writer.number == number for one in self.writing)
        try:
            writer = self.store.claim(key, PieceNumber(number))
        except FileExistsError:
            assert is_taken
        except PieceNotFound:
            assert number == 3
            assert not task.is_open
        else:
            assert not is_taken
            self.writing.append(Writing(key, writer))

    @precondition(lambda self: self.writing)
    @rule(data=st.data(), certain=st.booleans(), proves=st.booleans())
    def restart(self, data: st.DataObject, certain: bool, proves: bool) -> None:
        one = data.draw(st.sampled_from(self.writing))
        leaf = bytes(blake3(self.wanted(one)).digest()) if proves and one.writer.length else b""
        one.writer.restart(leaves=leaf, is_certain=certain)
        one.is_honest, one.proves = True, bool(leaf)

    @precondition(lambda self: self.writing)
    @rule(data=st.data(), count=st.sampled_from([1, 999, PIECE // 2, PIECE]))
    def write(self, data: st.DataObject, count: int) -> None:
        one = data.draw(st.sampled_from(self.writing))
        writer = one.writer
        begin = writer.length - writer.remaining
        chunk = self.wanted(one)[begin : begin + count]
        try:
            writer.write(memoryview(chunk))
        except (ValueError, PieceLengthMismatch, PieceDigestMismatch):
            assert not one.is_honest or not writer.remaining

    @precondition(lambda self: self.writing)
    @rule(data=st.data())
    def lie(self, data: st.DataObject) -> None:
        """Begin anew as a parent, prove nothing, and send all of the piece with one byte wrong."""
        one = data.draw(st.sampled_from(self.writing))
        wrong = bytearray(self.wanted(one)[: one.writer.length])
        if not wrong:
            return
        wrong[data.draw(st.sampled_from([0, len(wrong) // 2, len(wrong) - 1]))] ^= 1
        one.writer.restart()
        one.is_honest, one.proves = False, False
        try:
            one.writer.write(memoryview(wrong))
        except PieceDigestMismatch:
            assert any(other.key == one.key for other in self.following)

    def wanted(self, one: Writing) -> bytes:
        number = one.writer.number
        return CONTENT[one.key][number * PIECE : (number + 1) * PIECE]

    @precondition(lambda self: self.writing)
    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self.writing))
        wanted = self.wanted(one)
        leaf = bytes(blake3(wanted).digest())
        try:
            piece = one.writer.commit(parent_id="p", cost=0.0, root=bytes(blake3(leaf).digest()))
        except (PieceLengthMismatch, PieceDigestMismatch, PieceNotFound):
            return
        assert one.is_honest
        assert (piece.length, piece.leaves) == (len(wanted), leaf)
        self.tasks[one.key].have.add(one.writer.number)
        one.writer.__exit__(None, None, None)
        self.writing.remove(one)

    @precondition(lambda self: self.writing)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self.writing))
        one.writer.__exit__(None, None, None)
        self.writing.remove(one)

    @rule(key=st.sampled_from(KEYS), number=st.integers(0, 2))
    def follow(self, key: TaskKey, number: int) -> None:
        if key not in self.tasks:
            return
        is_there = number in self.tasks[key].have or any(
            one.key == key and one.writer.number == number for one in self.writing
        )
        try:
            follower = self.store.follow_piece(key, PieceNumber(number))
        except PieceNotFound:
            assert not is_there
        else:
            assert is_there
            self.following.append(Following(key, follower))

    @precondition(lambda self: self.following)
    @rule(data=st.data())
    def unfollow(self, data: st.DataObject) -> None:
        other = data.draw(st.sampled_from(self.following))
        self.look(other)
        other.follower.__exit__(None, None, None)
        self.following.remove(other)

    def look(self, other: Following) -> None:
        """What may be read only grows, and is what the file has there."""
        follower = other.follower
        try:
            seen = follower.wait_beyond(0, 0.0)
        except PieceNotFound:  # nothing was certain, or too little for who asks
            seen = other.seen
            assert seen == 0
        assert seen >= other.seen
        other.seen = seen
        position = follower.number * PIECE
        assert os.pread(follower.fd, seen, follower.position) == CONTENT[other.key][position : position + seen]

    # --- always

    @invariant()
    def followers_see_the_file(self) -> None:
        for other in self.following:
            self.look(other)

    @invariant()
    def what_is_offered_is_right(self) -> None:
        stored = {task.key: task for task in self.store.tasks()}
        assert stored.keys() == self.tasks.keys()
        for key, model in self.tasks.items():
            assert set(stored[key].pieces) == model.have
            assert stored[key].is_finished == model.is_finished
            assert stored[key].is_in_use == any(one.key == key for one in (*self.writing, *self.following))
            for number in model.have:
                with self.store.open_piece(key, PieceNumber(number)) as reader:
                    wanted = CONTENT[key][number * PIECE : (number + 1) * PIECE]
                    assert os.pread(reader.fd, reader.piece.length, reader.position) == wanted

    @invariant()
    def counters_add_up(self) -> None:
        rooms = [task.room for task in self.store.tasks()]
        assert self.store.usage().stored == sum(rooms)
        for key, model in self.tasks.items():
            task = self.store.get(key)
            assert task is not None
            least = sum(len(CONTENT[key][number * PIECE : (number + 1) * PIECE]) for number in model.have)
            assert task.room >= least
            assert model.is_sparse or task.room == LENGTH


class RestartLaws(DiskLaws):
    """With restarts in between."""

    @rule()
    def reopen(self) -> None:
        self.leave_all()
        self.store.close()
        self.store = self.opened()
        for task in self.store.tasks():
            sizes = [len(CONTENT[task.key][number * PIECE : (number + 1) * PIECE]) for number in task.pieces]
            assert task.room == (sum(sizes) if self.tasks[task.key].is_sparse else LENGTH)


class MemoryLaws(DiskLaws):
    """In memory."""

    def opened(self) -> PieceStore:
        return MemoryStore(MiB)


LIMITS = settings(max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck))
TestRestartLaws = RestartLaws.TestCase
TestRestartLaws.settings = LIMITS
TestMemoryLaws = MemoryLaws.TestCase
TestMemoryLaws.settings = LIMITS
