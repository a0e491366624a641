"""The scheduler's machine: events in, commands out.

What it promises, and `check_invariants` checks:

- every peer that was told to fetch stands on a chain of backbone parents without a cycle, which ends at a holder, at a
  source, or at a peer that is owed an answer or will ask again (records.py has the standings);
- for each part of a task that nobody holds, one flight to the origin at a time: a seed peer, else one waiting peer; all
  others wait and are fed as soon as it starts. What counts as a flight, and who may fly next, is in seeding.py;
- nobody is offered a parent of another generation of the content;
- who was promised the roots of pieces is told the root of every piece a parent of it may have, or that there is none;
  whose word that is, and to whom it is promised, is in witness.py;
- a peer that waits is looked at again when a source starts, somebody finishes, or a flight ends, and by the clock;
- a stream gets at most `answer_limit` answers, the last of which settles the matter;
- a peer that ended is forgotten at once, and no later command names it.

Peers' states move along the tables of core/model; an event that a table does not know, or that names an unknown peer,
changes nothing: messages cross on the wire. Within one call of `handle` the time is `self._now`.
"""

from collections.abc import Callable, Iterable
from itertools import count
from random import Random
from typing import Any

from dragonfly.core.model.host import Host
from dragonfly.core.model.ids import HostId, PeerId, TaskKey
from dragonfly.core.model.peer import PeerState, PeerStep
from dragonfly.core.model.piece import MAX_PIECE_COUNT, PieceGeometry
from dragonfly.core.model.ranges import ByteRange
from dragonfly.core.model.task import HeldTask, Priority, SizeScope, TaskStep
from dragonfly.core.model.units import Seconds
from dragonfly.core.scheduling import events as happened
from dragonfly.core.scheduling.candidates import Selector
from dragonfly.core.scheduling.commands import (
    CallAgainAt,
    CloseStream,
    Command,
    OfferBackToSource,
    OfferEmpty,
    OfferMetadataOnly,
    OfferParents,
    RefusePeer,
    TriggerSeedPeer,
)
from dragonfly.core.scheduling.config import SchedulingConfig
from dragonfly.core.scheduling.dag import can_carry, drop_parents, link, unlink
from dragonfly.core.scheduling.evaluator import Evaluator, WeightedEvaluator
from dragonfly.core.scheduling.expiry import HostReview, Reminders, RootsDue, Subject, SwarmRecheck
from dragonfly.core.scheduling.held import held_peer_id, is_held_peer_id
from dragonfly.core.scheduling.invariants import check
from dragonfly.core.scheduling.records import HostRecord, Peer, SeedCall, Standing
from dragonfly.core.scheduling.seeding import (
    Decision,
    GoToSource,
    Refuse,
    Wait,
    WakeSeed,
    decide,
    is_last_answer,
    seed_to_wake,
)
from dragonfly.core.scheduling.swarm import Swarm
from dragonfly.core.scheduling.telling import RootTeller
from dragonfly.errors import DownloadForbidden, DragonflyError, HostUnknown, InvalidIdentifier

BACKBONE_SAMPLE_SIZE = 4  # a crowd is tied into the backbone first; its exchange edges come from whole samples


class Scheduler:
    """All hosts, tasks and peers one scheduler knows, and what to tell them next."""

    def __init__(self, config: SchedulingConfig, rng: Random, evaluator: Evaluator | None = None) -> None:
        self.config = config
        self.hosts: dict[HostId, HostRecord] = {}
        self.swarms: dict[TaskKey, Swarm] = {}
        self.peers: dict[PeerId, Peer] = {}
        self._rng = rng
        self._plugin = evaluator
        self._selector = Selector(rng, evaluator or WeightedEvaluator(config.weights))
        self._seeds: dict[HostId, HostRecord] = {}
        self._reminders = Reminders()
        self._teller = RootTeller(config, self._reminders, self._do)
        self._call_numbers = count(1)
        self._called_for: Seconds | None = None  # the earliest CallAgainAt that is still to come
        self._now: Seconds = 0.0
        self._commands: list[Command] = []
        self._handlers: dict[type[happened.Event], Callable[[Any], None]] = {
            happened.HostAnnounced: self._host_announced,
            happened.HostLeft: self._host_left,
            happened.TasksHeld: self._tasks_held,
            happened.PeerRegistered: self._peer_registered,
            happened.PeerStarted: self._peer_started,
            happened.PeerBackToSourceStarted: self._peer_back_to_source_started,
            happened.PieceFinished: self._piece_finished,
            happened.PieceFailed: self._piece_failed,
            happened.PieceBackToSourceFailed: self._piece_back_to_source_failed,
            happened.PeerRescheduled: self._peer_rescheduled,
            happened.PeerFinished: self._peer_finished,
            happened.PeerBackToSourceFinished: self._peer_finished,
            happened.PeerFailed: self._peer_failed,
            happened.PeerBackToSourceFailed: self._peer_failed,
            happened.PeerLeft: self._peer_left,
            happened.PeerDeleted: self._peer_deleted,
            happened.TaskDeleted: self._task_deleted,
            happened.SeedTriggerFailed: self._seed_trigger_failed,
            happened.ConfigChanged: self._config_changed,
            happened.TimeReached: self._time_reached,
        }
        self._due: dict[type[Subject], Callable[[Any], None]] = {
            HostReview: self._review_host,
            SwarmRecheck: self._recheck,
            RootsDue: self._tell_due_roots,
        }

    def handle(self, event: happened.Event, now: Seconds) -> list[Command]:
        """Take in what happened at `now` (never earlier than before) and return what to do about it, in order."""
        self._now, self._commands = now, []
        self._teller.now = now
        self._handlers[type(event)](event)
        self._ask_for_time()
        return self._commands

    def check_invariants(self) -> None:
        """Raise AssertionError where the promises above do not hold. For tests: it looks at everything."""
        check(self.hosts, self.swarms, self.peers)

    # --- hosts

    def _host_announced(self, event: happened.HostAnnounced) -> None:
        host, interval = event.host, event.interval or self.config.default_announce_interval
        record = self.hosts.get(host.id)
        if record is None:
            record = self.hosts[host.id] = HostRecord(host)
            self._reminders.set(self._now + interval, HostReview(host.id))
        record.update(host)
        record.interval = interval
        record.silent_at = self._now + self.config.missed_announcements * interval
        record.upload_limit = self._upload_limit(record)
        for peer in record.peers.values():
            peer.offer = None
            self.swarms[peer.task].refresh(peer)
        self._seeds.pop(host.id, None)
        if record.is_seed and record.shares:
            self._seeds[host.id] = record

    def _upload_limit(self, record: HostRecord) -> int:
        return self.config.seed_upload_limit if record.is_seed else self.config.peer_upload_limit

    def _host_left(self, event: happened.HostLeft) -> None:
        self._lose_host(event.host_id, "its host left")

    def _lose_host(self, host_id: HostId, reason: str) -> None:
        record = self.hosts.pop(host_id, None)
        if record is None:
            return
        self._seeds.pop(host_id, None)
        touched = {peer.task: self.swarms[peer.task] for peer in record.peers.values()}
        for peer in list(record.peers.values()):
            self._end(peer, PeerStep.LEAVE, close=True)
        for key, swarm in self.swarms.items() if record.is_seed else ():
            for call in swarm.calls_to(host_id):
                self._give_up_seed(swarm, call, reason)
                touched[key] = swarm
        for swarm in touched.values():
            self._settle(swarm)

    def _healthy_seeds(self) -> list[Host]:
        return [record.host for record in self._seeds.values() if record.silent_at > self._now]

    def _tasks_held(self, event: happened.TasksHeld) -> None:
        record = self.hosts.get(event.host_id)
        if record is not None:
            for held in event.tasks:
                self._task_held(record, held)

    def _task_held(self, record: HostRecord, held: HeldTask) -> None:
        """Have a holder stand for the host's copy, unless a peer of the host has to do with the task already."""
        key = held.task.key
        peer_id, swarm = held_peer_id(record.id, key), self.swarms.get(key)
        registration = happened.PeerRegistered(
            peer_id=peer_id, host_id=record.id, task=held.task, generation=held.generation
        )
        known = self.peers.get(peer_id) or (swarm.held_by.get(record.id) if swarm is not None else None)
        if known is not None:
            if not _is_other(registration, known):
                return
            self._end(known, PeerStep.LEAVE)
        peer = self._admit(registration, record)
        swarm = self.swarms[key]
        swarm.step(TaskStep.DOWNLOAD, self._now)
        swarm.step(TaskStep.SUCCEED, self._now)
        peer.step(PeerStep.REGISTER_NORMAL)
        peer.step(PeerStep.SUCCEED)
        swarm.stand(peer, Standing.HOLDER)
        self._ground(swarm, peer)
        self._settle(swarm)

    # --- a peer asks

    def _peer_registered(self, event: happened.PeerRegistered) -> None:
        host = self.hosts.get(event.host_id)
        if host is None:
            self._do(RefusePeer(event.peer_id, HostUnknown(host_id=event.host_id)))
            return
        known = self.peers.get(event.peer_id)
        is_taken = known is not None and (known.host is not host or known.task != event.task.key)
        if is_taken or is_held_peer_id(event.peer_id):
            self._do(RefusePeer(event.peer_id, InvalidIdentifier(kind="peer id", text=event.peer_id)))
            return
        if known is not None:  # its client lost the stream and opened another one
            self._end(known, PeerStep.LEAVE)
        is_ended = self._disown(event) or known is not None
        if event.priority is Priority.LEVEL1:
            reason = "its priority, LEVEL1, forbids downloads"
            self._do(RefusePeer(event.peer_id, DownloadForbidden(reason=reason)))
        else:
            peer = self._admit(event, host)
            is_ended |= self._end_calls(self.swarms[peer.task], peer)
            self._welcome(self.swarms[peer.task], peer)
        if is_ended and event.task.key in self.swarms:
            self._settle(self.swarms[event.task.key])

    def _disown(self, event: happened.PeerRegistered) -> bool:
        """End the peers that stand for what the host no longer has; whether there were any.

        A host that asks for the whole task has lost its whole copy, and one that names another generation of the
        content has dropped what it had of the former.
        """
        swarm, host = self.swarms.get(event.task.key), self.hosts[event.host_id]
        if swarm is None:
            return False
        whole = swarm.held_by.get(event.host_id)
        lost = [whole] if whole is not None and not event.metadata_only and event.interest is None else []
        if any(generation != event.generation for generation in swarm.editions):
            mine = (peer for peer in swarm.holders.values() if peer.host is host and peer not in lost)
            lost += [peer for peer in mine if _is_other(event, peer)]
        for peer in lost:
            self._end(peer, PeerStep.LEAVE)
        return bool(lost)

    def _admit(self, event: happened.PeerRegistered, host: HostRecord) -> Peer:
        key, now = event.task.key, self._now
        swarm = self.swarms.get(key)
        if swarm is None:
            swarm = self.swarms[key] = Swarm(event.task, now)
        swarm.describe(event.task)
        edition = swarm.edition(event.generation, event.task.geometry)
        geometry = event.task.geometry
        if geometry is None or geometry == edition.geometry:
            geometry = edition.geometry  # one object for all, so that equality costs nothing
        if geometry is None and not event.generation:
            geometry = swarm.description.geometry
        peer = Peer(
            id=event.peer_id,
            host=host,
            task=key,
            priority=event.priority,
            edition=edition,
            geometry=geometry,
            interest=_widened(event.interest, geometry),
            need_back_to_source=event.need_back_to_source,
            disable_back_to_source=event.disable_back_to_source,
            metadata_only=event.metadata_only,
            takes_unasked=event.takes_unasked,
            created_at=now,
            touched_at=now,
        )
        self.peers[peer.id] = peer
        swarm.admit(peer)
        self._touch(peer)
        return peer

    def _welcome(self, swarm: Swarm, peer: Peer) -> None:
        """The first answer, if there is one to give yet."""
        swarm.step(TaskStep.DOWNLOAD, self._now)
        if SizeScope.of(peer.geometry) is SizeScope.EMPTY:
            peer.step(PeerStep.REGISTER_EMPTY)
            swarm.stand(peer, Standing.APART)
            self._answer(peer, OfferEmpty(peer.id))
        elif peer.metadata_only:
            peer.step(PeerStep.REGISTER_NORMAL)
            swarm.stand(peer, Standing.SOURCE)
            self._answer(peer, OfferMetadataOnly(peer.id))
        else:
            peer.step(PeerStep.REGISTER_NORMAL)
            self._place(swarm, peer)

    def _peer_rescheduled(self, event: happened.PeerRescheduled) -> None:
        peer = self._known(event.peer_id)
        if peer is None or peer.state not in (PeerState.RECEIVED_NORMAL, PeerState.RUNNING, PeerState.BACK_TO_SOURCE):
            return
        swarm = self.swarms[peer.task]
        peer.blocked.update(parent_id for parent_id in event.parents if parent_id in swarm.peers)
        peer.reason = event.reason
        was_source = peer.standing is Standing.SOURCE
        drop_parents(peer)
        self._place(swarm, peer)
        if was_source or peer.standing is Standing.GONE:
            self._settle(swarm)

    def _place(self, swarm: Swarm, peer: Peer) -> None:
        """Feed the peer if somebody can, else decide what becomes of it."""
        swarm.stand(peer, Standing.WAITING)
        peer.is_sent_to_source = False
        if self._may_be_fed(swarm, peer):
            config = self.config
            selection = self._selector.select(
                swarm, peer, count=config.candidate_parent_limit, sample_size=config.sample_size, now=self._now
            )
            if selection.parents:
                self._attach(swarm, peer, selection.parents)
                self._offer(swarm, peer)
                return
            peer.reason = "; ".join(filter(None, (peer.reason, selection.explanation)))
        self._decide(swarm, peer)

    def _may_be_fed(self, swarm: Swarm, peer: Peer) -> bool:
        """Whether parents are an answer for it: it can still ask once more, and was not told to read the origin."""
        if is_last_answer(peer, self.config):
            return False
        if peer.need_back_to_source and peer.may_go_to_source:
            return any(holder.slot >= 0 and holder.covers(peer) for holder in swarm.holders.values())
        return True

    def _decide(self, swarm: Swarm, peer: Peer) -> None:
        """For a waiting peer nobody can feed now."""
        decision: Decision = decide(swarm, peer, self._healthy_seeds(), self._now, self.config)
        match decision:
            case Wait():
                self._recheck_within(swarm, self.config.source_patience)
            case WakeSeed(host):
                self._wake(swarm, host, peer)
            case GoToSource():
                self._send_to_source(swarm, peer)
            case Refuse(error):
                self._refuse(peer, error)

    # --- answers

    def _do(self, command: Command) -> None:
        self._commands.append(command)

    def _answer(self, peer: Peer, command: Command) -> None:
        peer.answers += 1
        self._commands.append(command)

    def _attach(self, swarm: Swarm, peer: Peer, parents: Iterable[Peer]) -> None:
        """Make the first the backbone parent (if the peer has none) and all of them parents."""
        for parent in parents:
            if peer.backbone is None:
                peer.backbone = parent
            if parent.id not in peer.parents:
                link(parent, peer)
        swarm.stand(peer, Standing.FED)
        self._ground(swarm, peer)

    def _offer(self, swarm: Swarm, peer: Peer) -> None:
        self._teller.promise(swarm, peer)
        if not peer.edition.is_whole and peer.id in peer.edition.listeners:
            self._recheck_within(swarm, self.config.source_patience)
        offered = tuple(parent.as_parent(swarm.description) for parent in peer.parents.values())
        self._answer(peer, OfferParents(peer.id, offered))

    def _send_to_source(self, swarm: Swarm, peer: Peer) -> None:
        peer.touched_at = self._now
        peer.is_sent_to_source = True
        swarm.stand(peer, Standing.SOURCE)
        reason = "; ".join(filter(None, (swarm.failure, peer.reason))) or "no other peer has it"
        self._answer(peer, OfferBackToSource(peer.id, reason))
        self._ground(swarm, peer)

    def _refuse(self, peer: Peer, error: DragonflyError) -> None:
        self._do(RefusePeer(peer.id, error))
        self._end(peer, PeerStep.FAIL)
        self._forget_if_empty(self.swarms[peer.task])

    # --- seeds

    def _wake(self, swarm: Swarm, host: Host, requester: Peer) -> None:
        timeout = self.config.seed_register_timeout
        call = SeedCall(
            edition=requester.edition,
            geometry=requester.geometry,
            interest=requester.interest,
            number=next(self._call_numbers),
            host=host,
            until=self._now + timeout,
        )
        swarm.call(call)
        self._recheck_within(swarm, timeout)
        self._do(TriggerSeedPeer(swarm.description, host, requester.id, call.interest, call.number))

    def _end_calls(self, swarm: Swarm, peer: Peer) -> bool:
        """A seed that was woken came: for what it was woken for, or with another version of the content than that.

        Says whether it was the latter for anybody: they have to be answered otherwise.
        """
        is_any_given_up = False
        for call in swarm.calls_to(peer.host.id) if peer.need_back_to_source or peer.metadata_only else ():
            if peer.covers(call):
                swarm.end_call(call)
            elif peer.edition.differs_from(call.edition) or peer.interest is None:
                self._give_up_seed(swarm, call, "it has another version of the content")
                is_any_given_up = True
        return is_any_given_up

    def _seed_trigger_failed(self, event: happened.SeedTriggerFailed) -> None:
        swarm = self.swarms.get(event.task)
        if swarm is None:
            return
        for call in swarm.calls_to(event.host_id):
            if call.number == event.call:
                self._give_up_seed(swarm, call, event.reason)
                self._settle(swarm)

    def _give_up_seed(self, swarm: Swarm, call: SeedCall, reason: str) -> None:
        swarm.end_call(call)
        swarm.failed_seeds[call.host.id] = self._now
        swarm.failure = f"seed peer {call.host.id}: {reason}"

    # --- a peer reports

    def _peer_started(self, event: happened.PeerStarted) -> None:
        peer = self._known(event.peer_id)
        if peer is not None:
            peer.step(PeerStep.DOWNLOAD)

    def _peer_back_to_source_started(self, event: happened.PeerBackToSourceStarted) -> None:
        """Now it serves: whoever waits may be fed. A client may have decided so by itself, which is as good."""
        peer = self._known(event.peer_id)
        if peer is None or not peer.step(PeerStep.DOWNLOAD_BACK_TO_SOURCE):
            return
        swarm = self.swarms[peer.task]
        drop_parents(peer)
        swarm.stand(peer, Standing.SOURCE)
        self._ground(swarm, peer)
        self._settle(swarm)

    def _piece_finished(self, event: happened.PieceFinished) -> None:
        peer = self._known(event.peer_id)
        if peer is None or not self._has_piece(peer, event.number):
            return
        peer.pieces.add(event.number)
        if event.parent_id is None and peer.standing is Standing.SOURCE:
            self._teller.learn(self.swarms[peer.task], peer, event.number, event.root)
        parent = peer.parents.get(event.parent_id) if event.parent_id is not None else None
        if parent is not None:
            self._touch(parent)

    def _has_piece(self, peer: Peer, number: int) -> bool:
        """Whether the task has such a piece, as far as its geometry is known; a number is hostile input."""
        geometry = peer.geometry or peer.edition.geometry
        return 0 <= number < (geometry.piece_count if geometry else MAX_PIECE_COUNT)

    def _piece_failed(self, event: happened.PieceFailed) -> None:
        """Only a parent the peer was offered can be complained of, and only once for each host that complains."""
        peer = self._known(event.peer_id)
        parent = peer.parents.get(event.parent_id) if peer is not None else None
        if peer is None or parent is None or not event.temporary:
            return
        peer.blocked.add(parent.id)
        config, now = self.config, self._now
        recent = {host_id: at for host_id, at in parent.complaints.items() if at > now - config.complaint_window}
        parent.complaints = recent | {peer.host.id: now}
        if len(parent.complaints) >= config.complaint_limit:
            parent.isolated_until, parent.complaints = now + config.isolation, {}
            self._recheck_within(self.swarms[peer.task], config.isolation)

    def _piece_back_to_source_failed(self, event: happened.PieceBackToSourceFailed) -> None:
        peer = self._known(event.peer_id)
        if peer is not None:
            self.swarms[peer.task].failure = _failure_of(peer, event.description)

    def _peer_finished(self, event: happened.PeerFinished | happened.PeerBackToSourceFinished) -> None:
        peer = self._known(event.peer_id)
        if peer is None or not peer.step(PeerStep.SUCCEED):
            return
        swarm = self.swarms[peer.task]
        self._do(CloseStream(peer.id))
        drop_parents(peer)
        length = event.content_length if isinstance(event, happened.PeerBackToSourceFinished) else None
        self._teller.finish(swarm, peer, length)
        if peer.interest is None:
            swarm.step(TaskStep.SUCCEED, self._now)
            swarm.failure = ""
        if peer.standing is not Standing.APART:
            self._hold(swarm, peer)
            self._settle(swarm)

    def _hold(self, swarm: Swarm, peer: Peer) -> None:
        """It has what it wanted, and serves it. For one copy one peer stands: that which more of the others know."""
        former = swarm.held_by.get(peer.host.id) if peer.interest is None else None
        if former is not None and len(former.children) >= len(peer.children):
            self._end(peer, PeerStep.LEAVE)
            return
        swarm.stand(peer, Standing.HOLDER)
        self._ground(swarm, peer)
        if former is not None:
            self._end(former, PeerStep.LEAVE)

    def _peer_failed(self, event: happened.PeerFailed | happened.PeerBackToSourceFailed) -> None:
        peer = self._known(event.peer_id)
        if peer is None:
            return
        swarm = self.swarms[peer.task]
        if peer.standing is Standing.SOURCE:
            self._note_source_failure(swarm, peer, event.description)
        self._end(peer, PeerStep.FAIL, close=True)
        self._settle(swarm)

    def _note_source_failure(self, swarm: Swarm, peer: Peer, description: str) -> None:
        """Keep the reason for whoever goes next; a failed piece may have brought a more telling one already."""
        if description or not swarm.failure:
            swarm.failure = _failure_of(peer, description or "its attempt at the origin failed")
        if peer.host.is_seed:
            swarm.failed_seeds[peer.host.id] = self._now

    # --- a peer goes

    def _peer_left(self, event: happened.PeerLeft) -> None:
        peer = self._known(event.peer_id)
        if peer is None or peer.state is PeerState.SUCCEEDED:
            return
        self._leave(peer, close=False)

    def _peer_deleted(self, event: happened.PeerDeleted) -> None:
        peer = self._known(event.peer_id)
        if peer is not None:
            self._leave(peer, close=True)

    def _task_deleted(self, event: happened.TaskDeleted) -> None:
        """A host dropped its copy. One that had only just announced it did not fail at the origin by that."""
        record = self.hosts.get(event.host_id)
        for peer in list(record.peers.values()) if record else ():
            if peer.task == event.task:
                self._leave(peer, close=True, failed=not peer.metadata_only)

    def _leave(self, peer: Peer, *, close: bool, failed: bool = True) -> None:
        """The peer is gone; `failed` what it was doing at the origin, if it was there."""
        swarm = self.swarms[peer.task]
        if failed and peer.standing is Standing.SOURCE:
            self._note_source_failure(swarm, peer, "")
        self._end(peer, PeerStep.LEAVE, close=close)
        self._settle(swarm)

    def _end(self, peer: Peer, step: PeerStep, *, close: bool = False) -> None:
        """Forget the peer; its children turn to the other parents they know. Whoever calls settles the swarm."""
        if close and peer.state is not PeerState.SUCCEEDED:  # the stream of a peer that finished is closed already
            self._do(CloseStream(peer.id))
        swarm = self.swarms[peer.task]
        was_source = peer.standing is Standing.SOURCE
        peer.step(step)
        del self.peers[peer.id]
        swarm.stand(peer, Standing.GONE)
        drop_parents(peer)
        self._part_from_children(swarm, peer)
        if step is PeerStep.FAIL and was_source and not swarm.holders and not swarm.sources:
            swarm.step(TaskStep.FAIL, self._now)

    def _part_from_children(self, swarm: Swarm, peer: Peer) -> None:
        orphans = []
        for child in list(peer.children.values()):
            unlink(peer, child)
            if child.backbone is peer:
                child.backbone = None
                swarm.stand(child, Standing.STRANDED)
                orphans.append(child)
        while True:  # one that finds a new chain may carry another one, so try until nobody does
            stranded = [child for child in orphans if not self._find_backbone(swarm, child)]
            if len(stranded) == len(orphans) or not stranded:
                break
            orphans = stranded
        self._owe_answers(swarm, stranded)

    def _owe_answers(self, swarm: Swarm, stranded: list[Peer]) -> None:
        """Peers that feed each other would wait for ever for what none of them has; answer those that listen."""
        for peer in stranded:
            if peer.takes_unasked:
                swarm.stand(peer, Standing.WAITING)
                self._recheck_within(swarm, self.config.source_patience)

    def _find_backbone(self, swarm: Swarm, child: Peer) -> bool:
        """Whether one of the parents the child was offered can take over the backbone."""
        if child.standing is not Standing.STRANDED:
            return True
        for parent in child.parents.values():
            if (
                parent.slot >= 0
                and parent.id not in child.blocked
                and parent.covers(child)
                and can_carry(parent, child)
            ):
                child.backbone = parent
                swarm.stand(child, Standing.FED)
                return True
        return False

    def _ground(self, swarm: Swarm, peer: Peer) -> None:
        """`peer` leads to the content now: children stranded below it stand on it again, and theirs on them."""
        if not swarm.stranded or peer.slot < 0:
            return
        pending = [peer]
        while pending:
            parent = pending.pop()
            for child in parent.children.values():
                if child.standing is Standing.STRANDED and parent.id not in child.blocked and parent.covers(child):
                    child.backbone = parent
                    swarm.stand(child, Standing.FED)
                    pending.append(child)

    # --- those who wait

    def _settle(self, swarm: Swarm) -> None:
        """Give every waiting peer what it can have now, and see to it that somebody fetches what they wait for."""
        self._feed_waiting(swarm)
        # First those who may go to the origin, seeds above all: with one of them on the way the others can wait.
        for peer in sorted(swarm.waiting.values(), key=lambda peer: (not peer.host.is_seed, not peer.may_go_to_source)):
            if peer.standing is Standing.WAITING:
                self._decide(swarm, peer)
        self._wake_for_stranded(swarm)
        if self._teller.give_up(swarm):
            self._recheck_within(swarm, self.config.source_patience)
        self._forget_if_empty(swarm)

    def _feed_waiting(self, swarm: Swarm) -> None:
        """Tie the crowd into the backbone first, so that all of it can be offered to each other afterwards."""
        if not swarm.ready:
            return
        config, fed = self.config, []
        for peer in [peer for peer in swarm.waiting.values() if self._may_be_fed(swarm, peer)]:
            selection = self._selector.select(swarm, peer, count=1, sample_size=BACKBONE_SAMPLE_SIZE, now=self._now)
            if selection.parents:
                self._attach(swarm, peer, selection.parents)
                fed.append(peer)
        for peer in fed:
            selection = self._selector.select(
                swarm, peer, count=config.candidate_parent_limit, sample_size=config.sample_size, now=self._now
            )
            self._attach(swarm, peer, selection.parents)
            self._offer(swarm, peer)

    def _wake_for_stranded(self, swarm: Swarm) -> None:
        """Peers that lost the chain to the content ask again once they run dry; have a seed at work by then."""
        seen = set()
        for peer in swarm.stranded.values():
            wanted = (peer.generation, peer.geometry, peer.interest)
            if not peer.wakes_seed or wanted in seen:
                continue
            seen.add(wanted)
            if any(provider.covers(peer) for provider in swarm.providers()):
                continue
            seed = seed_to_wake(swarm, peer, self._healthy_seeds(), self._now, self.config)
            if seed is not None:
                self._wake(swarm, seed, peer)

    # --- time

    def _known(self, peer_id: PeerId) -> Peer | None:
        """The peer, noted as alive together with its host; None if it is unknown or ended."""
        peer = self.peers.get(peer_id)
        if peer is not None:
            self._touch(peer)
        return peer

    def _touch(self, peer: Peer) -> None:
        now, host = self._now, peer.host
        peer.touched_at = now
        host.silent_at = max(host.silent_at, now + self.config.missed_announcements * host.interval)

    def _time_reached(self, event: happened.TimeReached) -> None:
        self._called_for = None
        while (subject := self._reminders.pop_due(self._now)) is not None:
            self._due[type(subject)](subject)

    def _ask_for_time(self) -> None:
        at = self._reminders.next_at
        if at is not None and (self._called_for is None or at < self._called_for):
            self._called_for = at
            self._do(CallAgainAt(at))

    def _recheck_within(self, swarm: Swarm, seconds: Seconds) -> None:
        at = self._now + seconds
        if swarm.recheck_at is None or at < swarm.recheck_at:
            swarm.recheck_at = at
            self._reminders.set(at, SwarmRecheck(swarm.description.key))

    def _recheck(self, subject: SwarmRecheck) -> None:
        swarm = self.swarms.get(subject.task)
        if swarm is None or swarm.recheck_at is None or swarm.recheck_at > self._now:
            return
        swarm.recheck_at = None
        for call in list(swarm.calls.values()):
            if call.until <= self._now:
                self._give_up_seed(swarm, call, "it did not start in time")
            else:
                self._recheck_within(swarm, call.until - self._now)
        self._settle(swarm)

    def _tell_due_roots(self, subject: RootsDue) -> None:
        swarm = self.swarms.get(subject.task)
        edition = swarm.editions.get(subject.generation) if swarm is not None else None
        if swarm is not None and edition is not None:
            self._teller.tell_due(swarm, edition)

    def _review_host(self, subject: HostReview) -> None:
        """Once in each interval of the host: is it silent, and are any of its peers idle?"""
        record = self.hosts.get(subject.host_id)
        if record is None:
            return
        if record.silent_at <= self._now:
            self._lose_host(subject.host_id, "its host fell silent")
            return
        for peer in [peer for peer in record.peers.values() if self._is_idle(peer)]:
            self._leave(peer, close=True)
        self._reminders.set(min(record.silent_at, self._now + record.interval), subject)

    def _is_idle(self, peer: Peer) -> bool:
        """Whether it shows no life for too long; one that is owed an answer has a right to be quiet."""
        is_holder = peer.state is PeerState.SUCCEEDED
        limit = self.config.holder_idle_timeout if is_holder else self.config.stall_timeout
        return peer.standing is not Standing.WAITING and peer.touched_at + limit <= self._now

    def _forget_if_empty(self, swarm: Swarm) -> None:
        """Drop a task without peers, but remember for a while which seeds failed it."""
        if swarm.peers or swarm.calls:
            return
        swarm.step(TaskStep.LEAVE, self._now)
        remembered_until = max(swarm.failed_seeds.values(), default=self._now) + self.config.seed_failure_memory
        if swarm.failed_seeds and remembered_until > self._now:
            self._recheck_within(swarm, remembered_until - self._now)
        else:
            self.swarms.pop(swarm.description.key, None)

    def _config_changed(self, event: happened.ConfigChanged) -> None:
        self.config = self._teller.config = event.config
        self._selector = Selector(self._rng, self._plugin or WeightedEvaluator(event.config.weights))
        for record in self.hosts.values():
            record.upload_limit = self._upload_limit(record)


def _failure_of(peer: Peer, description: str) -> str:
    who = "seed peer" if peer.host.is_seed else "peer"
    return f"{who} {peer.host.id}: {description}"


def _is_other(event: happened.PeerRegistered, held: Peer) -> bool:
    """Whether the content of a registration is known to be another than that of an older peer."""
    return bool(event.generation and held.generation) and event.generation != held.generation


def _widened(interest: ByteRange | None, geometry: PieceGeometry | None) -> ByteRange | None:
    """A part, widened to whole pieces where the cut is known; None where that is all there is."""
    if interest is None or geometry is None or interest.start >= geometry.content_length:
        return interest
    length = geometry.piece_length
    start = interest.start // length * length
    end = min(-(-interest.end // length) * length, geometry.content_length)
    return None if end - start == geometry.content_length else ByteRange(start, end - start)
