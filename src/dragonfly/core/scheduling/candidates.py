"""Who could feed a peer: a random sample of those that serve, filtered, ranked, and led by one that carries.

Every refusal has a reason, so that a peer sent to the origin can be told why nobody else would do. A host whose slots
are all taken is only put behind the others: a late piece is better than another reader at the origin.
"""

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from random import Random

from dragonfly.core.model.units import Seconds
from dragonfly.core.scheduling.dag import can_carry
from dragonfly.core.scheduling.evaluator import Evaluator
from dragonfly.core.scheduling.records import Peer
from dragonfly.core.scheduling.swarm import Swarm

WIDEST_SAMPLE = 256  # if one peer in twenty is usable, a sample of so many misses them twice in a million


class Reason(StrEnum):
    """Why one peer is no parent for another, as it follows a count: "3 …"."""

    BLOCKED = "failed this peer before"
    SAME_HOST = "on the same host"
    NOT_SHARED = "on a host that does not share"
    HOST_SILENT = "on a host that fell silent"
    ISOLATED = "isolated after complaints"
    OTHER_CONTENT = "lacking the range or version wanted"
    ADRIFT = "without a chain of parents that leads to the content, or fed by this peer"


def unfit(parent: Peer, child: Peer, now: Seconds) -> Reason | None:
    """Why `parent` could not feed `child` even if it were ready; None if it could."""
    host = parent.host
    if host is child.host:
        return Reason.SAME_HOST
    if parent.id in child.blocked:
        return Reason.BLOCKED
    if parent.isolated_until > now:
        return Reason.ISOLATED
    if host.silent_at <= now:
        return Reason.HOST_SILENT
    if not host.shares:
        return Reason.NOT_SHARED
    if parent.interest is None and parent.geometry is child.geometry and parent.edition is child.edition:
        return None  # the usual case, without a call
    return None if parent.covers(child) else Reason.OTHER_CONTENT


@dataclass(slots=True)
class Selection:
    """Parents for one peer, the backbone parent first; without one there are none, and `refusals` says why."""

    parents: list[Peer] = field(default_factory=list)
    refusals: list[Reason] = field(default_factory=list)

    @property
    def explanation(self) -> str:
        """The refusals counted; empty where nobody was there to be refused."""
        counted = ", ".join(f"{count} {reason}" for reason, count in Counter(self.refusals).items())
        return f"no peer can serve it ({counted})" if counted else ""


class Selector:
    """Selects parents by one evaluator's taste and one source of chance."""

    def __init__(self, rng: Random, evaluator: Evaluator) -> None:
        self._rng = rng
        self._evaluator = evaluator

    def select(self, swarm: Swarm, child: Peer, *, count: int, sample_size: int, now: Seconds) -> Selection:
        """Up to `count` parents; where a sample has none that carries, a wider one is drawn.

        A child that has its backbone parent already keeps it and gets the others beside it. While chains are broken,
        those that end chains are looked at besides the sample, so that one source is found among thousands adrift.
        """
        ends = [] if swarm.is_all_grounded else swarm.chain_ends(sample_size)
        if not ends and not swarm.is_all_grounded:
            return Selection()
        while True:
            sample = swarm.ready.sample(sample_size, self._rng)
            sample += [end for end in ends if end not in sample]
            selection = self._from_sample(swarm, child, sample, count, now)
            if selection.parents or sample_size >= len(swarm.ready):
                return selection
            if sample_size >= WIDEST_SAMPLE:
                break
            sample_size *= 4
        if swarm.is_mixed:  # those who have just this part, or this generation, may be a few among thousands
            fitting = (peer for peer in swarm.ready if peer.covers(child) and unfit(peer, child, now) is None)
            found = self._from_sample(swarm, child, list(islice(fitting, WIDEST_SAMPLE)), count, now)
            return found if found.parents else selection
        return selection

    def _from_sample(self, swarm: Swarm, child: Peer, sample: list[Peer], count: int, now: Seconds) -> Selection:
        selection = Selection()
        ranked = self._ranked(child, sample, selection.refusals, now)
        backbone = child.backbone or self._backbone(swarm, child, ranked)
        if backbone is not None:
            selection.parents = [backbone, *[peer for peer in ranked if peer is not backbone][: count - 1]]
        else:
            selection.refusals += [Reason.ADRIFT] * len(ranked)
        return selection

    def _ranked(self, child: Peer, sample: list[Peer], refusals: list[Reason], now: Seconds) -> list[Peer]:
        """The usable ones, best first, those with all slots taken last."""
        score = self._evaluator.score
        scored: list[tuple[float, int, Peer]] = []
        for place, parent in enumerate(sample):
            if parent is child:
                continue
            reason = unfit(parent, child, now)
            if reason is not None:
                refusals.append(reason)
            else:
                penalty = 2.0 if parent.host.upload_count >= parent.host.upload_limit else 0.0
                scored.append((penalty - score(parent, child), place, parent))
        scored.sort()
        return [parent for _, _, parent in scored]

    def _backbone(self, swarm: Swarm, child: Peer, ranked: list[Peer]) -> Peer | None:
        """The best one whose chain leads to the content and not through the child."""
        if swarm.is_all_grounded and not child.children:
            return ranked[0] if ranked else None
        return next((parent for parent in ranked if can_carry(parent, child)), None)
