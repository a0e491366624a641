"""`python -m demo.plain URL OUTPUT`: a download as anybody would write it, without Dragonfly. The baseline."""

import http.client
import sys
from urllib.parse import urlsplit

from dragonfly.core.model.units import Bytes, MiB, Seconds

_BLOCK: Bytes = MiB
_PATIENCE: Seconds = 60.0


def main(url: str, output: str) -> int:
    """Read the whole of a URL into a file; 0 if all of it came."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.netloc, timeout=_PATIENCE)
    connection.request("GET", address.path)
    response = connection.getresponse()
    if response.status != http.client.OK:
        return 1
    block = memoryview(bytearray(_BLOCK))
    with open(output, "xb", buffering=0) as file:
        while count := response.readinto(block):
            file.write(block[:count])
    return 0 if response.length == 0 else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
