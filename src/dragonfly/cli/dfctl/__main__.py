"""dfctl: see and remove what this host's dfdaemon stores.

Exit statuses are dfget's (docs/exit-codes.md); a task that is not stored here is 3.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import click

from dragonfly import __version__
from dragonfly.cli.daemon_socket import DEFAULT_ENDPOINT, see_daemon
from dragonfly.cli.dfget import flag_texts as texts
from dragonfly.cli.exit_codes import ExitStatus, exit_status, worst
from dragonfly.cli.plain_text import say
from dragonfly.core.model.units import Seconds
from dragonfly.errors import DragonflyError, TaskNotFound, UnsupportedFeature

if TYPE_CHECKING:
    from dragonfly.cli.dfctl.daemon import Daemon

HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
_REFUSED = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}

Command = Callable[..., Any]


def _daemon_options(command: Command) -> Command:
    """The options of every command that asks the daemon."""
    for option in (
        click.option("--timeout", metavar="DURATION", default="10s", show_default=True, callback=_read(texts.timeout),
                     help="Give up an answer that has not come by then."),
        click.option("-e", "--endpoint", metavar="SOCKET", default=DEFAULT_ENDPOINT, show_default=True,
                     callback=_read(texts.socket_path), help="The socket where this host's dfdaemon listens."),
    ):  # fmt: skip
        command = option(command)
    return command


def _read(read: Callable[[str], Any]) -> Callable[[click.Context, click.Parameter, str], Any]:
    def callback(context: click.Context, parameter: click.Parameter, value: str) -> Any:
        try:
            return read(value)
        except DragonflyError as error:
            raise click.BadParameter(str(error)) from error

    return callback


def _id(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    for text in value if isinstance(value, tuple) else (value,):
        _read(texts.text)(context, parameter, text)
    return value


_JSON = click.option("--json", "as_json", is_flag=True, help="Write JSON to stdout.")


@click.group(context_settings=HELP)
@click.version_option(__version__, "-V", "--version", message="%(prog)s %(version)s")
def cli() -> None:
    """See and remove what this host's dfdaemon stores.

    Exit statuses are dfget's: 0 done, 2 wrong usage, 3 no such task, 5 no daemon answers, 8 not within --timeout, 1
    any other failure.
    """


@cli.group(context_settings=HELP)
def task() -> None:
    """Files that were downloaded."""


@task.command("ls", context_settings=HELP)
@_daemon_options
@_JSON
def list_tasks(endpoint: str, timeout: Seconds, as_json: bool) -> int:
    """List what is stored here, oldest first."""
    with _connected(endpoint, timeout) as daemon:
        tasks = daemon.tasks()
    from dragonfly.cli.dfctl import table

    if as_json:
        click.echo(table.as_json(tasks))
    elif sys.stdout.isatty():
        table.draw(tasks)
    else:
        click.echo(table.as_text(tasks))
    return ExitStatus.OK


@task.command("stat", context_settings=HELP)
@click.argument("task_id", metavar="ID", callback=_id)
@_daemon_options
@_JSON
def stat_task(task_id: str, endpoint: str, timeout: Seconds, as_json: bool) -> int:
    """Tell all that is known of one task."""
    with _connected(endpoint, timeout) as daemon:
        found = daemon.task(task_id)
    from dragonfly.cli.dfctl import table

    click.echo(table.as_json(found) if as_json else table.details(found))
    return ExitStatus.OK


@task.command("rm", context_settings=HELP)
@click.argument("task_ids", metavar="ID...", nargs=-1, required=True, callback=_id)
@click.option("--everywhere", is_flag=True, help="Tell the task's scheduler too, not only this host.")
@_daemon_options
def remove_tasks(task_ids: tuple[str, ...], everywhere: bool, endpoint: str, timeout: Seconds) -> int:
    """Remove tasks and their bytes from this host. One that cannot be removed holds up no other."""
    statuses = []
    with _connected(endpoint, timeout) as daemon:
        for task_id in task_ids:
            try:
                daemon.delete(task_id, everywhere=everywhere)
            except DragonflyError as error:
                statuses.append(_failed(error))
    return worst(statuses)


@task.command("preheat", context_settings=_REFUSED, hidden=True)
def preheat() -> NoReturn:
    raise UnsupportedFeature(feature="dfctl task preheat")


@cli.command("persistent-task", context_settings=_REFUSED, hidden=True)
def persistent_task() -> NoReturn:
    raise UnsupportedFeature(feature="dfctl persistent-task")


@cli.command("persistent-cache-task", context_settings=_REFUSED, hidden=True)
def persistent_cache_task() -> NoReturn:
    raise UnsupportedFeature(feature="dfctl persistent-cache-task")


@contextmanager
def _connected(endpoint: str, timeout: Seconds) -> Iterator["Daemon"]:
    see_daemon(endpoint, timeout)
    from dragonfly.cli.dfctl.daemon import connected

    with connected(endpoint, timeout) as daemon:
        yield daemon


def _failed(error: DragonflyError) -> ExitStatus:
    say(str(error), "dfctl")
    return ExitStatus.NOT_FOUND if isinstance(error, TaskNotFound) else exit_status(error)


def main(argv: Sequence[str] | None = None) -> int:
    """Run dfctl and return its exit status; every failure is one sentence on stderr."""
    arguments = None if argv is None else list(argv)
    try:
        return int(cli.main(arguments, prog_name="dfctl", standalone_mode=False) or 0)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return ExitStatus.USAGE
    except click.ClickException as error:
        say(error.format_message(), "dfctl")
        return ExitStatus.USAGE
    except click.Abort:
        say("stopped by SIGINT", "dfctl")
        return ExitStatus.INTERRUPTED
    except DragonflyError as error:
        return _failed(error)
    except Exception as error:  # the user gets a sentence and a status even for a mistake of ours
        say(f"an internal error: {type(error).__name__}: {error}", "dfctl")
        return ExitStatus.OTHER


if __name__ == "__main__":
    sys.exit(main())
