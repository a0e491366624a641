"""Roots of pieces as messages, made once: a crowd is told the same at the same moment."""

from dragonfly.core.scheduling.commands import TellRoots
from dragonfly.core.scheduling.editions import Roots
from dragonfly.wire.announce import Response, roots_to_pb

CAPACITY = 32  # portions of at most 4096 roots


class RootMessages:
    """Remembers the latest messages as long as the machine tells of the same roots by the same tuple."""

    def __init__(self) -> None:
        self._messages: dict[int, tuple[Roots, Response]] = {}  # by the tuple's identity, which it keeps alive

    def encode(self, command: TellRoots) -> Response:
        """The message of these roots; do not change it."""
        known = self._messages.get(id(command.roots))
        if known is not None:
            return known[1]
        if len(self._messages) >= CAPACITY:
            self._messages.clear()
        message = roots_to_pb(command)
        self._messages[id(command.roots)] = command.roots, message
        return message
