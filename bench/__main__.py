"""`python -m bench`: run all scenarios, or the one that ONLY names, and write docs/performance.md.

BENCH_SIZE changes how much is moved (1GiB), BENCH_MEMORY_SIZE how much in the memory scenario, BENCH_ROUNDS how often,
TMPDIR where. Raw rounds go to bench/results/ as JSON.
"""

import json
import os
import sys
import time
import traceback
from pathlib import Path
from types import ModuleType

from bench import many_files, memory, one_hop, page, shaped_swarm, small_file, upload
from bench.machine import describe
from bench.place import Place, place
from bench.rounds import Round, shown
from bench.setup import Setup, Skipped, require, search_path
from dragonfly.cli.stop_signals import Stopped, StopSignals
from dragonfly.core.model.units import Bytes, parse_size

SCENARIOS: tuple[ModuleType, ...] = (one_hop, upload, shaped_swarm, small_file, many_files, memory)
ROOT = Path(__file__).resolve().parent.parent
PAGE, RESULTS = ROOT / "docs" / "performance.md", ROOT / "bench" / "results"


def main() -> int:
    """The exit status: 0 if all that could be measured was, 1 if something failed, 2 for a name nobody knows."""
    if sys.argv[1:]:
        print(__doc__)
        return 0 if sys.argv[1] in ("-h", "--help") else 2
    only = os.environ.get("ONLY", "")
    chosen = [scenario for scenario in SCENARIOS if only in ("", scenario.NAME)]
    if not chosen:
        print(f"bench: ONLY is one of {', '.join(scenario.NAME for scenario in SCENARIOS)}", file=sys.stderr)
        return 2
    os.environ["PATH"] = search_path()
    failures = 0
    try:
        with StopSignals():
            for scenario in chosen:
                failures += not _measured(scenario)
    except Stopped as stopped:
        print(f"bench: {stopped}", file=sys.stderr)
        return 128 + stopped.number
    return min(failures, 1)


def _measured(scenario: ModuleType) -> bool:
    """Run one scenario and write its section. False if it broke; being skipped is no failure."""
    name, title = scenario.NAME, scenario.TITLE
    print(f"{name}: {title}", flush=True)
    machine, began = "; ".join([describe(), *_wishes()]), time.monotonic()
    try:
        require(scenario.NEEDS)
        with place(name) as found:
            rounds: list[Round] = scenario.run(_setup(found))
        _keep(name, machine, rounds)
        figures = scenario.figures(rounds)
        for figure in figures:
            missed = "  <- missed" if figure.is_missed else ""
            print(f"  {figure.name:<60} {shown(figure.value):>10} {figure.unit:<7} {figure.goal or ''}{missed}")
        _write(page.filled(_page(), name, page.section(title, scenario.ABOUT, machine, figures)))
        print(f"  took {time.monotonic() - began:.0f} s", flush=True)
    except Skipped as reason:
        print(f"  skipped: {reason}", flush=True)
        _write(page.filled(_page(), name, page.skipped(title, str(reason)), only_if_absent=True))
    except Stopped:
        raise
    except Exception:
        print(f"  failed:\n{traceback.format_exc()}", file=sys.stderr, flush=True)
        return False
    return True


def _setup(found: Place) -> Setup:
    rounds = os.environ.get("BENCH_ROUNDS")
    return Setup(
        place=found,
        size=_size("BENCH_SIZE"),
        memory_size=_size("BENCH_MEMORY_SIZE"),
        rounds=int(rounds) if rounds else None,
        say=lambda line: print(f"  {line}", flush=True),
    )


def _wishes() -> list[str]:
    """What was changed of the scenario's own sizes; a figure is worth little without."""
    variables = ("BENCH_SIZE", "BENCH_MEMORY_SIZE", "BENCH_ROUNDS")
    return [f"{variable}={os.environ[variable]}" for variable in variables if os.environ.get(variable)]


def _size(variable: str) -> Bytes | None:
    text = os.environ.get(variable)
    return parse_size(text) if text else None


def _keep(name: str, machine: str, rounds: list[Round]) -> None:
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps({"scenario": name, "machine": machine, "rounds": rounds}, indent=1)
    (RESULTS / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}.json").write_text(text)


def _page() -> str:
    return PAGE.read_text() if PAGE.exists() else ""


def _write(text: str) -> None:
    PAGE.write_text(text)


if __name__ == "__main__":
    sys.exit(main())
