"""Seed peers as values."""

from dataclasses import dataclass

from dragonfly.core.model.units import Seconds
from dragonfly.manager.keep_alive.leases import MemberState

TYPES = ("super", "strong", "weak")  # the last two are the reference's older ones


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedPeer:
    """A seed peer as the manager knows it now; `state` is worked out from its lease."""

    id: int
    hostname: str
    type: str
    ip: str
    port: int
    download_port: int
    idc: str
    location: str
    state: MemberState
    cluster_id: int
    last_keep_alive_at: Seconds

    @property
    def is_active(self) -> bool:
        return self.state is MemberState.ACTIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedPeerRegistration:
    """What a seed peer says of itself at start. None: keep what is known, or nothing at first."""

    hostname: str
    type: str
    ip: str
    port: int
    download_port: int
    cluster_id: int
    idc: str | None = None
    location: str | None = None
