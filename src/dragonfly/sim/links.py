"""Links that carry one piece at a time, in the order asked: the store-and-forward model of the known bounds."""

from dataclasses import dataclass

from dragonfly.core.model.units import Bytes, Seconds


@dataclass(slots=True)
class Link:
    """One direction of a host's connection. `rate` is in bytes per second."""

    rate: float
    free_at: Seconds = 0.0
    carried: Bytes = 0


def transfer(sender: Link, receiver: Link, length: Bytes, delay: Seconds, now: Seconds) -> Seconds:
    """When `length` bytes asked for at `now` have arrived; both links are taken until then.

    A transfer begins when both ends are free and runs at the slower one's rate.
    """
    start = max(now + delay, sender.free_at, receiver.free_at)
    end = start + length / min(sender.rate, receiver.rate)
    for link in (sender, receiver):
        link.free_at = end
        link.carried += length
    return end
