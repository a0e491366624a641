"""`python -m bench.announced ADDRESS COUNT SECONDS`: wait until a scheduler knows so many hosts.

A program of its own, so that it can be run in the scheduler's network namespace.
"""

import sys
import time

import grpc

from dragonfly.core.model.units import Seconds
from dragonfly.wire.pb import scheduler_pb2, scheduler_pb2_grpc

_LOOK_AGAIN: Seconds = 0.05


def main(address: str, count: str, patience: str) -> int:
    """0 once they are known, 1 if they are not in time."""
    deadline, known = time.monotonic() + float(patience), 0
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        stub = scheduler_pb2_grpc.SchedulerStub(channel)
        while time.monotonic() < deadline:
            try:
                known = len(stub.ListHosts(scheduler_pb2.ListHostsRequest(), timeout=5, wait_for_ready=True).hosts)
            except grpc.RpcError as error:
                print(error.details(), file=sys.stderr)
            if known >= int(count):
                return 0
            time.sleep(_LOOK_AGAIN)
    print(f"the scheduler knows {known} of {count} hosts after {patience} s", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
