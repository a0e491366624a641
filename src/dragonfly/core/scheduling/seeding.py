"""One flight to the origin for each part of a task: when to wake a seed peer, who may go to the origin, who waits.

A flight is for one generation of the content, and for all of it or a range of whole pieces; it serves whoever wants
that or less. Asked about a peer that nobody can feed now. In this order:

1. Somebody is on the way that will be able to: a seed peer that was woken, or a peer that was sent to the origin and
   has not started. It waits.
2. Nobody is at the origin for what it wants: a seed peer that has not failed this task lately is woken for just that,
   if the peer's priority asks seeds.
3. It goes to the origin itself, unless others are there for what it wants: then it waits for one of them to end.
4. It must not go there: it is refused.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b

from dragonfly.core.model.host import Host
from dragonfly.core.model.ids import TaskId
from dragonfly.core.model.units import Seconds
from dragonfly.core.scheduling.candidates import unfit
from dragonfly.core.scheduling.config import SchedulingConfig
from dragonfly.core.scheduling.records import Peer
from dragonfly.core.scheduling.swarm import Swarm
from dragonfly.errors import DragonflyError, NoSourceAllowed, RemoteFailure


@dataclass(frozen=True, slots=True)
class Wait:
    pass


@dataclass(frozen=True, slots=True)
class WakeSeed:
    host: Host


@dataclass(frozen=True, slots=True)
class GoToSource:
    pass


@dataclass(frozen=True, slots=True)
class Refuse:
    error: DragonflyError


Decision = Wait | WakeSeed | GoToSource | Refuse


def decide(swarm: Swarm, peer: Peer, seeds: Iterable[Host], now: Seconds, config: SchedulingConfig) -> Decision:
    """What becomes of a peer that no other peer can feed at present."""
    if peer.answers >= config.answer_limit:
        reason = f"{peer.answers} answers did not get the download done; the last trouble: {peer.reason or 'unknown'}"
        return Refuse(RemoteFailure(reason=reason))
    if peer.need_back_to_source and peer.may_go_to_source:
        return GoToSource()
    if not is_last_answer(peer, config):
        if is_flight_on_the_way(swarm, peer, now, config):
            return Wait()
        seed = seed_to_wake(swarm, peer, seeds, now, config)
        if seed is not None:
            return WakeSeed(seed)
    if not peer.may_go_to_source:
        return Refuse(NoSourceAllowed(url=f"task {swarm.description.key.task_id}"))
    if peer.host.is_seed or peers_at_source(swarm, peer, now, config) < config.back_to_source_limit:
        return GoToSource()
    return Wait()


def is_last_answer(peer: Peer, config: SchedulingConfig) -> bool:
    """Whether its client would give up before it could ask once more: the next answer has to settle the matter."""
    return peer.answers >= config.answer_limit - 1


def is_flight_on_the_way(swarm: Swarm, peer: Peer, now: Seconds, config: SchedulingConfig) -> bool:
    """Whether somebody who does not serve yet is about to get what this peer wants from the origin."""
    if swarm.is_called_for(peer):
        return True
    earliest = now - config.source_patience
    return any(
        source.slot < 0 and source.touched_at > earliest and unfit(source, peer, now) is None
        for source in swarm.sources.values()
        if source is not peer
    )


def seed_to_wake(
    swarm: Swarm, peer: Peer, seeds: Iterable[Host], now: Seconds, config: SchedulingConfig
) -> Host | None:
    """The first seed host in the task's order that may be tried on the peer's behalf; None if none, or no need."""
    if not peer.wakes_seed or swarm.is_called_for(peer) or any(_at_source_for(peer, swarm, now, config)):
        return None
    earliest = now - config.seed_failure_memory
    usable = [
        host
        for host in seeds
        if swarm.failed_seeds.get(host.id, earliest) <= earliest and not _holds_in_vain(swarm, host, peer, now)
    ]
    return min(usable, key=lambda host: _rendezvous(host, swarm.description.key.task_id), default=None)


def _holds_in_vain(swarm: Swarm, host: Host, peer: Peer, now: Seconds) -> bool:
    """Whether the host has what the peer wants and cannot feed it all the same: to be woken would change nothing."""
    held = swarm.held_by.get(host.id)
    return held is not None and held.covers(peer) and unfit(held, peer, now) is not None


def _rendezvous(host: Host, task_id: TaskId) -> bytes:
    """Highest-random-weight hashing: each task has its own order of seeds, and a lost seed moves only its own tasks."""
    return blake2b(f"{host.id}\0{task_id}".encode(), digest_size=8).digest()


def peers_at_source(swarm: Swarm, peer: Peer, now: Seconds, config: SchedulingConfig) -> int:
    """How many peers of the task, seeds aside, read from the origin what this one wants, or more."""
    return sum(not source.host.is_seed for source in _at_source_for(peer, swarm, now, config))


def _at_source_for(peer: Peer, swarm: Swarm, now: Seconds, config: SchedulingConfig) -> Iterator[Peer]:
    """Those that were sent to the origin for all that the peer wants and show progress."""
    earliest = now - config.source_patience
    for source in swarm.sources.values():
        if not source.metadata_only and source.touched_at > earliest and source.covers(peer):
            yield source
