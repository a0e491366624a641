"""What is downloaded: kinds, sizes, priorities, and the states of a task.

             download                     succeeded
PENDING ───────────────► RUNNING ───────────────────► SUCCEEDED
                          ▲   │ failed                    │
                          │   ▼                           │ download
                          └─ FAILED ◄─────────────────────┘ (back to RUNNING)

every state ── left ──► LEFT, and LEFT runs again when somebody asks for the task anew.
"""

from dataclasses import dataclass
from enum import IntEnum, StrEnum

from dragonfly.core.model.ids import TaskKey
from dragonfly.core.model.piece import PieceGeometry


class TaskKind(IntEnum):
    """The numbers are the wire's TaskType."""

    STANDARD = 0
    PERSISTENT = 1
    PERSISTENT_CACHE = 2
    CACHE = 3


class SizeScope(StrEnum):
    """How much a task holds, as far as that changes how it is scheduled. Source: reference scheduler, size scopes."""

    EMPTY = "EMPTY"
    TINY = "TINY"  # at most 128 bytes
    SMALL = "SMALL"  # exactly one piece
    NORMAL = "NORMAL"
    UNKNOWN = "UNKNOWN"

    @classmethod
    def of(cls, geometry: PieceGeometry | None) -> "SizeScope":
        """The scope of a task; None, a length nobody knows yet, is UNKNOWN."""
        if geometry is None:
            return cls.UNKNOWN
        if geometry.content_length == 0:
            return cls.EMPTY
        if geometry.content_length <= 128:
            return cls.TINY
        return cls.SMALL if geometry.piece_count == 1 else cls.NORMAL


class Priority(IntEnum):
    """LEVEL1 forbids, LEVEL2 allows peers only, LEVEL3 sends the peer itself to the origin; the rest wake a seed."""

    LEVEL0 = 0
    LEVEL1 = 1
    LEVEL2 = 2
    LEVEL3 = 3
    LEVEL4 = 4
    LEVEL5 = 5
    LEVEL6 = 6


class TaskState(StrEnum):
    """The texts are the reference's, seen in StatTask."""

    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    LEFT = "Leave"


class TaskStep(StrEnum):
    DOWNLOAD = "Download"
    SUCCEED = "DownloadSucceeded"
    FAIL = "DownloadFailed"
    LEAVE = "Leave"


_P, _R, _S, _F, _L = TaskState.PENDING, TaskState.RUNNING, TaskState.SUCCEEDED, TaskState.FAILED, TaskState.LEFT

TASK_TRANSITIONS: dict[tuple[TaskState, TaskStep], TaskState] = {
    **{(state, TaskStep.DOWNLOAD): _R for state in (_P, _S, _F, _L)},
    **{(state, TaskStep.SUCCEED): _S for state in (_L, _R, _F)},
    (_R, TaskStep.FAIL): _F,
    **{(state, TaskStep.LEAVE): _L for state in (_P, _R, _S, _F)},
}


def next_task_state(state: TaskState, step: TaskStep) -> TaskState | None:
    """The state after `step`; None where the table has no such move."""
    return TASK_TRANSITIONS.get((state, step))


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDescription:
    """What a task is, as the first peer that asked for it described it. Credentials are never part of it.

    `geometry` is None while nobody knows the length.
    """

    key: TaskKey
    url: str
    kind: TaskKind = TaskKind.STANDARD
    geometry: PieceGeometry | None = None
    digest: str = ""
    tag: str = ""
    application: str = ""
    filtered_query_params: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HeldTask:
    """A task a host holds whole, in this generation of its content; empty where the host does not know."""

    task: TaskDescription
    generation: str = ""
