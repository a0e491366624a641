"""The memory store beyond the contract: its capacity, and what it leaves behind."""

import os
import shutil
from pathlib import Path

import pytest

from dragonfly.core.model.ids import TaskId, TaskKey, content_task_id, public_task
from dragonfly.core.model.piece import PieceGeometry, PieceNumber
from dragonfly.core.model.principal import PUBLIC_SCOPE
from dragonfly.core.model.units import MiB
from dragonfly.errors import DiskFull, InvalidIdentifier
from dragonfly.storage.memory import MemoryStore
from dragonfly.storage.store import OriginFacts

ORIGIN = OriginFacts(url="u")
ONE_MIB = PieceGeometry(MiB, MiB)
ZERO = PieceNumber(0)


def key(name: str) -> TaskKey:
    return public_task(content_task_id(name))


def test_it_takes_as_many_bytes_as_it_may_and_no_more() -> None:
    store = MemoryStore(3 * MiB)
    for name in "ab":
        store.create(key(name), ONE_MIB, ORIGIN)
    store.create(key("sparse"), PieceGeometry(64 * MiB, MiB), ORIGIN, sparse=True)
    with store.claim(key("sparse"), ZERO), pytest.raises(DiskFull) as caught:
        store.claim(key("sparse"), PieceNumber(1))
    assert caught.value.facts == {"path": Path("memory") / key("sparse").wire_id, "needed": MiB, "free": 0}
    with pytest.raises(DiskFull):
        store.create(key("c"), ONE_MIB, ORIGIN)
    assert store.evict(key("a")) == MiB
    store.create(key("c"), ONE_MIB, ORIGIN)
    usage = store.usage()
    assert (usage.stored, usage.capacity, usage.free, usage.task_count) == (3 * MiB, 3 * MiB, 0, 3)
    store.close()


def test_its_files_can_be_copied_and_are_gone_when_it_is_closed(tmp_path: Path) -> None:
    descriptors = len(os.listdir("/proc/self/fd"))
    store = MemoryStore(MiB)
    store.create(key("a"), PieceGeometry(5, 5), ORIGIN)
    with store.claim(key("a"), ZERO) as writer:
        writer.write(memoryview(b"bytes"))
        writer.commit(parent_id=None, cost=0.0)
    store.finish(key("a"))
    with store.pin(key("a")):
        shutil.copyfile(store.content_path(key("a")), tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"bytes"
    store.close()
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert store.tasks() == []


def test_an_id_that_is_no_id_is_refused_as_on_a_disk() -> None:
    store = MemoryStore(MiB)
    with pytest.raises(InvalidIdentifier):
        store.create(TaskKey(PUBLIC_SCOPE, TaskId("../a")), ONE_MIB, ORIGIN)
    store.close()
