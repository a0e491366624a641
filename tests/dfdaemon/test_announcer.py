"""What a daemon says it holds."""

from pathlib import Path

from dragonfly.core.model.ids import TaskId, public_task
from dragonfly.core.model.piece import PieceGeometry, PieceNumber
from dragonfly.core.model.task import HeldTask, TaskDescription
from dragonfly.dfdaemon.announcer import held_tasks
from dragonfly.storage.disk import DiskStore
from dragonfly.storage.store import OriginFacts

GEOMETRY = PieceGeometry(1500, 1000)
WHOLE, HALF = public_task(TaskId("a" * 64)), public_task(TaskId("b" * 64))


def test_finished_tasks_are_held_with_their_version_and_half_a_task_is_not(tmp_path: Path) -> None:
    store = DiskStore(tmp_path / "store", free_reserve=0)
    facts = OriginFacts(url="http://origin.test/file", tag="t", application="a", etag='"1"')
    for key, numbers in ((WHOLE, (0, 1)), (HALF, (0,))):
        store.create(key, GEOMETRY, facts)
        for number in numbers:
            with store.claim(key, PieceNumber(number)) as writer:
                writer.write(memoryview(bytes(GEOMETRY.span(PieceNumber(number)).length)))
                writer.commit(parent_id=None, cost=0.0)
    finished = store.finish(WHOLE)
    held = held_tasks(store)
    store.close()
    task = TaskDescription(key=WHOLE, url=facts.url, geometry=GEOMETRY, tag="t", application="a")
    assert held == [HeldTask(task, finished.version.generation)]
