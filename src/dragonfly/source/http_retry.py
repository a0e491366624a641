"""When a request that failed is made again: after delays that grow, by chance a little longer or shorter.

Chance keeps hosts that an origin failed together from coming back together. An origin that names the time itself, by
`Retry-After` in seconds, is left alone for that long, at most `DELAY_LIMIT`.
"""

import random
import socket
import ssl
from collections.abc import Callable
from typing import TypeVar

from dragonfly.core.model.units import Seconds
from dragonfly.errors import SourceError

FIRST_DELAY: Seconds = 0.2
DELAY_FACTOR = 5
DELAY_LIMIT: Seconds = 10.0
JITTER = 0.5  # of a delay, either way
Result = TypeVar("Result")


class Patience:
    """Makes an attempt again and again while that may help."""

    def __init__(
        self, *, max_retries: int, rng: random.Random, sleep: Callable[[Seconds], object], is_over: Callable[[], bool]
    ) -> None:
        """`is_over` tells that the source is being closed: nothing is tried again then."""
        self._delays = [min(FIRST_DELAY * DELAY_FACTOR**number, DELAY_LIMIT) for number in range(max_retries)]
        self._rng = rng
        self._sleep = sleep
        self._is_over = is_over

    def with_retries(self, attempt: Callable[[], Result]) -> Result:
        """What `attempt` returns at last, or its last error."""
        for delay in self._delays:
            try:
                return attempt()
            except SourceError as error:
                if self._is_over() or not may_pass(error):
                    raise
                wait = self._wait(delay, error)
            self._sleep(wait)
        return attempt()

    def _wait(self, delay: Seconds, error: SourceError) -> Seconds:
        asked = error.facts.get("retry_after")
        jittered = self._rng.uniform(1 - JITTER, 1 + JITTER) * delay
        return min(max(jittered, asked) if isinstance(asked, (int, float)) else jittered, DELAY_LIMIT)


def may_pass(error: SourceError) -> bool:
    """Whether the same request could be answered better in a moment."""
    if isinstance(error.__cause__, ssl.SSLCertVerificationError):
        return False
    if isinstance(error.__cause__, socket.gaierror):
        return error.__cause__.errno == socket.EAI_AGAIN
    return error.retryable
