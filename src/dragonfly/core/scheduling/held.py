"""Names for copies that hosts announce: no download of theirs is known any more, so the scheduler names the peer."""

from dragonfly.core.model.ids import HostId, PeerId, TaskKey

_ENDING = "-held"


def held_peer_id(host_id: HostId, task: TaskKey) -> PeerId:
    """One for each host and task."""
    return PeerId(f"{host_id}-{task.wire_id}{_ENDING}")


def is_held_peer_id(peer_id: PeerId) -> bool:
    """Whether only this scheduler gives such ids: a client that brings one is turned away."""
    return peer_id.endswith(_ENDING)
