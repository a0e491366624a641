"""The figures, as a table and a few sentences."""

from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from demo.content import Content
from demo.downloads import Outcome
from dragonfly.core.model.units import Bytes, Seconds, format_size


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """All that was measured. Every copy had the right digest, or there would be no figures."""

    content: Content
    plain: list[Outcome]
    peers: list[Outcome]
    origin_bytes: Bytes  # sent while Dragonfly downloaded, by the origin's own count
    ready_seconds: Seconds
    memory: dict[str, Bytes]  # resident, of each daemon before its first download

    @property
    def origin_share(self) -> float:
        """How many times the origin sent the file while Dragonfly downloaded it; 1 is the least there can be."""
        return self.origin_bytes / self.content.size

    @property
    def speed_up(self) -> float:
        """Until everybody has the file: plain downloads against Dragonfly."""
        return slowest(self.plain) / slowest(self.peers)


def slowest(outcomes: list[Outcome]) -> Seconds:
    """When the last one had its file."""
    return max(outcome.seconds for outcome in outcomes)


def show(console: Console, figures: Figures) -> None:
    """Print it all."""
    console.print(_table(figures))
    for name, value in _lines(figures):
        console.print(f"{name:<34} {value}", highlight=False, soft_wrap=True)


def _table(figures: Figures) -> Table:
    size = figures.content.size
    table = Table("", "time", "rate", "from peers", "from the origin", "copy")
    for column in table.columns[1:5]:
        column.justify = "right"
    for outcome in figures.plain:
        rate = f"{format_size(size / outcome.seconds)}/s"
        table.add_row(outcome.name, f"{outcome.seconds:.2f} s", rate, "-", format_size(size), "right")
    table.add_section()
    for outcome in figures.peers:
        rate = f"{format_size(size / outcome.seconds)}/s"
        peers, origin = (format_size(outcome.told.get(f"bytes_from_{way}", 0)) for way in ("peers", "origin"))
        table.add_row(outcome.name, f"{outcome.seconds:.2f} s", rate, peers, origin, "right")
    return table


def _lines(figures: Figures) -> list[tuple[str, str]]:
    plain, peers = slowest(figures.plain), slowest(figures.peers)
    size, sent = format_size(figures.content.size), format_size(figures.origin_bytes)
    heaviest = max(figures.memory, key=lambda name: figures.memory[name], default="")
    memory = f"{format_size(figures.memory[heaviest])} ({heaviest})" if heaviest else "unknown"
    count = len(figures.peers)
    return [
        ("the origin sent, by its own count", f"{sent} for {count} copies of {size}: {figures.origin_share:.2f} files"),
        ("speed-up over plain downloads", f"{figures.speed_up:.2f} times ({plain:.2f} s against {peers:.2f} s)"),
        ("cluster ready after", f"{figures.ready_seconds:.2f} s"),
        ("idle memory of a daemon, at most", memory),
        ("every copy is right", f"sha256 {figures.content.sha256}"),
    ]
