"""Writes the parts of the documentation that come from the code: state diagrams and the settings page.

`python -m docs.generate` writes them; `generate.outdated()` names the files that no longer agree with the code.
"""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

from dragonfly.cli.settings_page import page
from dragonfly.core.model.peer import PEER_TRANSITIONS, PeerState
from dragonfly.core.model.task import TASK_TRANSITIONS, TaskState

ROOT = Path(__file__).resolve().parent.parent


def documents() -> dict[Path, str]:
    """Each generated file with the text it should have."""
    architecture = ROOT / "ARCHITECTURE.md"
    text = architecture.read_text()
    text = _filled(text, "peer states", diagram(PEER_TRANSITIONS, PeerState.PENDING))
    text = _filled(text, "task states", diagram(TASK_TRANSITIONS, TaskState.PENDING))
    return {architecture: text, ROOT / "docs" / "settings.md": page()}


def outdated() -> list[str]:
    """Names of the files whose text differs from what the code says."""
    return [path.name for path, text in documents().items() if not path.exists() or path.read_text() != text]


def diagram(transitions: Mapping[tuple[StrEnum, StrEnum], StrEnum], first: StrEnum) -> str:
    """A state machine's table as a Mermaid diagram, steps between the same two states on one arrow."""
    arrows: dict[tuple[StrEnum, StrEnum], list[str]] = {}
    for (before, step), after in transitions.items():
        arrows.setdefault((before, after), []).append(step.value)
    lines = [f"    {before.value} --> {after.value}: {', '.join(steps)}" for (before, after), steps in arrows.items()]
    return "\n".join(["```mermaid", "stateDiagram-v2", f"    [*] --> {first.value}", *lines, "```"])


def _filled(text: str, name: str, content: str) -> str:
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}{content}\n{end}{after}"


if __name__ == "__main__":
    for target, wanted in documents().items():
        target.write_text(wanted)
