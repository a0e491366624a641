"""What may change while the scheduler runs: from the manager's cluster, or from a local file where there is none."""

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from dragonfly.core.scheduling.config import SchedulingConfig
from dragonfly.errors import InvalidSettings
from dragonfly.scheduler.settings import SchedulerSettings
from dragonfly.settings.dynconfig import SchedulerDynconfig
from dragonfly.settings.loader import build, load
from dragonfly.wire.pb import manager_pb2

log = logging.getLogger(__name__)


def configured(settings: SchedulerSettings) -> SchedulingConfig:
    """What scheduler.yaml says."""
    scheduling = settings.scheduler
    return SchedulingConfig(
        back_to_source_limit=scheduling.back_to_source_count,
        stall_timeout=scheduling.gc.piece_download_timeout,
        holder_idle_timeout=scheduling.gc.peer_ttl,
    )


def with_dynconfig(config: SchedulingConfig, dynconfig: SchedulerDynconfig) -> SchedulingConfig:
    """`config` with those limits replaced that `dynconfig` sets; what it leaves out keeps our defaults."""
    cluster = dynconfig.scheduler_cluster_config
    peers, seeds = dynconfig.scheduler_cluster_client_config, dynconfig.seed_peer_cluster_config
    found = {
        "candidate_parent_limit": (cluster, "candidate_parent_limit"),
        "sample_size": (cluster, "filter_parent_limit"),
        "peer_upload_limit": (peers, "load_limit"),
        "seed_upload_limit": (seeds, "load_limit"),
    }
    changes = {ours: getattr(part, key) for ours, (part, key) in found.items() if key in part.model_fields_set}
    return replace(config, **changes)


def from_file(path: Path) -> SchedulerDynconfig:
    """The local file; the defaults if there is none. Raises InvalidSettings where it makes no sense."""
    if not path.exists():
        return SchedulerDynconfig()
    loaded = load(SchedulerDynconfig, path)
    for warning in loaded.warnings:
        log.warning("%s", warning)
    return loaded.settings


def from_manager(scheduler: manager_pb2.Scheduler) -> SchedulerDynconfig:
    """What the manager says about our cluster. Raises InvalidSettings where it makes no sense."""
    cluster = scheduler.scheduler_cluster
    seed_cluster = next((seed.seed_peer_cluster for seed in scheduler.seed_peers), manager_pb2.SeedPeerCluster())
    tree = {
        "schedulerClusterConfig": _known(cluster.config, ("candidate_parent_limit", "filter_parent_limit")),
        "schedulerClusterClientConfig": _known(cluster.client_config, ("load_limit",)),
        "seedPeerClusterConfig": _known(seed_cluster.config, ("load_limit",)),
    }
    return build(SchedulerDynconfig, tree, {}, "the manager's cluster configuration").settings


def _known(document: bytes, keys: tuple[str, ...]) -> dict[str, Any]:
    """The members we read of a JSON object of the manager's; it may have others, and 0 stands for unset."""
    try:
        found = json.loads(document or b"{}")
    except ValueError:
        raise InvalidSettings(file="the manager's cluster configuration", reason="it is not JSON") from None
    if not isinstance(found, dict):
        return {}
    return {_camel(key): found[key] for key in keys if found.get(key)}


def _camel(key: str) -> str:
    first, *rest = key.split("_")
    return first + "".join(word.capitalize() for word in rest)
