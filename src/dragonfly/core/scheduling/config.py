"""The numbers the scheduler decides by."""

from dataclasses import dataclass, field

from dragonfly.core.model.units import Seconds
from dragonfly.core.scheduling.evaluator import Weights


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulingConfig:
    """Replaced as a whole by `ConfigChanged`; counts are at least 1, times are positive."""

    candidate_parent_limit: int = 4
    sample_size: int = 16  # swarm-policy: the fewest children of 16 random peers balance well enough
    answer_limit: int = 5  # reference clients give up at the sixth answer of one stream
    back_to_source_limit: int = 1  # peers of one task at the origin at once, seed peers not counted
    peer_upload_limit: int = 200  # children one host may feed at once; upstream load_limit defaults
    seed_upload_limit: int = 2000
    seed_register_timeout: Seconds = 30.0  # from waking a seed peer to its registration; it asks the origin in between
    source_patience: Seconds = 30.0  # a peer at the origin that shows no progress for so long is not waited for
    seed_failure_memory: Seconds = 300.0  # so long a seed peer that failed a task is not woken for it again
    default_announce_interval: Seconds = 300.0  # for hosts that do not name theirs; upstream client default
    missed_announcements: int = 3  # a host silent for so many of its intervals is gone
    stall_timeout: Seconds = 30 * 60.0  # upstream pieceDownloadTimeout
    holder_idle_timeout: Seconds = 24 * 3600.0  # upstream peerTTL
    complaint_limit: int = 3  # distinct hosts that must complain before a parent is isolated
    complaint_window: Seconds = 60.0
    isolation: Seconds = 60.0
    root_interval: Seconds = 0.05  # between two messages with roots to one peer, while a source is at work
    root_message_rate: float = 20_000.0  # such messages in a second, to all peers of a task; a crowd hears less often
    weights: Weights = field(default_factory=Weights)
