"""Where a parent is reached, as its scheduler told."""

from collections.abc import Callable
from dataclasses import dataclass

from dragonfly.dfdaemon.fetch import ParentAddress


@dataclass(frozen=True, slots=True)
class ParentHost:
    """`calls` is its gRPC address; `pieces` where it serves pieces, None where it has to be listened to for that.

    `when_told` calls back, once and maybe at once, when the scheduler has told what the task's first piece hashes to:
    from then on whoever read it at the origin has it.
    """

    calls: str
    pieces: ParentAddress | None
    when_told: Callable[[Callable[[], None]], None]
