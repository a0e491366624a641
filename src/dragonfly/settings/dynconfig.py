"""What a manager would say at run time, read from a local file where there is no manager.

Each service has its own file. Keys of block lists are accepted as the manager spells them too (`block_list`).
"""

from pydantic import AliasChoices, Field

from dragonfly.settings.section import Idle, Section
from dragonfly.settings.values import Count, Number, Pattern, RemoteAddress, Text


class BlockedSettings(Section):
    """Requests that are refused: any of the applications, URLs, tags or priorities."""

    applications: tuple[Text, ...] = ()
    """Names of applications."""
    urls: tuple[Pattern, ...] = ()
    """Regular expressions found in the URL."""
    tags: tuple[Text, ...] = ()
    """Tags."""
    priorities: tuple[Number, ...] = ()
    """Priorities, 0 to 6; downloads only."""


class BlockedTaskSettings(Section):
    """What is refused for standard tasks."""

    download: BlockedSettings = BlockedSettings()
    """Downloads."""


class BlockedPersistentTaskSettings(BlockedTaskSettings):
    """What is refused for persistent tasks."""

    upload: BlockedSettings = BlockedSettings()
    """Uploads."""


class BlockListSettings(Section):
    """What this host refuses, by kind of task."""

    task: BlockedTaskSettings = BlockedTaskSettings()
    """Standard tasks."""
    persistent_task: BlockedPersistentTaskSettings = Field(
        default=BlockedPersistentTaskSettings(), validation_alias=AliasChoices("persistentTask", "persistent_task")
    )
    """Persistent tasks."""
    persistent_cache_task: BlockedPersistentTaskSettings = Field(
        default=BlockedPersistentTaskSettings(),
        validation_alias=AliasChoices("persistentCacheTask", "persistent_cache_task"),
    )
    """Persistent cache tasks."""


class ClientSettings(Section):
    """What a scheduler cluster tells its peers."""

    load_limit: Number | None = Field(default=None, validation_alias=AliasChoices("loadLimit", "load_limit"))
    """Uploads at once."""
    block_list: BlockListSettings = Field(
        default=BlockListSettings(), validation_alias=AliasChoices("blockList", "block_list")
    )
    """What is refused."""


class SchedulerAddressSettings(Section):
    """Where schedulers are."""

    addr: RemoteAddress = "dragonfly-scheduler:8002"
    """A name that stands for all of them, host:port; every address it resolves to is one."""
    addrs: tuple[RemoteAddress, ...] = ()
    """Their addresses, host:port each; wins over addr."""


class DaemonDynconfig(Section):
    """The dfdaemon's dynconfig.yaml."""

    scheduler: SchedulerAddressSettings = SchedulerAddressSettings()
    """Where schedulers are."""
    client_config: Idle[ClientSettings] = ClientSettings()
    """For peers."""
    seed_client_config: Idle[ClientSettings] = ClientSettings()
    """For seed peers."""


class ClusterSettings(Section):
    """What the manager tells the schedulers of a cluster."""

    candidate_parent_limit: Count = 3
    """Parents offered to a peer at once."""
    filter_parent_limit: Count = 15
    """Parents looked at to find them."""
    job_rate_limit: Idle[Count] = 10
    """Jobs per second."""


class PeerLoadSettings(Section):
    """How much a peer may be asked for."""

    load_limit: Number = 200
    """Uploads at once."""


class SeedPeerLoadSettings(Section):
    """How much a seed peer may be asked for."""

    load_limit: Number = 2000
    """Uploads at once."""


class SchedulerDynconfig(Section):
    """The scheduler's dynconfig.yaml."""

    applications: Idle[tuple[dict[str, object], ...]] = ()
    """Priorities of applications."""
    scheduler_cluster_config: ClusterSettings = ClusterSettings()
    """For the scheduler itself."""
    scheduler_cluster_client_config: PeerLoadSettings = PeerLoadSettings()
    """For peers."""
    seed_peer_cluster_config: SeedPeerLoadSettings = SeedPeerLoadSettings()
    """For seed peers."""
