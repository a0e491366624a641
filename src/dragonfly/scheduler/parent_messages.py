"""Candidate parents as messages, made once: a popular parent is told to thousands of children."""

from dragonfly.core.model.ids import PeerId
from dragonfly.core.scheduling.commands import CandidateParent
from dragonfly.wire.announce import parent_to_pb
from dragonfly.wire.pb import common_pb2

CAPACITY = 20_000  # messages of about 1 KiB


class ParentMessages:
    """Remembers the message of each parent as long as the machine tells of it by the same value."""

    def __init__(self) -> None:
        self._messages: dict[PeerId, tuple[CandidateParent, common_pb2.Peer]] = {}

    def encode(self, parent: CandidateParent) -> common_pb2.Peer:
        """The message of `parent`; do not change it."""
        known = self._messages.get(parent.peer_id)
        if known is not None and known[0] is parent:
            return known[1]
        if len(self._messages) >= CAPACITY:
            self._messages.clear()
        message = parent_to_pb(parent)
        self._messages[parent.peer_id] = parent, message
        return message
