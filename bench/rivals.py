"""The plain tools that Dragonfly is measured beside: iperf3 between two processes, curl from nginx."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from bench.processes import using
from bench.rounds import Round
from bench.swarm import ProcessFailed, Where, free_port
from demo.processes import running
from dragonfly.core.model.units import Bytes, GiB, Seconds

_PATIENCE: Seconds = 10.0
_LOOK_AGAIN: Seconds = 0.05


def iperf3(size: Bytes) -> Round:
    """One stream over loopback with cubic at both ends: the most that one connection moves without a disk."""
    port = str(free_port())
    server = ["iperf3", "--server", "--one-off", "--port", port, "--bind", "127.0.0.1", "--forceflush"]
    client = ["iperf3", "--client", "127.0.0.1", "--port", port, "--parallel", "1", "--congestion", "cubic"]
    with running(server, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        if not any(b"listening" in line for line in process.stdout):
            raise ProcessFailed("iperf3 does not listen")
        done = subprocess.run([*client, "--bytes", str(size), "--json"], check=False, capture_output=True, text=True)
    told = json.loads(done.stdout)
    if done.returncode != 0 or "error" in told:
        raise ProcessFailed(f"iperf3: {told.get('error', 'it failed')}")
    end = told["end"]
    cpu, seconds = end["cpu_utilization_percent"], end["sum_sent"]["seconds"]
    both = (cpu["host_total"] + cpu["remote_total"]) / 100 * seconds
    return {"GiB/s": end["sum_received"]["bits_per_second"] / 8 / GiB, "CPU s/GiB": both / size * GiB}


@contextmanager
def nginx(directory: Path, where: Where | None = None, *, autoindex: bool = False) -> Iterator[tuple[str, int]]:
    """An nginx that serves `directory` by sendfile, one worker: its address and its worker's process id."""
    where = where or Where()
    port, own = free_port(), directory.parent / "nginx"
    own.mkdir(exist_ok=True)
    settings = own / "nginx.conf"
    settings.write_text(_settings(directory, own, f"{where.ip}:{port}", autoindex=autoindex))
    command = where.command(["nginx", "-p", str(own), "-c", str(settings), "-e", str(own / "error.log")])
    with running(command, stdout=subprocess.DEVNULL, stderr=None) as process:
        yield f"http://{where.ip}:{port}", _worker(psutil.Process(process.pid))


def _worker(master: psutil.Process) -> int:
    """Its process id, once it is there: nginx listens by then. Raises ProcessFailed where that takes too long."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        if children := master.children():
            return int(children[0].pid)
        time.sleep(_LOOK_AGAIN)
    raise ProcessFailed("nginx did not start")


def _settings(directory: Path, own: Path, listen: str, *, autoindex: bool) -> str:
    user = "user root;" if os.geteuid() == 0 else ""
    temporary = " ".join(
        f"{name}_temp_path {own / name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"""\
daemon off; {user} worker_processes 1; pid {own / "nginx.pid"};
events {{ worker_connections 1024; }}
http {{
  {temporary}
  access_log off; sendfile on; tcp_nopush on; tcp_nodelay on; keepalive_requests 1000000;
  server {{ listen {listen}; root {directory}; autoindex {"on" if autoindex else "off"}; }}
}}
"""


def curl_into(url: str, warm: Path, size: Bytes, where: Where, worker: int, *, in_place: bool) -> Round:
    """curl writes over a file with `-o`, which truncates it first, or in place: its standard output is the file then.

    `worker` is nginx's process, whose CPU counts too.
    """
    command = where.command(["curl", "--silent", "--fail", "--noproxy", "*", url])
    command += [] if in_place else ["-o", str(warm)]
    target = os.open(warm, os.O_RDWR)
    with using([worker]) as used:
        process = subprocess.Popen(command, stdout=target)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    os.close(target)
    if process.returncode != 0 or warm.stat().st_size != size:
        raise ProcessFailed(f"curl ended with status {process.returncode}")
    cpu = used.all_cpu + usage.ru_utime + usage.ru_stime
    return {"GiB/s": size / used.seconds / GiB, "CPU s/GiB": cpu / size * GiB}
