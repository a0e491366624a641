"""SIGINT, SIGTERM and SIGHUP as an exception, raised where a tool waits and never where it tidies up."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(BaseException):
    """A signal wants this process to end. Not an Exception: no handler for failures may swallow it."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number


class StopSignals:
    """While entered, the first signal raises Stopped in the main thread; later ones do nothing, as the end has begun.

    A signal that the parent chose to ignore (`nohup`, a background job of a plain shell) stays ignored.
    """

    def __init__(self) -> None:
        self._is_ending = False
        self._stop: Callable[[int], None] | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._arrived)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def ignore(self) -> None:
        """From here on signals do nothing: what remains is short and has to be done whole."""
        self._is_ending = True

    @contextmanager
    def told_to(self, stop: Callable[[int], None]) -> Iterator[None]:
        """Inside, `stop` is called with the signal's number and nothing is raised: an event loop would swallow it."""
        self._stop = stop
        try:
            yield
        finally:
            self._stop = None

    def _arrived(self, number: int, frame: FrameType | None) -> None:
        if not self._is_ending:
            self._is_ending = True
            if self._stop is None:
                raise Stopped(number)
            self._stop(number)
