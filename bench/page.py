"""docs/performance.md: one section a scenario, each written over when its scenario was measured again. Pure."""

from collections.abc import Sequence

from bench.rounds import Figure, shown

OPENING = """\
# Performance

Written by `make bench`, section by section: what was not measured again stays as it was. Every figure is a median of
interleaved rounds with real daemon processes and files in memory (a tmpfs, with huge pages where we are root). Ratios
and CPU seconds carry further than rates, above all on a machine that does other things as well. **Bold** goals are
missed.
"""


def section(title: str, about: str, machine: str, figures: Sequence[Figure]) -> str:
    """What a measured scenario says."""
    lines = [f"## {title}", "", about, "", f"*{machine}*", "", "| | measured | goal |", "|---|---|---|"]
    return "\n".join([*lines, *(_row(figure) for figure in figures)])


def skipped(title: str, reason: str) -> str:
    """What a scenario says that has never been measured."""
    return f"## {title}\n\nNot measured: {reason}."


def filled(page: str, name: str, content: str, *, only_if_absent: bool = False) -> str:
    """The page with a scenario's section put in place, or added at the end; all others stay as they are."""
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->\n"
    text = page or OPENING
    before, found, rest = text.partition(begin)
    if not found:
        return f"{text.rstrip()}\n\n{begin}{content}\n{end}"
    if only_if_absent:
        return text
    _, _, after = rest.partition(end)
    return f"{before}{begin}{content}\n{end}{after}"


def _row(figure: Figure) -> str:
    value = f"{shown(figure.value)} {figure.unit}".rstrip()
    goal = str(figure.goal) if figure.goal else ""
    return f"| {figure.name} | {value} | {f'**{goal}**' if figure.is_missed else goal} |"
