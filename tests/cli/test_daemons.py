"""The command line of the daemons, as real processes."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dragonfly import __version__

DEADLINE = 60.0  # seconds; far above what any of it takes
DRAGONFLY = (sys.executable, "-m", "dragonfly.cli.daemons")
DFDAEMON = (sys.executable, "-c", "from dragonfly.cli.daemons import dfdaemon; dfdaemon()")

INTERRUPTED_AT_IMPORT = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever the shell of the tests did to it
moment = sys.argv.pop(1)

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == moment:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
from dragonfly.cli.daemons import main
main()
"""


def run(*arguments: str, program: tuple[str, ...] = DRAGONFLY, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DFDAEMON_")}
    return subprocess.run(
        [*program, *arguments],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
        env={**kept, **environment},
        stdin=subprocess.DEVNULL,
    )


def assert_refused(done: subprocess.CompletedProcess[str], *parts: str, status: int = 2) -> None:
    """One sentence on stderr with these parts, nothing on stdout, and the status."""
    assert (done.returncode, done.stdout) == (status, ""), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    for part in parts:
        assert part in done.stderr


@pytest.mark.parametrize("command", ["manager", "scheduler", "dfdaemon", "up", "settings"])
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_of_every_command_has_an_example(command: str, option: str) -> None:
    done = run(command, option)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Example" in done.stdout


@pytest.mark.parametrize("command", ["manager", "scheduler", "dfdaemon"])
def test_help_of_a_daemon_tells_its_options_and_defaults(command: str) -> None:
    text = " ".join(run(command, "--help").stdout.split())
    options = ("--config", "--log-level", "--log-dir", "--log-max-files", "--log-max-file-size", "--console", "--set")
    for part in (*options, "-V, --version", f"/etc/dragonfly/{command}.yaml", f"/var/log/dragonfly/{command}", "1GiB"):
        assert part in text
    assert ("--dynconfig" in text) == (command != "manager")


def test_help_imports_nothing_heavy() -> None:
    """What makes help slow is known, and is looked for instead of measured: a busy machine is slow too."""
    program = (
        "import sys\nfrom dragonfly.cli.daemons import cli\ncli.main(['up', '--help'], standalone_mode=False)\n"
        "print([m for m in ('grpc', 'pydantic', 'aiohttp', 'yaml', 'asyncio', 'google') if m in sys.modules])"
    )
    assert run(program=(sys.executable, "-c", program)).stdout.endswith("[]\n")


@pytest.mark.parametrize("option", ["-V", "--version"])
def test_version_is_told(option: str) -> None:
    assert run(option).stdout == f"dragonfly {__version__}\n"
    assert run(option, program=DFDAEMON).stdout == f"dfdaemon {__version__}\n"


def test_dfdaemon_alone_is_the_same_command() -> None:
    assert "DFDAEMON_CONFIG" in run("--help", program=DFDAEMON).stdout


def test_no_command_shows_the_commands_and_fails() -> None:
    done = run()
    assert done.returncode == 2
    assert "scheduler" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["fly"], "fly"),
        (["manager", "--nonsense"], "--nonsense"),
        (["manager", "extra"], "extra"),
        (["dfdaemon", "--log-level", "loud"], "loud"),
        (["dfdaemon", "--log-max-files", "0"], "--log-max-files"),
        (["dfdaemon", "--log-max-file-size", "big"], "not a usable size: 'big' (for example 4MiB)"),
        (["dfdaemon", "--set", "storage.keep"], "'storage.keep' is not KEY=VALUE"),
        (["dfdaemon", "--set", "=1"], "is not KEY=VALUE"),
        (["up", "--peers", "201"], "--peers"),
        (["up", "--peers", "-1"], "--peers"),
        (["up", "--seed-peers", "13"], "--seed-peers"),
        (["manager", "--dynconfig", "x"], "--dynconfig"),
        (["settings", "proxy"], "proxy"),
    ],
)
def test_wrong_command_line_is_one_sentence_and_status_2(arguments: list[str], part: str) -> None:
    assert_refused(run(*arguments), part)


@pytest.mark.parametrize("command", ["manager", "scheduler", "dfdaemon"])
class TestSettingsOfEveryDaemon:
    def test_missing_file_that_was_named_is_an_error(self, command: str, tmp_path: Path) -> None:
        missing = tmp_path / "none.yaml"
        assert_refused(run(command, "-c", str(missing)), f"{missing}: cannot be read: No such file")

    def test_unknown_key_is_named_with_file_and_near_match(self, command: str, tmp_path: Path) -> None:
        file = tmp_path / "settings.yaml"
        file.write_text("metricz: {}\n")
        assert_refused(run(command, "--config", str(file)), f"{file}: ", '"metricz"; did you mean "metrics"?')

    def test_syntax_error_is_told_with_file_and_line(self, command: str, tmp_path: Path) -> None:
        file = tmp_path / "settings.yaml"
        file.write_text("a: 1\n b: 2\n")
        assert_refused(run(command, "--config", str(file)), f"{file}: line 2: ")

    def test_unknown_override_is_refused(self, command: str) -> None:
        assert_refused(run(command, "--set", "metrics.enabel=1"), '--set: unknown key "metrics.enabel"')

    def test_wrong_override_is_refused(self, command: str) -> None:
        assert_refused(run(command, "--set", "network.enableIPv6=maybe"), 'is "maybe", wanted true or false')


@pytest.mark.parametrize("command", ["scheduler", "dfdaemon"])
@pytest.mark.parametrize("address", ["not an addr", "127.0.0.1", "127.0.0.1:99999", "https://manager:65003"])
def test_wrong_address_of_the_manager_is_refused_with_its_key(command: str, address: str) -> None:
    done = run(command, "--console", "--set", f"manager.addr={address}")
    assert_refused(done, f'manager.addr is "{address}", wanted host:port', *["TLS"] * address.startswith("https"))


def test_settings_file_can_be_named_by_the_environment(tmp_path: Path) -> None:
    missing = tmp_path / "none.yaml"
    for program, arguments in ((DFDAEMON, ()), (DRAGONFLY, ("dfdaemon",))):
        assert_refused(run(*arguments, program=program, DFDAEMON_CONFIG=str(missing)), str(missing))


def test_option_wins_over_the_environment(tmp_path: Path) -> None:
    named, other = tmp_path / "named.yaml", tmp_path / "other.yaml"
    assert_refused(run("dfdaemon", "-c", str(named), DFDAEMON_CONFIG=str(other)), str(named))


@pytest.mark.parametrize("by", ["option", "environment"])
def test_missing_dynconfig_that_was_named_is_an_error(by: str, tmp_path: Path) -> None:
    missing = tmp_path / "dynconfig.yaml"
    done = (
        run("dfdaemon", "--dynconfig", str(missing))
        if by == "option"
        else run("dfdaemon", DFDAEMON_DYNCONFIG=str(missing))
    )
    assert_refused(done, f"{missing}: cannot be read")


@pytest.mark.parametrize("command", ["scheduler", "dfdaemon"])
def test_mistake_in_the_dynconfig_ends_the_start_unless_a_manager_stands_before_it(
    command: str, tmp_path: Path
) -> None:
    file = tmp_path / "dynconfig.yaml"
    file.write_text("scheduler: {addr: nowhere}\n" if command == "dfdaemon" else "scheduler: {}\n")
    assert_refused(run(command, "--console", "--dynconfig", str(file)), f"{command}: {file}: ", "scheduler")
    with_manager = ("--set", "manager.addr=127.0.0.1:1", "--log-dir", "/dev/null/log")  # it ends where logging starts
    assert_refused(run(command, "--dynconfig", str(file), *with_manager), "/dev/null/log", status=1)


@pytest.mark.parametrize("command", ["manager", "scheduler", "dfdaemon", "up"])
@pytest.mark.parametrize("moment", ["click", "yaml", "asyncio", "grpc"])
def test_interrupt_before_there_is_anything_to_tidy_up_says_nothing(command: str, moment: str) -> None:
    done = run(command, "--log-level=info", program=(sys.executable, "-c", INTERRUPTED_AT_IMPORT, moment))
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


@pytest.mark.parametrize("command", ["manager", "scheduler", "dfdaemon"])
def test_log_directory_that_cannot_be_made_is_a_run_time_failure(command: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run(command, "--log-dir", str(tmp_path / "file" / "log"))
    assert_refused(done, f"{command}: ", str(tmp_path / "file" / "log"), "--log-dir", "--console", status=1)


def test_settings_page_and_listing_are_printed() -> None:
    assert run("settings", "--markdown").stdout.startswith("# Settings\n")
    assert "storage.keep: true" in run("settings", "dfdaemon").stdout


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit status and stderr, within the deadline."""
    try:
        _, errors = process.communicate(timeout=DEADLINE)
    finally:
        process.kill()
    return process.returncode, errors


@pytest.mark.slow
def test_manager_serves_until_a_signal_and_logs_warnings(tmp_path: Path) -> None:
    overrides = {
        "server.grpc.listenIP": "127.0.0.1",
        "server.grpc.port.start": "0",
        "server.rest.addr": "127.0.0.1:0",
        "database.sqlite.path": str(tmp_path / "manager.db"),
        "cache.local.size": "10",
    }
    options = [part for key, value in overrides.items() for part in ("--set", f"{key}={value}")]
    log = tmp_path / "log" / "manager.log"
    process = subprocess.Popen(
        [*DRAGONFLY, "manager", *options, "--log-dir", str(log.parent)], text=True, stderr=subprocess.PIPE
    )
    give_up = time.monotonic() + DEADLINE
    while process.poll() is None and not (log.exists() and "serving" in log.read_text()):
        assert time.monotonic() < give_up, "it does not serve"
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert ended(process) == (0, "")
    assert "cache.local.size is known but has no effect yet" in log.read_text()


@pytest.mark.slow
def test_port_that_is_taken_is_a_run_time_failure(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run(
            *("manager", "--console", "-l", "error", "--set", f"database.sqlite.path={tmp_path / 'm.db'}"),
            *("--set", "server.grpc.listenIP=127.0.0.1", "--set", f"server.grpc.port.start={port}"),
            *("--set", "server.rest.addr=127.0.0.1:0"),
        )
    assert_refused(done, "manager: cannot listen on ", str(port), status=1)
