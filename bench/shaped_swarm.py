"""Eight peers and a seed peer behind links of 100 MiB/s: how near a real swarm comes to the bound of its links."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from bench.bound import Swarm as Links
from bench.bound import bound, terms
from bench.downloads import Download, delete, download, talking
from bench.links import shaped_hosts
from bench.place import touch_memory
from bench.processes import using
from bench.rounds import Figure, Goal, Round, median
from bench.setup import Setup, require_root
from bench.swarm import Daemon, Origin, ProcessFailed, Swarm
from dragonfly.core.model.piece import PieceGeometry
from dragonfly.core.model.units import Bytes, GiB, MiB, Seconds

NAME, TITLE = "shaped-swarm", "A swarm behind links: eight peers, one seed peer, 100 MiB/s each way"
NEEDS = ("ip", "tc")
ABOUT = """\
Each daemon in a network namespace of its own, its link shaped by tc (tbf; headers count, so that 95 % is the most a
file can have); the origin is on the bridge without a limit and nobody has the file. All peers begin at once. The bound
is the largest of F/u_s, F/d and N·F/(u_s+S_u), plus the depth of the tree; forwarding whole pieces."""
SIZE: Bytes = GiB
ROUNDS = 5
PEERS = 8
RATE: Bytes = 100 * MiB
ROUND_TRIP: Seconds = 0.0002  # of an idle veth pair and bridge


def run(setup: Setup) -> list[Round]:
    require_root()
    size = setup.size or SIZE
    setup.room_for((PEERS + 1) * size)
    links = Links(
        peers=PEERS,
        length=size,
        seed_up=RATE,
        peer_up=RATE,
        peer_down=RATE,
        forwarding_unit=min(PieceGeometry.of(size).piece_length, size),
        round_trip=ROUND_TRIP,
    )
    setup.say(f"bound {bound(links):.2f} s: {', '.join(f'{term} {value:.2f}' for term, value in terms(links).items())}")
    with (
        shaped_hosts(PEERS + 1, RATE) as (hub, hosts),
        Origin(hub) as origin,
        Swarm(setup.directory, hub) as swarm,
    ):
        seed = swarm.daemon("seed", hosts[0], is_seed=True)
        peers = [swarm.daemon(f"peer-{number}", where) for number, where in enumerate(hosts[1:], start=1)]
        swarm.until_known()
        rounds = []
        for number in range((setup.rounds or ROUNDS) + 1):
            if setup.place.is_memory:
                touch_memory(setup.directory, (PEERS + 1) * size)
            used = replace(links, length=size if number else min(size, 64 * MiB))  # the first only warms up
            measured = _round(origin, swarm, seed, peers, f"shaped-{number}", used)
            setup.say(f"round {number}: " + ", ".join(f"{k} {v:.3g}" for k, v in measured.items()))
            if number:
                rounds.append(measured)
        return rounds


def _round(origin: Origin, swarm: Swarm, seed: Daemon, peers: list[Daemon], name: str, links: Links) -> Round:
    url, before = origin.url(name, links.length), origin.sent()
    pids = [seed.pid, *(peer.pid for peer in peers), swarm.scheduler_pid, origin.pid]
    with using(pids) as used, ThreadPoolExecutor(len(peers)) as everybody:
        done = list(everybody.map(lambda peer: _fetch(peer, url), peers))
    sent = origin.sent() - before
    if any(one.fetched != links.length for one in done):
        raise ProcessFailed("a peer fetched bytes twice, or not all of them")
    _forget([seed, *peers], done[0].task_id)
    finished = sorted(one.wall for one in done)
    daemons = [pid for pid in used.cpu if pid != origin.pid]
    return {
        "last s": finished[-1],
        "first s": finished[0],
        "last / bound": finished[-1] / bound(links),
        "origin / file": sent / links.length,
        "from the seed or peers": sum(one.from_peers for one in done) / (len(peers) * links.length),
        "machine busy": used.busy_share,
        "CPU s/GiB delivered": sum(used.cpu[pid] for pid in daemons) / (len(peers) * links.length) * GiB,
        **{f"bound: {term} s": value for term, value in terms(links).items()},
        "bound s": bound(links),
    }


def _fetch(peer: Daemon, url: str) -> Download:
    with talking(peer.socket) as stub:
        return download(stub, url)


def _forget(daemons: list[Daemon], task_id: str) -> None:
    for daemon in daemons:
        with talking(daemon.socket) as stub:
            delete(stub, task_id)


def figures(rounds: list[Round]) -> list[Figure]:
    bounds = [what for what in rounds[0] if what.startswith("bound: ")]
    return [
        Figure(name="last finisher / bound", value=median(rounds, "last / bound"), goal=Goal(at_most=1.25)),
        Figure(name="bytes from the origin / file", value=median(rounds, "origin / file"), goal=Goal(at_most=1.02)),
        Figure(name="last finisher", value=median(rounds, "last s"), unit="s"),
        Figure(name="first finisher", value=median(rounds, "first s"), unit="s"),
        Figure(name="bound", value=median(rounds, "bound s"), unit="s"),
        *(Figure(name=what.removesuffix(" s"), value=median(rounds, what), unit="s") for what in bounds),
        Figure(name="cores busy, of all", value=median(rounds, "machine busy")),
        Figure(name="CPU of daemons and scheduler", value=median(rounds, "CPU s/GiB delivered"), unit="s/GiB"),
    ]
