"""The unix socket users of this machine talk to: its path checked, a dead daemon's leftover removed, its mode set."""

import socket
import stat
from pathlib import Path

from dragonfly.errors import ServiceError

MAX_PATH_BYTES = 107  # sockaddr_un holds 108 with the closing zero
MODE = 0o660  # Differs from upstream (0777): whoever may connect may have files written as this daemon's user


def prepare(path: Path) -> str:
    """Make `path` free to listen on and return its gRPC address. Raises ServiceError where that cannot be."""
    if len(str(path).encode()) > MAX_PATH_BYTES:
        raise ServiceError(reason=f"the socket path is longer than {MAX_PATH_BYTES} bytes: {path}")
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        _remove_leftover(path)
    except OSError as error:
        raise ServiceError(reason=f"the socket {path} cannot be made: {error.strerror}") from error
    return f"unix:{path}"


def open_to_users(path: Path) -> None:
    """Let the socket's owner and group in."""
    path.chmod(MODE)


def remove(path: Path) -> None:
    path.unlink(missing_ok=True)


def _remove_leftover(path: Path) -> None:
    if not path.exists():
        return
    if not stat.S_ISSOCK(path.stat().st_mode):
        raise ServiceError(reason=f"{path} exists and is not a socket")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except OSError:
            path.unlink()
            return
    raise ServiceError(reason=f"another daemon serves on {path}")
