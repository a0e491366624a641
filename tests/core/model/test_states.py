"""Both state tables whole: every state times every step, as the reference moves its tasks and peers."""

import pytest

from dragonfly.core.model.peer import HOLDS_OR_FETCHES, PeerState, PeerStep, next_peer_state
from dragonfly.core.model.task import TaskState, TaskStep, next_task_state

PEER_ROWS = """
                RegisterEmpty  RegisterNormal  Download  DownloadBackToSource  DownloadSucceeded  DownloadFailed  Leave
Pending         ReceivedEmpty  ReceivedNormal  -         -                     -                  Failed          Leave
ReceivedEmpty   -              -               Running   BackToSource          Succeeded          Failed          Leave
ReceivedNormal  -              -               Running   BackToSource          Succeeded          Failed          Leave
Running         -              -               -         BackToSource          Succeeded          Failed          Leave
BackToSource    -              -               -         -                     Succeeded          Failed          Leave
Succeeded       -              -               -         -                     -                  Failed          Leave
Failed          -              -               -         -                     -                  -               Leave
Leave           -              -               -         -                     -                  -               -
"""

TASK_ROWS = """
           Download  DownloadSucceeded  DownloadFailed  Leave
Pending    Running   -                  -               Leave
Running    -         Succeeded          Failed          Leave
Succeeded  Running   -                  -               Leave
Failed     Running   Succeeded          -               Leave
Leave      Running   Succeeded          -               -
"""


def cells(rows):
    steps, *lines = (line.split() for line in rows.strip("\n").splitlines())
    return [(line[0], step, after) for line in lines for step, after in zip(steps, line[1:], strict=True)]


@pytest.mark.parametrize(("state", "step", "after"), cells(PEER_ROWS))
def test_peer_moves_only_along_its_table(state, step, after):
    expected = None if after == "-" else PeerState(after)
    assert next_peer_state(PeerState(state), PeerStep(step)) is expected


@pytest.mark.parametrize(("state", "step", "after"), cells(TASK_ROWS))
def test_task_moves_only_along_its_table(state, step, after):
    expected = None if after == "-" else TaskState(after)
    assert next_task_state(TaskState(state), TaskStep(step)) is expected


def test_tables_name_every_state_and_step():
    assert len(cells(PEER_ROWS)) == len(PeerState) * len(PeerStep)
    assert len(cells(TASK_ROWS)) == len(TaskState) * len(TaskStep)


def test_peer_that_holds_or_fetches_can_be_a_parent():
    assert {PeerState.RUNNING, PeerState.BACK_TO_SOURCE, PeerState.SUCCEEDED} == HOLDS_OR_FETCHES
