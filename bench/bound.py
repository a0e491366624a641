"""The time below which no swarm can give a file to everybody: after Kumar & Ross and Mundinger. Pure."""

import math
from dataclasses import dataclass

from dragonfly.core.model.units import Bytes, Seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Swarm:
    """Equal peers and one seed peer; rates are of links, in bytes a second."""

    peers: int
    length: Bytes
    seed_up: Bytes
    peer_up: Bytes
    peer_down: Bytes
    forwarding_unit: Bytes
    round_trip: Seconds


def terms(swarm: Swarm) -> dict[str, Seconds]:
    """The fluid terms, of which the largest counts, and what is added for the depth of the tree."""
    everybody = swarm.peers * swarm.length / (swarm.seed_up + swarm.peers * swarm.peer_up)
    levels = math.ceil(math.log2(swarm.peers + 1)) - 1
    return {
        "seed's upload": swarm.length / swarm.seed_up,
        "slowest download": swarm.length / swarm.peer_down,
        "all uploads": everybody,
        "depth": levels * (swarm.forwarding_unit / swarm.peer_up + swarm.round_trip),
        "first byte": 2 * swarm.round_trip,
    }


def bound(swarm: Swarm) -> Seconds:
    """Their sum: the largest fluid term, the depth, the first byte."""
    found = terms(swarm)
    fluid = max(found["seed's upload"], found["slowest download"], found["all uploads"])
    return fluid + found["depth"] + found["first byte"]
