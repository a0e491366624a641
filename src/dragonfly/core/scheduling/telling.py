"""Telling the children what pieces hash to: what goes out when, and to whom. Whose word it is stands in witness.py.

A child that was promised the roots is a listener of its edition. It hears at once what is known, then what comes: at
once, too, or, where the listeners were told a moment ago, together with what comes meanwhile. One that reads the origin
itself hears nothing until it is offered parents again.
"""

from collections.abc import Callable

from dragonfly.core.model.units import Bytes, Seconds
from dragonfly.core.scheduling.commands import NoteOtherRoot, TellLength, TellRoots
from dragonfly.core.scheduling.config import SchedulingConfig
from dragonfly.core.scheduling.editions import Edition
from dragonfly.core.scheduling.expiry import Reminders, RootsDue
from dragonfly.core.scheduling.records import Peer, Standing
from dragonfly.core.scheduling.swarm import Swarm
from dragonfly.core.scheduling.witness import can_promise, concede, is_cut_alike, is_witness, witnesses


class RootTeller:
    """The machine's voice for roots; `config` and `now` are the machine's, which sets them."""

    def __init__(
        self,
        config: SchedulingConfig,
        reminders: Reminders,
        do: Callable[[TellRoots | TellLength | NoteOtherRoot], None],
    ) -> None:
        self.config = config
        self.now: Seconds = 0.0
        self._reminders = reminders
        self._do = do

    def promise(self, swarm: Swarm, peer: Peer) -> None:
        """With its first parents a peer is promised the roots, or is not; later ones bring it what it has missed."""
        edition, is_first = peer.edition, not peer.is_offered
        peer.is_offered = True
        if is_first and peer.takes_unasked and can_promise(swarm, peer):
            edition.listeners[peer.id] = 0
            if not len(edition):
                self._do(TellRoots(peer.id, ()))
        self._tell(edition, peer)
        if peer.id in edition.listeners and edition.settled_length is not None:
            self._do(TellLength(peer.id, edition.settled_length))

    def learn(self, swarm: Swarm, source: Peer, number: int, root: bytes) -> None:
        """A source has a piece. A witness's word on it is kept; another's report is heard where no witness is left."""
        if is_witness(swarm, source):
            first = source.edition.root(number)
            if first and root and first != root:
                self._do(NoteOtherRoot(source.id, source.task, number))
            if source.edition.learn(number, root):
                self._spread(swarm, source.edition)
            return
        for edition in swarm.editions.values():
            is_heard = edition.listeners and not source.edition.differs_from(edition) and is_cut_alike(source, edition)
            if is_heard and not self._is_witness_at_work(swarm, edition) and edition.learn(number, b""):
                self._spread(swarm, edition)

    def finish(self, swarm: Swarm, source: Peer, content_length: Bytes | None) -> None:
        """What a witness did not tell of by the time it has all, it had before: no root of that will come.

        Where it learnt how long the content is, the listeners are told that, too.
        """
        if not is_witness(swarm, source):
            return
        edition = source.edition
        if concede(edition, source, has_all=True):
            self._spread(swarm, edition)
        if content_length is not None and edition.settled_length is None:
            edition.settled_length = content_length
            for peer_id in edition.listeners:
                self._do(TellLength(peer_id, content_length))

    def give_up(self, swarm: Swarm) -> bool:
        """Where no witness is at work, what others have and it did not tell of is taken by its checksum.

        Says whether anybody still waits for roots, so that the swarm has to be looked at again.
        """
        waited_for = [edition for edition in swarm.editions.values() if edition.listeners and not edition.is_whole]
        for edition in waited_for:
            if self._is_witness_at_work(swarm, edition):
                continue
            known = len(edition)
            for peer in swarm.providers():
                concede(edition, peer, has_all=peer.standing is Standing.HOLDER)
            if len(edition) > known:
                self._spread(swarm, edition)
        return bool(waited_for)

    def tell_due(self, swarm: Swarm, edition: Edition) -> None:
        """The time has come that was set when there was news shortly after other news."""
        if edition.is_due:
            self._tell_listeners(swarm, edition)

    def _is_witness_at_work(self, swarm: Swarm, edition: Edition) -> bool:
        return any(witnesses(swarm, edition, since=self.now - self.config.source_patience))

    def _spread(self, swarm: Swarm, edition: Edition) -> None:
        """Tell the listeners at once, or, where they were told a moment ago, when that is a moment longer ago."""
        config, listeners = self.config, len(edition.listeners)
        due = edition.told_at + max(config.root_interval, listeners / config.root_message_rate)
        if not listeners or edition.is_due:
            return
        if due <= self.now:
            self._tell_listeners(swarm, edition)
        else:
            edition.is_due = True
            self._reminders.set(due, RootsDue(swarm.description.key, edition.generation))

    def _tell_listeners(self, swarm: Swarm, edition: Edition) -> None:
        edition.told_at, edition.is_due = self.now, False
        for peer_id in edition.listeners:
            peer = swarm.peers[peer_id]
            if peer.standing is not Standing.SOURCE:
                self._tell(edition, peer)

    def _tell(self, edition: Edition, peer: Peer) -> None:
        """What a listener was not told yet."""
        told = edition.listeners.get(peer.id)
        if told is None or told == len(edition):
            return
        edition.listeners[peer.id] = len(edition)
        for roots in edition.since(told):
            self._do(TellRoots(peer.id, roots))
