"""`dragonfly`: the daemons, a whole cluster on one machine, and what can be set. `dfdaemon` is one of them alone.

Exit statuses: 0 after a graceful stop, 130 (^C), 143 (SIGTERM) where that came before the service served, 2 for a wrong
command line or wrong settings, 1 for every other failure, with one sentence on stderr.
"""

import _signal  # type: ignore[import-not-found] # what `signal` is made of: there at once, and the sooner the better

if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
    # Until there is something to tidy up, ^C ends us as it ends any program, without Python's traceback.
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from dragonfly import __version__
from dragonfly.cli.daemon_options import (
    LOG_LEVEL,
    SETTINGS,
    Logging,
    Overrides,
    check_dynconfig,
    daemon_options,
    dynconfig_option,
    settings_of,
    start_logging,
    with_dynconfig,
)
from dragonfly.errors import DragonflyError, InvalidSettings


@contextmanager
def _told_by(name: str) -> Iterator[None]:
    """A failure of ours within becomes one sentence on stderr, after a name, and the exit status."""
    try:
        yield
    except DragonflyError as error:
        sys.exit(_failure(name, str(error), 2 if isinstance(error, InvalidSettings) else 1))


def _failure(name: str, sentence: str, status: int) -> int:
    click.echo(f"{name}: {sentence}", err=True)
    return status


HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
VERSION = click.version_option(__version__, "-V", "--version", message="%(prog)s %(version)s")


@click.group(context_settings=HELP)
@VERSION
def cli() -> None:
    """Peer-to-peer distribution of files and container images.

    To try it on one machine: dragonfly up
    """


@cli.command("manager", context_settings=HELP, short_help="Run a manager, the keeper of clusters.")
@daemon_options("manager")
@VERSION
@_told_by("manager")
def manager_command(config: Path | None, overrides: Overrides, **logging: Any) -> int:
    """Run a manager: the one place that knows all clusters, schedulers and seed peers.

    \b
    Example: dragonfly manager --console --set database.sqlite.path=/tmp/manager.db
    """
    from dragonfly.manager.settings import ManagerSettings

    settings, warnings = settings_of(ManagerSettings, "manager", config, overrides)
    _begin("manager", Logging(**logging), warnings)
    from dragonfly.manager.app import ManagerService
    from dragonfly.net.lifecycle import run

    return run(ManagerService(settings))


@cli.command("scheduler", context_settings=HELP, short_help="Run a scheduler, which finds parents for peers.")
@daemon_options("scheduler")
@dynconfig_option()
@VERSION
@_told_by("scheduler")
def scheduler_command(config: Path | None, overrides: Overrides, dynconfig: Path | None, **logging: Any) -> int:
    """Run a scheduler: it tells each peer which others can serve it.

    \b
    Example: dragonfly scheduler --console --set manager.addr=127.0.0.1:65003
    """
    from dragonfly.scheduler.settings import SchedulerSettings
    from dragonfly.settings.dynconfig import SchedulerDynconfig

    overrides = with_dynconfig("dynConfig.path", dynconfig, overrides)
    settings, warnings = settings_of(SchedulerSettings, "scheduler", config, overrides)
    check_dynconfig(SchedulerDynconfig, settings.manager.addr, settings.dyn_config.path)
    _begin("scheduler", Logging(**logging), warnings)
    from dragonfly.net.lifecycle import run
    from dragonfly.scheduler.app import SchedulerService

    return run(SchedulerService(settings))


@cli.command("dfdaemon", context_settings=HELP, short_help="Run a peer on this host.")
@daemon_options("dfdaemon", environment="DFDAEMON_CONFIG")
@dynconfig_option(environment="DFDAEMON_DYNCONFIG")
@VERSION
@_told_by("dfdaemon")
def dfdaemon_command(config: Path | None, overrides: Overrides, dynconfig: Path | None, **logging: Any) -> int:
    """Run a peer: it downloads for the users of this host and serves pieces to other peers.

    \b
    Example: dfdaemon --console --set manager.addr=127.0.0.1:65003 --set storage.dir=/tmp/dragonfly
    """
    from dragonfly.dfdaemon.settings import DaemonSettings
    from dragonfly.settings.dynconfig import DaemonDynconfig

    overrides = with_dynconfig("dynconfig.path", dynconfig, overrides)
    settings, warnings = settings_of(DaemonSettings, "dfdaemon", config, overrides)
    check_dynconfig(DaemonDynconfig, settings.manager.addr, settings.dynconfig.path)
    _begin("dfdaemon", Logging(**logging), warnings)
    from dragonfly.dfdaemon.app import DaemonService
    from dragonfly.net.lifecycle import run

    return run(DaemonService(settings))


@cli.command("up", context_settings=HELP, short_help="Run a whole cluster on this machine.")
@click.option("--peers", type=click.IntRange(0, 200), default=3, show_default=True, help="How many peers.")
@click.option("--seed-peers", type=click.IntRange(0, 12), default=1, show_default=True, help="How many seed peers.")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Where content, databases and logs go, and stay. Without it they are temporary.",
)
@click.option(
    "--ready-file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write every address to this file, as JSON, once all services serve; it is removed at the end.",
)
@SETTINGS
@LOG_LEVEL
def up_command(**options: Any) -> int:
    """Run a whole cluster on this machine until Ctrl-C: a manager, a scheduler, seed peers and peers.

    Each is a process of its own with its own loopback address, so that several clusters can run side by side. A service
    that dies is started again.

    With --set, a key goes to every service that knows it; a prefix names one kind: manager:, scheduler:, dfdaemon: (all
    peers) or seed: (seed peers).

    \b
    Examples:
      dragonfly up --peers 5 --data-dir /tmp/dragonfly
      dragonfly up --ready-file ready.json --set seed:storage.keep=false --set scheduler.retryLimit=3
    """
    from dragonfly.cli.up.command import Order, run_up

    return run_up(Order(**options))


@cli.command("settings", context_settings=HELP, short_help="List every key of the settings files.")
@click.argument("service", type=click.Choice(["manager", "scheduler", "dfdaemon"]), required=False)
@click.option("--markdown", is_flag=True, help="As the page docs/settings.md.")
def settings_command(service: str | None, markdown: bool) -> int:
    """List every key of the settings files, with its default and meaning.

    \b
    Example: dragonfly settings dfdaemon
    """
    from dragonfly.cli.settings_page import listing, page

    click.echo(page() if markdown else listing(service), nl=False)
    return 0


def _begin(name: str, options: Logging, warnings: tuple[str, ...]) -> None:
    start_logging(name, options)
    if warnings:
        import logging

        for warning in warnings:
            logging.getLogger("dragonfly.settings").warning("%s", warning)


def main() -> None:
    """Entry point of `dragonfly`."""
    sys.exit(_status(cli, "dragonfly"))


def dfdaemon() -> None:
    """Entry point of `dfdaemon`."""
    sys.exit(_status(dfdaemon_command, "dfdaemon"))


def _status(command: click.Command, name: str) -> int:
    """Run a command; every failure becomes one sentence on stderr and an exit status."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its C core writes to stderr what we say in a sentence anyway
    try:
        with _told_by(name):
            return int(command.main(prog_name=name, standalone_mode=False) or 0)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return 2
    except click.ClickException as error:
        return _failure(name, error.format_message(), 2)


if __name__ == "__main__":
    main()
