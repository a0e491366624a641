"""`make sim`: flash crowds of growing size, and how near the last peer comes to the bound."""

import sys
import time

from dragonfly.sim.report import Report, report
from dragonfly.sim.world import Scenario, World

SCENARIOS = (
    Scenario(peers=10, pieces=64),
    Scenario(peers=100, pieces=64),
    Scenario(peers=300, pieces=64),
)
HEADER = " peers pieces  bound s    R50    R99   R100  origin messages  CPU s"


def main() -> int:
    """Print one row a scenario; the status is 0 only if everybody finished."""
    print("Ratios of finishing times to the bound; origin: bytes read / file; messages: with the scheduler, a peer.")
    print(HEADER)
    reports = [_run(scenario) for scenario in SCENARIOS]
    return 0 if all(made.finished == made.scenario.peers for made in reports) else 1


def _run(scenario: Scenario) -> Report:
    began = time.process_time()
    world = World(scenario)
    world.run()
    made = report(world)
    print(
        f"{scenario.peers:6} {scenario.pieces:6} {made.bound:8.2f} {made.r50:6.2f} {made.r99:6.2f} {made.r100:6.2f} "
        f"{made.origin_amplification:7.3f} {made.messages_per_peer:8.1f} {time.process_time() - began:6.1f}"
    )
    return made


if __name__ == "__main__":
    sys.exit(main())
