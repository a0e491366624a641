"""A process killed in the middle of its writes, again and again: what a store offers afterwards is right.

Attack 23, invariant I8. One process, begun once, forks a writer for each round and kills it at a random moment; this
one then opens the store that is left and looks at every byte. The store is the same in all rounds, so that what one
round left is what the next begins with.
"""

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dragonfly.core.model.ids import content_task_id, public_task
from dragonfly.core.model.piece import PieceGeometry
from dragonfly.core.model.units import KiB
from dragonfly.storage.disk import DiskStore
from dragonfly.storage.store import StoredTask

ROUNDS = 60
SEED = 23
PIECE_LENGTH = 320 * KiB  # two leaves, and whole blocks of any file system

WRITER = """
import os, random, signal, sys, threading, time
from pathlib import Path

from blake3 import blake3

from dragonfly.core.model.ids import content_task_id, public_task
from dragonfly.core.model.piece import LEAF_LENGTH, PieceGeometry, PieceNumber
from dragonfly.storage.disk import DiskStore
from dragonfly.storage.store import OriginFacts

PIECE_LENGTH = 320 * 1024


def content(name):
    made = random.Random(name)
    return made.randbytes(made.randrange(1, 6 * PIECE_LENGTH))


def say(*words):
    os.write(1, (" ".join(words) + chr(10)).encode())


def write_piece(store, key, data, number, rng):
    with store.claim(key, PieceNumber(number)) as writer:
        piece = memoryview(data)[number * PIECE_LENGTH : (number + 1) * PIECE_LENGTH]
        if store.get(key).geometry.is_open and len(piece) < PIECE_LENGTH:
            store.settle_length(key, len(data))
        leaves = b"".join(blake3(piece[at : at + LEAF_LENGTH]).digest() for at in range(0, len(piece), LEAF_LENGTH))
        writer.restart(leaves=rng.choice([b"", leaves]))
        while piece:
            size = rng.randrange(1, 200_000)
            writer.write(piece[:size])
            piece = piece[size:]
            if rng.random() < 0.05:
                return  # given up
        writer.commit(parent_id="parent", cost=0.1)


def write_task(store, name, rng):
    key, data = public_task(content_task_id(name)), content(name)
    stored, count = store.get(key), -(-len(data) // PIECE_LENGTH)
    if stored is None:
        kind = rng.choice(["whole", "sparse", "open"])
        geometry = PieceGeometry.open(PIECE_LENGTH) if kind == "open" else PieceGeometry(len(data), PIECE_LENGTH)
        stored = store.create(key, geometry, OriginFacts(url=name), sparse=kind == "sparse")
    if stored.is_finished:
        if rng.random() < 0.3:
            say("deletes", name)
            store.delete(key)
        return
    missing = [number for number in range(count) if number not in stored.pieces]
    rng.shuffle(missing)
    for number in missing:
        write_piece(store, key, data, number, rng)
    if len(store.get(key).pieces) == count:
        store.settle_length(key, len(data))
        store.finish(key)
        say("finished", name)


def churn(directory, seed):
    rng = random.Random(seed)
    store = DiskStore(Path(directory), free_reserve=0)
    say("opened", "it")

    def work(number, rng):
        while True:
            write_task(store, f"{number}-{rng.randrange(8)}", rng)

    for number in range(3):
        threading.Thread(target=work, args=(number, random.Random(rng.random()))).start()


for line in sys.stdin:
    seed, after = line.split()
    child = os.fork()
    if child == 0:
        churn(sys.argv[1], seed)
    else:
        time.sleep(float(after))  # the moment of the kill is what this is about
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        say("killed", seed)
"""


@pytest.fixture
def writers(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, tmp_path / "store"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def content(name: str) -> bytes:
    """What the writers write."""
    made = random.Random(name)
    return made.randbytes(made.randrange(1, 6 * PIECE_LENGTH))


def check_pieces(store: DiskStore, task: StoredTask) -> int:
    """Compare every piece the store offers; how many there were."""
    data = content(task.origin.url)
    assert task.key == public_task(content_task_id(task.origin.url))
    if not task.geometry.is_open:
        assert task.geometry == PieceGeometry(len(data), PIECE_LENGTH)
    for number in task.pieces:
        wanted = data[number * PIECE_LENGTH : (number + 1) * PIECE_LENGTH]
        with store.open_piece(task.key, number) as reader:
            assert os.pread(reader.fd, reader.piece.length, reader.position) == wanted
            assert reader.piece.length == len(wanted)
    return len(task.pieces)


def check_files(store: DiskStore, directory: Path) -> None:
    """Every file has a task, and the counters say what the files take."""
    files = {path.name: path.stat() for path in (directory / "content").rglob("*") if path.is_file()}
    tasks = {task.key.wire_id: task for task in store.tasks()}
    assert files.keys() == tasks.keys()
    assert store.usage().stored == sum(task.room for task in tasks.values())
    for name, task in tasks.items():
        surplus = files[name].st_blocks * 512 - task.room
        assert 0 <= surplus <= 64 * KiB, task  # the last block, and what a file system notes of extents


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_whatever_the_moment_of_its_death_a_store_offers_only_what_is_right(
    writers: "subprocess.Popen[str]", tmp_path: Path
) -> None:
    assert writers.stdin is not None
    assert writers.stdout is not None
    rng, finished, seen, kinds = random.Random(SEED), set[str](), 0, set[tuple[bool, bool]]()
    deaths_in_service = 0
    for number in range(ROUNDS):
        writers.stdin.write(f"{SEED}-{number} {rng.uniform(0.05, 0.6)}\n")
        writers.stdin.flush()
        while (words := writers.stdout.readline().split())[0] != "killed":
            if words[0] == "opened":
                deaths_in_service += 1
            else:
                (finished.add if words[0] == "finished" else finished.discard)(words[1])
        store = DiskStore(tmp_path / "store", free_reserve=0)
        tasks = store.tasks()
        seen += sum(check_pieces(store, task) for task in tasks)
        check_files(store, tmp_path / "store")
        assert finished <= {task.origin.url for task in tasks if task.is_finished}
        kinds |= {(task.geometry.is_open, task.is_finished) for task in tasks}
        store.close()
    assert deaths_in_service >= 40
    assert seen > 1000
    assert kinds == {(False, False), (True, False), (False, True)}
