"""A small file that the swarm has already: what a download costs that is all overhead."""

from bench.downloads import delete, download, talking
from bench.processes import cpu_of
from bench.rounds import Figure, Goal, Round, median
from bench.setup import Setup
from bench.swarm import Daemon, Origin, ProcessFailed, Swarm, dfget
from dragonfly.core.model.units import Bytes, KiB

NAME, TITLE = "small-file", "Small file: 10 KiB that the swarm has already"
NEEDS = ()
ABOUT = """\
The seed peer has the file; a child that has never heard of it is asked for it over its Unix socket, from the call to
the end of its stream: with a channel that is open already, and with one that is opened first. *dfget* is the whole
command with `-O`; its CPU is that of its own process, interpreter start included."""
SIZE: Bytes = 10 * KiB
ROUNDS = 30


def run(setup: Setup) -> list[Round]:
    count = setup.rounds or ROUNDS
    with Origin() as origin, Swarm(setup.directory) as swarm:
        seed, child = swarm.daemon("seed", is_seed=True), swarm.daemon("child")
        swarm.until_known()
        with talking(seed.socket) as seed_stub, talking(child.socket) as warm:
            rounds: list[Round] = []
            for number in range(count + 1):
                urls = [origin.url(f"{way}-{number}", SIZE) for way in ("warm", "cold", "dfget")]
                for url in urls:
                    download(seed_stub, url)
                done = download(warm, urls[0])
                if done.from_peers != SIZE:
                    raise ProcessFailed("the small file did not come from the seed peer")
                measured = {"warm channel ms": done.wall * 1000, "cold channel ms": _cold(child, urls[1])}
                measured |= _dfget(child, urls[2])
                measured["stored already ms"] = download(warm, urls[0]).wall * 1000
                delete(warm, done.task_id)
                if number:  # the first finds channels and threads that are not there yet
                    rounds.append(measured)
                    setup.say(f"round {number}: " + ", ".join(f"{k} {v:.1f}" for k, v in measured.items()))
            return rounds


def _cold(child: Daemon, url: str) -> float:
    import time

    began = time.perf_counter()
    with talking(child.socket) as stub:
        download(stub, url)
        return (time.perf_counter() - began) * 1000


def _dfget(child: Daemon, url: str) -> Round:
    output = child.directory / "output"
    seconds, cpu, status = cpu_of(dfget(url, output, child))
    if status != 0 or output.stat().st_size != SIZE:
        raise ProcessFailed(f"dfget ended with status {status}")
    output.unlink()
    return {"dfget ms": seconds * 1000, "dfget CPU ms": cpu * 1000}


def figures(rounds: list[Round]) -> list[Figure]:
    def figure(name: str, what: str, at_most: float | None = None) -> Figure:
        goal = None if at_most is None else Goal(at_most=at_most)
        return Figure(name=name, value=median(rounds, what), unit="ms", goal=goal)

    return [
        figure("in the daemon, channel open", "warm channel ms", 20),
        figure("in the daemon, channel opened first", "cold channel ms", 20),
        figure("in the daemon, stored there already", "stored already ms"),
        figure("CPU of the dfget process", "dfget CPU ms", 200),
        figure("dfget from start to end", "dfget ms"),
    ]
