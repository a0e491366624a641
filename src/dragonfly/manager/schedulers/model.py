"""Schedulers as values."""

from dataclasses import dataclass, field

from dragonfly.core.model.units import Seconds
from dragonfly.manager.clusters.model import JsonObject
from dragonfly.manager.keep_alive.leases import DEFAULT_INTERVAL, MemberState

SCHEDULE = "schedule"
PREHEAT = "preheat"
ALL_FEATURES = (SCHEDULE, PREHEAT)

_SHORTEST_INTERVAL, _LONGEST_INTERVAL = 1.0, 60.0  # a member cannot claim to be alive without saying so for longer
_NANOSECONDS = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheduler:
    """A scheduler as the manager knows it now; `state` is worked out from its lease."""

    id: int
    hostname: str
    ip: str
    port: int
    idc: str
    location: str
    state: MemberState
    features: tuple[str, ...]
    cluster_id: int
    last_keep_alive_at: Seconds
    config: JsonObject = field(default_factory=dict)

    @property
    def is_active(self) -> bool:
        return self.state is MemberState.ACTIVE

    def can(self, feature: str) -> bool:
        return feature in self.features


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerRegistration:
    """What a scheduler says of itself at start. None and empty: keep what is known, or the default at first."""

    hostname: str
    ip: str
    port: int
    cluster_id: int
    idc: str | None = None
    location: str | None = None
    features: tuple[str, ...] = ()
    config: JsonObject | None = None


def keep_alive_interval(config: JsonObject) -> Seconds:
    """How often a scheduler with this config sends keepalives. Upstream writes nanoseconds, as Go's durations are."""
    stated = config.get("manager_keep_alive_interval")
    if isinstance(stated, bool) or not isinstance(stated, int | float) or not stated > 0:
        return DEFAULT_INTERVAL
    return min(max(stated / _NANOSECONDS, _SHORTEST_INTERVAL), _LONGEST_INTERVAL)
