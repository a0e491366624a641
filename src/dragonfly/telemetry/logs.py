"""One log line format for every process: time, level, where, what; to stderr or to a file that rotates by size."""

import logging
import sys
from logging.handlers import RotatingFileHandler
from pathlib import Path

from dragonfly.core.model.units import Bytes, GiB

LEVELS = {"trace": 5, "debug": 10, "info": 20, "warn": 30, "warning": 30, "error": 40}
_FORMAT = "%(asctime)s.%(msecs)03d %(levelname)-7s %(name)s: %(message)s"


def setup(
    level: str = "info",
    *,
    console: bool = True,
    directory: Path | None = None,
    name: str = "dragonfly",
    max_file_size: Bytes = GiB,
    max_files: int = 6,
) -> None:
    """Send the log of this process to stderr (`console`), and to `<directory>/<name>.log` where a directory is given.

    Raises OSError where the file cannot be made.
    """
    logging.addLevelName(LEVELS["trace"], "TRACE")
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)] if console else []
    if directory is not None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = directory / f"{name}.log"
        handlers.append(RotatingFileHandler(path, maxBytes=max_file_size, backupCount=max_files - 1))
    formatter = logging.Formatter(_FORMAT, datefmt="%Y-%m-%d %H:%M:%S")
    for handler in handlers:
        handler.setFormatter(formatter)
    logging.basicConfig(level=LEVELS[level.lower()], handlers=handlers or [logging.NullHandler()], force=True)
    for chatty in ("aiohttp.access", "alembic", "asyncio"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
