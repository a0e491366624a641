"""The options every daemon has, and reading the settings they lead to."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from dragonfly.core.model.units import Bytes, parse_size
from dragonfly.errors import InvalidQuantity, InvalidSettings, StorageUnusable

if TYPE_CHECKING:
    from dragonfly.settings.section import Section

LOG_LEVELS = ("trace", "debug", "info", "warn", "error")
CONFIG_DIRECTORY = Path("/etc/dragonfly")
LOG_DIRECTORY = Path("/var/log/dragonfly")

S = TypeVar("S", bound="Section")
Command = Callable[..., Any]
Decorator = Callable[[Command], Command]
Overrides = tuple[tuple[str, str], ...]


def _size(context: click.Context, parameter: click.Parameter, value: str) -> Bytes:
    """`1GiB` on the command line, bytes in code."""
    try:
        return parse_size(value)
    except InvalidQuantity as error:
        raise click.BadParameter(str(error)) from error


def _settings(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> Overrides:
    """`KEY=VALUE` as pairs; a value stays text until it is known whose key it is."""
    pairs = []
    for value in values:
        key, equals, text = value.partition("=")
        if not equals or not key.strip():
            raise click.BadParameter(f"{value!r} is not KEY=VALUE, such as download.pieceTimeout=30s")
        pairs.append((key.strip(), text))
    return tuple(pairs)


SETTINGS = click.option(
    "--set",
    "overrides",
    callback=_settings,
    metavar="KEY=VALUE",
    multiple=True,
    help="Set one key of the settings file, over what the file says; may be repeated. The value is YAML.",
)
LOG_LEVEL = click.option(
    "-l",
    "--log-level",
    type=click.Choice(LOG_LEVELS, case_sensitive=False),
    default="info",
    show_default=True,
    help="How much to log.",
)


@dataclass(frozen=True, slots=True)
class Logging:
    """Where a daemon's log goes, as the options say."""

    log_level: str
    log_dir: Path | None
    log_max_files: int
    log_max_file_size: Bytes
    console: bool


def daemon_options(name: str, *, environment: str | None = None) -> Decorator:
    """All options of a daemon but --dynconfig. `environment` names the variable that gives the settings file."""

    def decorate(command: Command) -> Command:
        options: tuple[Decorator, ...] = (_config_option(name, environment), SETTINGS, LOG_LEVEL, *_log_options(name))
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def dynconfig_option(*, environment: str | None = None) -> Decorator:
    return click.option(
        "--dynconfig",
        type=click.Path(path_type=Path),
        envvar=environment,
        show_envvar=True,
        metavar="FILE",
        help="File that stands in for a manager; read when manager.addr is not set.  "
        f"[default: {CONFIG_DIRECTORY / 'dynconfig.yaml'}]",
    )


def settings_of(model: type[S], name: str, config: Path | None, overrides: Overrides) -> tuple[S, tuple[str, ...]]:
    """The settings, and warnings about them. Without a named file the usual one counts, if it is there."""
    from dragonfly.settings.loader import load

    usual = CONFIG_DIRECTORY / f"{name}.yaml"
    loaded = load(model, config or (usual if usual.exists() else None), dict(overrides))
    return loaded.settings, loaded.warnings


def with_dynconfig(key: str, dynconfig: Path | None, overrides: Overrides) -> Overrides:
    """The overrides and the file --dynconfig names as one more. Raises InvalidSettings where it is missing."""
    if dynconfig is None:
        return overrides
    if not dynconfig.is_file():
        raise InvalidSettings(file=dynconfig, reason="cannot be read: there is no such file")
    return (*overrides, (key, f"'{str(dynconfig.absolute()).replace(chr(39), chr(39) * 2)}'"))


def check_dynconfig(model: "type[Section]", manager: str | None, path: Path) -> None:
    """Read the local dynconfig file once where it stands in for a manager: a mistake in it ends a start at once.

    Raises InvalidSettings. While the service runs, a file that became wrong changes nothing and is only told of.
    """
    from dragonfly.settings.loader import load

    if manager is None and path.exists():
        load(model, path)


def start_logging(name: str, options: Logging) -> None:
    """Log to the terminal with --console, else to files; to both if --log-dir is named as well.

    Raises StorageUnusable where a log file cannot be made.
    """
    from dragonfly.telemetry import logs

    directory = options.log_dir or (None if options.console else LOG_DIRECTORY / name)
    try:
        logs.setup(
            options.log_level,
            console=options.console,
            directory=directory,
            name=name,
            max_file_size=options.log_max_file_size,
            max_files=options.log_max_files,
        )
    except OSError as error:
        reason = f"{error.strerror}; name another with --log-dir, or log to the terminal with --console"
        raise StorageUnusable(path=directory, reason=reason) from error


def _config_option(name: str, environment: str | None) -> Decorator:
    return click.option(
        "-c",
        "--config",
        type=click.Path(path_type=Path),
        envvar=environment,
        show_envvar=True,
        metavar="FILE",
        help="Settings, as YAML. Without this option the default file is read if it is there.  "
        f"[default: {CONFIG_DIRECTORY / f'{name}.yaml'}]",
    )


def _log_options(name: str) -> tuple[Decorator, ...]:
    return (
        click.option(
            "--log-dir",
            type=click.Path(path_type=Path, file_okay=False),
            metavar="DIR",
            help=f"Directory of the log files.  [default: {LOG_DIRECTORY / name}]",
        ),
        click.option(
            "--log-max-files", type=click.IntRange(min=1), default=6, show_default=True, help="Log files kept at most."
        ),
        click.option(
            "--log-max-file-size",
            callback=_size,
            metavar="SIZE",
            default="1GiB",
            show_default=True,
            help="Size at which a new log file begins.",
        ),
        click.option("--console", is_flag=True, help="Log to the terminal (stderr) instead of files."),
    )
