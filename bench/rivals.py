"""The plain tools that Dragonfly is measured beside: iperf3 between two processes, curl from nginx."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.rounds import Round
from bench.swarm import ProcessFailed, environment, free_port, until_listening
from demo.processes import running
from dragonfly.core.model.units import Bytes, GiB


def iperf3(size: Bytes) -> Round:
    """One stream over loopback with cubic at both ends: the most that one connection moves without a disk."""
    port = free_port()
    server = ["iperf3", "--server", "--one-off", "--port", str(port), "--bind", "127.0.0.1"]
    with running(server, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
        client = ["iperf3", "--client", "127.0.0.1", "--port", str(port), "--parallel", "1"]
        client += ["--congestion", "cubic", "--bytes", str(size), "--json"]
        deadline = time.monotonic() + 10
        while True:
            done = subprocess.run(client, check=False, capture_output=True, text=True, env=environment())
            if done.returncode == 0 or time.monotonic() > deadline:
                break
            time.sleep(0.05)  # the server does not listen yet, and a probe would be its one client
    told = json.loads(done.stdout)
    if done.returncode != 0:
        raise ProcessFailed(f"iperf3: {told.get('error', 'it failed')}")
    end = told["end"]
    cpu = end["cpu_utilization_percent"]
    seconds = end["sum_sent"]["seconds"]
    both = (cpu["host_total"] + cpu["remote_total"]) / 100 * seconds
    return {"GiB/s": end["sum_received"]["bits_per_second"] / 8 / GiB, "CPU s/GiB": both / size * GiB}


@contextmanager
def nginx(directory: Path, *, autoindex: bool = False, ip: str = "127.0.0.1") -> Iterator[tuple[str, int]]:
    """An nginx that serves `directory` by sendfile, one worker: its address and its worker's process id."""
    port, own = free_port(), directory.parent / "nginx"
    own.mkdir(exist_ok=True)
    settings = own / "nginx.conf"
    settings.write_text(_settings(directory, own, f"{ip}:{port}", autoindex=autoindex))
    command = ["nginx", "-p", str(own), "-c", str(settings), "-e", str(own / "error.log")]
    with running(command, stdout=subprocess.DEVNULL, stderr=None) as process:
        until_listening(port, ip)
        yield f"http://{ip}:{port}", process.pid


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


def curl_into(url: str, warm: Path, size: Bytes) -> Round:
    """curl writes over a file in place: its standard output is the file, as `-o` would truncate it first."""
    target = os.open(warm, os.O_RDWR)
    began = time.perf_counter()
    process = subprocess.Popen(["curl", "--silent", "--fail", "--noproxy", "*", url], stdout=target)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - began
    reached = os.lseek(target, 0, os.SEEK_CUR)
    os.close(target)
    if process.returncode != 0 or reached != size:
        raise ProcessFailed(f"curl ended with status {process.returncode} after {reached} bytes")
    return {"GiB/s": size / seconds / GiB, "client CPU s/GiB": (usage.ru_utime + usage.ru_stime) / size * GiB}
