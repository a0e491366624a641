"""The edges between the peers of a task: the backbone, exchange edges, and uniform samples of those that serve.

An edge runs from a parent to a child that was offered it. One of a child's edges is its *backbone*: the parent whose
own backbone leads on, peer by peer, to a holder or a source. As each peer has at most one backbone parent, a chain is
walked upwards in a loop, and a new backbone edge closes a cycle exactly if the child stands on the parent's chain.
All other edges are for exchange and may run both ways: a piece is served only once it is complete, so the bytes of one
piece never go round in a circle.
"""

from collections.abc import Iterator
from random import Random

from dragonfly.core.scheduling.records import Peer


def link(parent: Peer, child: Peer) -> None:
    """Count `child` among the parent's children; a slot of the parent's host is taken."""
    parent.children[child.id] = child
    child.parents[parent.id] = parent
    parent.host.upload_count += 1


def unlink(parent: Peer, child: Peer) -> None:
    """Give the slot back. The child's backbone is left for the caller to mend."""
    del parent.children[child.id]
    del child.parents[parent.id]
    parent.host.upload_count -= 1


def drop_parents(child: Peer) -> None:
    """Remove every edge that leads to `child`."""
    child.backbone = None
    for parent in child.parents.values():
        del parent.children[child.id]
        parent.host.upload_count -= 1
    child.parents.clear()


def chain_end(peer: Peer, avoid: Peer) -> Peer | None:
    """The last peer on the backbone above `peer`; None where the way leads through `avoid`."""
    while peer is not avoid:
        if peer.backbone is None:
            return peer
        peer = peer.backbone
    return None


def can_carry(parent: Peer, child: Peer) -> bool:
    """Whether a backbone edge from `parent` to `child` closes no cycle and leads to the content."""
    end = chain_end(parent, avoid=child)
    return end is not None and end.is_grounded


class ReadyPeers:
    """The peers of a task that serve others, in an array: added, removed and drawn in constant time."""

    def __init__(self) -> None:
        self._peers: list[Peer] = []

    def __len__(self) -> int:
        return len(self._peers)

    def __iter__(self) -> Iterator[Peer]:
        return iter(self._peers)

    def add(self, peer: Peer) -> None:
        if peer.slot < 0:
            peer.slot = len(self._peers)
            self._peers.append(peer)

    def discard(self, peer: Peer) -> None:
        """Take it out; the last one moves into its place."""
        if peer.slot < 0:
            return
        last = self._peers.pop()
        if last is not peer:
            self._peers[peer.slot] = last
            last.slot = peer.slot
        peer.slot = -1

    def sample(self, count: int, rng: Random) -> list[Peer]:
        """`count` peers drawn with equal chances, in random order; all of them if there are no more.

        From a large crowd the same one may be drawn twice, and is then given once: the sample is smaller by it.
        """
        peers = self._peers
        if len(peers) <= count:
            return list(peers)
        if len(peers) < 4 * count:
            return rng.sample(peers, count)
        return list(dict.fromkeys(rng.choices(peers, k=count)))
