"""Clusters as values. Their configs are JSON objects that members read; the manager passes them on as they are."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from dragonfly.core.placement.clusters import Scopes

JsonObject = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerCluster:
    """Schedulers that share tasks, and the limits of the peers they serve."""

    id: int
    name: str
    bio: str = ""
    config: JsonObject = field(default_factory=dict)  # candidate_parent_limit, filter_parent_limit, job_rate_limit
    client_config: JsonObject = field(default_factory=dict)  # load_limit, block_list
    seed_client_config: JsonObject = field(default_factory=dict)  # block_list
    scopes: JsonObject = field(default_factory=dict)  # idc, location, cidrs, hostnames
    is_default: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedPeerCluster:
    """Seed peers that serve the same scheduler clusters."""

    id: int
    name: str
    bio: str = ""
    config: JsonObject = field(default_factory=dict)  # load_limit


def scopes_from(stored: JsonObject) -> Scopes:
    """Scopes as the searcher takes them; a field of the wrong type counts as absent."""
    return Scopes(
        idc=_text(stored.get("idc")),
        location=_text(stored.get("location")),
        cidrs=_texts(stored.get("cidrs")),
        hostnames=_texts(stored.get("hostnames")),
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: object) -> tuple[str, ...]:
    return tuple(each for each in value if isinstance(each, str)) if isinstance(value, list) else ()
