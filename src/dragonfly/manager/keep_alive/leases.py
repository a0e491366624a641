"""Leases: when a member of a cluster counts as active.

A member (a scheduler or a seed peer) holds a lease that every keepalive renews. It is active while its last renewal is
at most MISSED_INTERVALS keepalive intervals old – worked out when somebody asks, so a member that hangs is out after
three missed keepalives without anyone sweeping. One that takes leave, its stream ending, is out at once.

    registered ──► active ──(silent for 3 intervals, or its stream ends)──► inactive ──(next keepalive)──► active

Who ends whom. A member that reconnects has, for a while, two streams: the old one that nobody has noticed to be dead,
and the new one, perhaps at another manager. The lease therefore names the stream that holds it. The newest stream takes
it over; the end of a stream ends the lease only where that stream still holds it. In the table this is one conditional
update, so it is right across managers as well.

Writing down. Thousands of members renew every few seconds; each renewal is a note here, and `pending` hands all notes
over for one transaction. Reading looks at both: `current` lays the notes over the row. Notes outlive their being
written by one round, so that a reader who fetched its rows just before the commit still sees them.

Clocks. Renewals are stamped by the manager that hears them. A stamp from the future (another manager's clock, or ours
set back) counts like one as far in the past: neither can keep a dead member alive for longer than its lease.

Invariants: a note belongs to a member of this process's streams; the holder of a member is its newest stream here.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from dragonfly.core.model.units import Seconds
from dragonfly.errors import RecordUnknown

DEFAULT_INTERVAL: Seconds = 5.0  # upstream: keepalive interval of schedulers and seed peers
MISSED_INTERVALS = 3


class MemberKind(StrEnum):
    """What can be a member of a cluster."""

    SCHEDULER = "scheduler"
    SEED_PEER = "seed peer"


class MemberState(StrEnum):
    """The words of the table and of the wire."""

    ACTIVE = "active"
    INACTIVE = "inactive"


@dataclass(frozen=True, slots=True)
class Member:
    """Whose lease; `id` is that of its row."""

    kind: MemberKind
    id: int


@dataclass(frozen=True, slots=True)
class Lease:
    """A member's lease as its row, or a note, has it. `stream` is None until a stream takes it."""

    state: MemberState
    renewed_at: Seconds
    stream: str | None = None
    interval: Seconds = DEFAULT_INTERVAL

    def is_active(self, now: Seconds) -> bool:
        return self.state is MemberState.ACTIVE and abs(now - self.renewed_at) <= MISSED_INTERVALS * self.interval

    def state_at(self, now: Seconds) -> MemberState:
        return MemberState.ACTIVE if self.is_active(now) else MemberState.INACTIVE


@dataclass(frozen=True, slots=True)
class Renewal:
    """A keepalive of `stream`, to be written into the member's row whatever it says."""

    at: Seconds
    stream: str


@dataclass(frozen=True, slots=True)
class Notes:
    """What is to be written, renewals before endings; an ending (its stream) counts only where that stream holds."""

    renewals: Mapping[Member, Renewal]
    endings: Mapping[Member, str]

    def __bool__(self) -> bool:
        return bool(self.renewals or self.endings)


class Leases:
    """The streams of this process and what they said that is not written down yet. No clock, no database."""

    def __init__(self) -> None:
        self._holders: dict[Member, str] = {}
        self._renewals: dict[Member, Renewal] = {}
        self._endings: dict[Member, str] = {}
        self._written = Notes({}, {})
        self._gone: set[Member] = set()

    def open(self, member: Member, stream: str, now: Seconds) -> None:
        """A new stream takes the member's lease over and renews it."""
        self._gone.discard(member)
        self._holders[member] = stream
        self._renewals[member] = Renewal(now, stream)

    def renew(self, member: Member, stream: str, now: Seconds) -> None:
        """A keepalive arrived; from an older stream it counts for the newest. Raises RecordUnknown without a row."""
        if member in self._gone:
            raise RecordUnknown(noun=member.kind, name=f"with id {member.id} any more; register again")
        self._renewals[member] = Renewal(now, self._holders.setdefault(member, stream))

    def close(self, member: Member, stream: str) -> None:
        """A stream ended; the lease with it, unless a newer stream took over."""
        if self._holders.get(member) != stream:
            return
        del self._holders[member]
        if member not in self._gone:
            self._endings[member] = stream
        self._gone.discard(member)

    def forget(self, members: Iterable[Member]) -> None:
        """Their rows are gone: drop what is noted, refuse what their streams still say."""
        for member in members:
            self._renewals.pop(member, None)
            self._endings.pop(member, None)
            if member in self._holders:
                self._gone.add(member)

    def current(self, member: Member, row: Lease) -> Lease:
        """The lease with what is noted but not, or only just, written into its row."""
        lease = row
        renewal = self._renewals.get(member) or self._written.renewals.get(member)
        if renewal is not None and renewal.at >= row.renewed_at:
            lease = replace(row, state=MemberState.ACTIVE, renewed_at=renewal.at, stream=renewal.stream)
        ending = self._endings.get(member) or self._written.endings.get(member)
        if ending is not None and ending == lease.stream:
            return replace(lease, state=MemberState.INACTIVE)
        return lease

    def pending(self) -> Notes:
        """What is to be written now; the notes stay until `written` says they are."""
        return Notes(dict(self._renewals), dict(self._endings))

    def written(self, notes: Notes) -> None:
        """`notes` are in the table; they are kept for readers until the next round, newer ones for the next writing."""
        for member, renewal in notes.renewals.items():
            if self._renewals.get(member) is renewal:
                del self._renewals[member]
        for member, stream in notes.endings.items():
            if self._endings.get(member) == stream:
                del self._endings[member]
        self._written = notes
