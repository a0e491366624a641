"""Whose word on a piece's root counts, and to whom the roots may be promised.

A witness is a peer that reads the origin because the scheduler said so. One that merely claims to read it is none, and
one that asked to be sent there, from a host that is no seed, is one only while no other witness is at work: or whoever
wants to poison a file would ask, too.

A child is promised the roots where everything its parents may have is told, or will be: nobody has all of it yet and a
witness is fetching it, or all of it is known. So nothing is promised for content that came from before this scheduler's
time. Should the witnesses end before they are done while somebody has what they did not tell, the children get empty
roots for that: a promise may turn out to be worth a checksum, but never a wait for ever.
"""

from collections.abc import Iterable, Iterator

from dragonfly.core.model.units import Seconds
from dragonfly.core.scheduling.editions import MAX_CONCEDED, Edition
from dragonfly.core.scheduling.records import Peer, Portion, Standing
from dragonfly.core.scheduling.swarm import Swarm


def is_witness(swarm: Swarm, peer: Peer) -> bool:
    """Whether what the peer reports is the word of the origin."""
    if peer.standing is not Standing.SOURCE or not _is_sent(peer):
        return False
    return _is_chosen(peer) or not _is_any_chosen(swarm, peer.edition)


def _is_sent(peer: Peer) -> bool:
    return peer.is_sent_to_source and is_cut_alike(peer, peer.edition)


def _is_chosen(peer: Peer) -> bool:
    """Whether it was the scheduler's choice that it reads the origin."""
    return _is_sent(peer) and (peer.host.is_seed or not peer.need_back_to_source)


def _is_any_chosen(swarm: Swarm, edition: Edition) -> bool:
    return any(source.edition is edition and _is_chosen(source) for source in swarm.sources.values())


def is_cut_alike(peer: Peer, edition: Edition) -> bool:
    """Whether its piece numbers mean the same as those of the edition's roots, as far as anybody knows."""
    return None in (peer.geometry, edition.geometry) or peer.geometry == edition.geometry


def witnesses(swarm: Swarm, edition: Edition, since: Seconds = float("-inf")) -> Iterator[Peer]:
    """Those of one generation that showed progress after `since`."""
    counts = _is_chosen if _is_any_chosen(swarm, edition) else _is_sent
    for source in swarm.sources.values():
        if source.edition is edition and source.touched_at > since and counts(source):
            yield source


def can_promise(swarm: Swarm, peer: Peer) -> bool:
    edition = peer.edition
    if not edition.generation:  # what nothing tells from a newer one may be another thing when it is read again
        return False
    if edition.geometry is not None and edition.geometry.piece_count > MAX_CONCEDED:
        return False
    if not is_cut_alike(peer, edition):
        return False
    if is_known(peer):
        return True
    if any(holder.covers(peer) for holder in swarm.holders.values()):
        return False
    return any(source.covers(peer) for source in witnesses(swarm, edition))


def is_known(portion: Portion) -> bool:
    """Whether a witness told of every piece of it, or said that it has no more to tell."""
    numbers = _piece_numbers(portion)
    if portion.edition.is_whole or portion.interest is None or numbers is None:
        return portion.edition.is_whole
    return portion.edition.knows(numbers)


def concede(edition: Edition, peer: Peer, *, has_all: bool) -> bool:
    """Give up waiting for the roots of what the peer has and nobody told of; whether that is news.

    `has_all`: it has what it wanted, not only the pieces it reported.
    """
    if peer.edition.differs_from(edition) or not is_cut_alike(peer, edition):
        return False
    numbers: Iterable[int] = peer.pieces
    if has_all:
        known = _piece_numbers(peer)
        wanted = range(max(peer.pieces, default=-1) + 1) if known is None else known
        numbers = wanted if len(wanted) <= MAX_CONCEDED else peer.pieces
    return edition.concede(numbers, are_all=has_all and peer.interest is None)


def _piece_numbers(portion: Portion) -> range | None:
    """The numbers of its pieces; None while nobody knows how the content is cut."""
    geometry = portion.geometry or portion.edition.geometry
    if geometry is None:
        return None
    if portion.interest is None:
        return range(geometry.piece_count)
    end = min(portion.interest.end, geometry.content_length)
    return range(portion.interest.start // geometry.piece_length, -(-end // geometry.piece_length))
