"""Ten thousand small files in one recursive download."""

import shutil
import subprocess
from pathlib import Path

from bench import rivals
from bench.processes import cpu_of, using
from bench.rounds import Figure, Goal, Round, median
from bench.setup import Setup, Skipped
from bench.swarm import Daemon, ProcessFailed, Swarm, dfget
from dragonfly.core.model.units import Bytes, KiB

NAME, TITLE = "many-files", "Many files: ten thousand of 10 KiB in one recursive download"
NEEDS = ("nginx",)
ABOUT = """\
`dfget -r` with 32 files at once, of ten directories that nginx lists and nobody in the swarm has: each file is asked
for at the scheduler, fetched by the seed peer and from there by the child. All processes share the machine."""
COUNT, DIRECTORIES, SIZE = 10_000, 10, 10 * KiB
ROUNDS = 3
_FEW = 10  # files of the directory that shows whether it can be done at all


def run(setup: Setup) -> list[Round]:
    served = setup.directory / "served"
    served.mkdir()
    with rivals.nginx(served, autoindex=True) as (address, origin_pid):
        _directory(served / "few", _FEW)
        rounds = []
        for number in range(setup.rounds or ROUNDS):
            name = f"round-{number}"
            _directory(served / name, COUNT)
            with Swarm(setup.directory / "swarm" / name) as swarm:
                seed, child = swarm.daemon("seed", is_seed=True), swarm.daemon("child")
                swarm.until_known()
                _try(f"{address}/few/", child)
                pids = [seed.pid, child.pid, swarm.scheduler_pid, origin_pid]
                measured = _download(f"{address}/{name}/", child, pids)
            shutil.rmtree(setup.directory / "swarm")  # thousands of small files fill a memory of huge pages
            shutil.rmtree(served / name)
            setup.say(f"round {number}: " + ", ".join(f"{k} {v:.3g}" for k, v in measured.items()))
            rounds.append(measured)
        return rounds


def figures(rounds: list[Round]) -> list[Figure]:
    return [
        Figure(name="files a second", value=median(rounds, "files/s"), goal=Goal(at_least=300)),
        Figure(name="CPU of seed peer, child, scheduler and nginx, a file", value=median(rounds, "CPU ms"), unit="ms"),
        Figure(name="CPU of dfget, a file", value=median(rounds, "dfget CPU ms"), unit="ms"),
        Figure(name="cores busy, of all", value=median(rounds, "machine busy")),
    ]


def _directory(path: Path, count: int, size: Bytes = SIZE) -> None:
    """Files that differ, in directories of the same size."""
    for number in range(count):
        file = path / f"part-{number % DIRECTORIES}" / f"file-{number}.bin"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(number.to_bytes(8, "big") * (size // 8))


def _command(url: str, output: Path, child: Daemon) -> list[str]:
    return dfget(url, output, child, "-r", "--max-files", str(2 * COUNT), "--max-concurrent-requests", "32")


def _try(url: str, child: Daemon) -> None:
    """Raise Skipped where dfget downloads no directories."""
    output = child.directory / "few"
    output.mkdir()
    done = subprocess.run(_command(url, output, child), check=False, capture_output=True, text=True)
    if done.returncode == 2:
        raise Skipped(f"dfget -r does not do this yet: {done.stderr.strip()}")
    _check(output, _FEW, done.returncode)


def _download(url: str, child: Daemon, pids: list[int]) -> Round:
    output = child.directory / "output"
    output.mkdir()
    with using(pids) as used:
        seconds, cpu, status = cpu_of(_command(url, output, child))
    _check(output, COUNT, status)
    return {
        "files/s": COUNT / seconds,
        "CPU ms": 1000 * used.all_cpu / COUNT,
        "dfget CPU ms": 1000 * cpu / COUNT,
        "machine busy": used.busy_share,
    }


def _check(output: Path, count: int, status: int) -> None:
    found = sum(1 for path in output.rglob("*.bin") if path.stat().st_size == SIZE)
    if status != 0 or found != count:
        raise ProcessFailed(f"dfget -r ended with status {status} and {found} of {count} files")
