"""The machine's promises, checked against everything it remembers. For tests; linear in all peers."""

from collections.abc import Mapping

from dragonfly.core.model.ids import HostId, PeerId, TaskKey
from dragonfly.core.model.peer import PeerState
from dragonfly.core.scheduling.records import HostRecord, Peer, Standing
from dragonfly.core.scheduling.swarm import Swarm

CHAIN_ENDS = frozenset({Standing.HOLDER, Standing.SOURCE, Standing.WAITING, Standing.STRANDED})


def check(hosts: Mapping[HostId, HostRecord], swarms: Mapping[TaskKey, Swarm], peers: Mapping[PeerId, Peer]) -> None:
    """Raise AssertionError where a promise is broken."""
    assert sum(len(swarm.peers) for swarm in swarms.values()) == len(peers)
    assert sum(len(host.peers) for host in hosts.values()) == len(peers)
    for host in hosts.values():
        assert host.upload_count == sum(len(peer.children) for peer in host.peers.values()), "slots are conserved"
    for key, swarm in swarms.items():
        assert swarm.description.key == key
        _check_indexes(swarm)
        _check_editions(swarm)
        for peer in swarm.peers.values():
            assert peers[peer.id] is peer
            assert hosts[peer.host.id] is peer.host
            assert peer.task == key
            _check_peer(swarm, peer)
        _check_waiting(swarm)


def _check_indexes(swarm: Swarm) -> None:
    ready = list(swarm.ready)
    assert [peer.slot for peer in ready] == list(range(len(ready)))
    assert all(swarm.peers.get(peer.id) is peer for peer in ready), "only peers of the task serve it"
    for standing, index in (
        (Standing.WAITING, swarm.waiting),
        (Standing.SOURCE, swarm.sources),
        (Standing.HOLDER, swarm.holders),
        (Standing.STRANDED, swarm.stranded),
    ):
        assert set(index) == {peer.id for peer in swarm.peers.values() if peer.standing is standing}
    under_waiting = {peer.backbone.id for peer in swarm.peers.values() if peer.backbone is not None}
    assert under_waiting & set(swarm.waiting) <= set(swarm.detached)


def _check_editions(swarm: Swarm) -> None:
    for generation, edition in swarm.editions.items():
        members = [peer for peer in swarm.peers.values() if peer.edition is edition]
        assert edition.generation == generation
        assert edition.members == len(members) > 0
        assert set(edition.listeners) <= {peer.id for peer in members if peer.takes_unasked}
        assert all(told <= len(edition) for told in edition.listeners.values())
        if edition.listeners and not edition.is_whole:
            assert swarm.recheck_at is not None, "it is looked after that no root is waited for in vain"
    assert swarm.part_count == sum(peer.interest is not None for peer in swarm.peers.values())


def _check_peer(swarm: Swarm, peer: Peer) -> None:
    assert peer.standing is not Standing.GONE
    assert peer.state not in (PeerState.PENDING, PeerState.FAILED, PeerState.LEFT), "a peer that ended is forgotten"
    assert (peer.state is PeerState.SUCCEEDED) == (peer.standing is Standing.HOLDER) or peer.standing is Standing.APART
    assert (peer.backbone is not None) == (peer.standing is Standing.FED), "who is fed, and only who is, has a backbone"
    assert peer.id not in peer.parents
    for parent in peer.parents.values():
        assert swarm.peers.get(parent.id) is parent, "edges join peers of one task"
        assert parent.children[peer.id] is peer
        assert parent.host is not peer.host
        assert parent.covers(peer), "nobody is offered other content, or less of it"
    assert all(child.parents[peer.id] is peer for child in peer.children.values())
    _check_chain(swarm, peer)


def _check_chain(swarm: Swarm, peer: Peer) -> None:
    above, steps = peer, 0
    while above.backbone is not None:
        assert above.backbone.id in above.parents, "a backbone parent is one the child was told of"
        above, steps = above.backbone, steps + 1
        assert steps <= len(swarm.peers), "the backbone has no cycle"
    if steps:
        assert above.standing in CHAIN_ENDS, "the backbone leads to the content, or to one who will ask again"
    if swarm.is_all_grounded and steps:
        assert above.is_grounded


def _check_waiting(swarm: Swarm) -> None:
    """Nobody waits for nothing: there is a flight, or somebody at the origin, or a time at which to look again."""
    if swarm.waiting:
        assert swarm.recheck_at is not None
    if swarm.calls:
        assert swarm.recheck_at is not None
