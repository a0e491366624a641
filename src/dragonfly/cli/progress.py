"""How far a download is, and a bar that shows it.

`Progress` is a pure model: bytes by where they came from, and a rate over the last seconds, with time passed in.
`Bar` draws it on a terminal from a thread of its own; a reader never sees a half-made change, because the model only
ever replaces whole values.
"""

from collections.abc import Callable, Hashable
from enum import IntEnum
from typing import TYPE_CHECKING, Self

from dragonfly.core.model.units import Bytes, Seconds, format_size

if TYPE_CHECKING:
    from rich.progress import Progress as Drawing

_SAMPLE_EVERY: Seconds = 0.1
RATE_WINDOW: Seconds = 5.0  # short enough to follow a change, long enough that pieces of 4 MiB do not make it jump


class Traffic(IntEnum):
    """Where a piece came from; the numbers are common.v2.TrafficType's."""

    ORIGIN = 0
    PEERS = 1
    LOCAL = 2


class Progress:
    """One download, from the pieces it reports. Each piece counts once, however often it is told."""

    def __init__(self) -> None:
        self.content_length: Bytes | None = None  # None: the daemon has not said yet
        self._bytes = dict.fromkeys(Traffic, 0)
        self._pieces: set[Hashable] = set()
        self._samples: tuple[tuple[Seconds, Bytes], ...] = ()  # (when, bytes transferred until then), oldest first
        self._is_finished_before = False

    def started(self, content_length: Bytes | None, now: Seconds, *, is_finished: bool = False) -> None:
        """The length is known, or None: not yet; `is_finished`: the whole content was on this host before.

        May be told again: the rate counts from the first time on.
        """
        self.content_length = content_length
        self._is_finished_before = is_finished
        self._samples = self._samples or ((now, 0),)

    def piece_finished(self, number: Hashable, length: Bytes, traffic: Traffic, now: Seconds) -> None:
        """A piece is here; `number` tells it from all others of this progress."""
        if number in self._pieces:
            return
        self._pieces.add(number)
        self._bytes[traffic] += length
        if traffic is not Traffic.LOCAL:  # what was here before says nothing about speed
            self._samples = (*self._spaced(self._recent(now)), (now, self.transferred))

    def ended(self) -> None:
        """All is here; of a task that was whole before, pieces need not have been reported."""
        if self._is_finished_before and self.content_length is not None:
            self._bytes[Traffic.LOCAL] += max(self.content_length - self.done, 0)

    def of(self, traffic: Traffic) -> Bytes:
        """Bytes that came this way."""
        return self._bytes[traffic]

    @property
    def done(self) -> Bytes:
        """Bytes that are here."""
        return sum(self._bytes.values())

    @property
    def transferred(self) -> Bytes:
        """Bytes that came over the network."""
        return self._bytes[Traffic.ORIGIN] + self._bytes[Traffic.PEERS]

    def rate(self, now: Seconds) -> float:
        """Bytes a second over the last RATE_WINDOW seconds; 0 before the first piece."""
        samples = self._recent(now)
        if not samples or now <= samples[0][0]:
            return 0.0
        return (samples[-1][1] - samples[0][1]) / (now - samples[0][0])

    def seconds_left(self, now: Seconds) -> Seconds | None:
        """Until the end at this rate; None where nobody can say."""
        rate = self.rate(now)
        if self.content_length is None or rate <= 0:
            return None
        return max(self.content_length - self.done, 0) / rate

    def _recent(self, now: Seconds) -> tuple[tuple[Seconds, Bytes], ...]:
        """The samples of the window and the last one before it, from which the window is counted."""
        samples = self._samples
        first = sum(1 for at, _ in samples if at < now - RATE_WINDOW)
        return samples[max(first - 1, 0) :]

    def _spaced(self, samples: tuple[tuple[Seconds, Bytes], ...]) -> tuple[tuple[Seconds, Bytes], ...]:
        """Without the newest where it came close upon the one before: a thousand small files make few samples."""
        if len(samples) > 2 and samples[-1][0] - samples[-2][0] < _SAMPLE_EVERY:
            return samples[:-1]
        return samples


def split(progress: Progress) -> str:
    """Where the bytes came from, in words: `75 % from peers, 256.0 MiB from the origin`."""
    local, done = progress.of(Traffic.LOCAL), progress.done
    if done and local == done:
        return "all of it was on this host already"
    share = progress.of(Traffic.PEERS) * 100 // done if done else 0  # rounded down: 100 means all
    words = f"{share} % from peers, {format_size(progress.of(Traffic.ORIGIN))} from the origin"
    return f"{words}, {format_size(local)} already here" if local else words


def rate_and_split(progress: Progress, length: Bytes, seconds: Seconds) -> str:
    """How much in which time, and from where: `1.0 GiB in 5.2 s, 197.0 MiB/s; 100 % from peers, …`."""
    if length == 0:
        return f"0 B in {seconds:.1f} s"
    rate = format_size(length / max(seconds, 1e-3))
    return f"{format_size(length)} in {seconds:.1f} s, {rate}/s; {split(progress)}"


def summary(output: str, progress: Progress, seconds: Seconds) -> str:
    """The line a finished download leaves: `disk.img: 1.0 GiB in 5.2 s, 197.0 MiB/s; 100 % from peers, …`."""
    return f"{output}: {rate_and_split(progress, progress.content_length or 0, seconds)}"


class Bar:
    """The model, drawn on stderr ten times a second until `stop`. Made only for a terminal: it loads rich."""

    def __init__(self, name: str, progress: Progress, clock: Callable[[], Seconds]) -> None:
        self._name, self._progress, self._clock = name, progress, clock
        self._drawing = _drawing(self._figures)

    def __enter__(self) -> Self:
        self._drawing.start()
        self._drawing.add_task(self._name, total=None)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Take the bar off the screen, so that a sentence can be written there. Stopping again does nothing."""
        self._drawing.stop()

    def moved(self) -> None:
        """Say that the model has changed."""
        for task in self._drawing.task_ids:
            self._drawing.update(task, total=self._progress.content_length, completed=self._progress.done)

    def _figures(self) -> str:
        now = self._clock()
        left = self._progress.seconds_left(now)
        eta = "-" if left is None else f"{left:.0f} s left"
        total = "?" if self._progress.content_length is None else format_size(self._progress.content_length)
        size = f"{format_size(self._progress.done)} of {total}"
        return f"{size}  {format_size(self._progress.rate(now))}/s  {eta}  {split(self._progress)}"


def _drawing(figures: Callable[[], str]) -> "Drawing":
    from rich.console import Console
    from rich.progress import BarColumn, ProgressColumn, Task, TextColumn
    from rich.progress import Progress as Drawing
    from rich.text import Text

    class Figures(ProgressColumn):
        """Our own words; rich's columns measure a rate of their own."""

        def render(self, task: Task) -> Text:
            return Text(figures())

    name = TextColumn("{task.description}", markup=False)  # a file's name is not markup
    percent = TextColumn("{task.percentage:>3.0f} %")
    console = Console(stderr=True)
    return Drawing(name, BarColumn(bar_width=24), percent, Figures(), console=console, transient=True)
