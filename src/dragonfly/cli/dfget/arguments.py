"""What was said to dfget: flags, then DFGET_* variables, then defaults; checked before anything is connected to."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from dragonfly import __version__
from dragonfly.cli.dfget import flag_texts as texts
from dragonfly.cli.dfget import source_access
from dragonfly.cli.dfget.flags import ACCESS, DESCRIPTION, EPILOG, FLAGS, REFUSED, Flag
from dragonfly.cli.dfget.wanted_range import WantedRange
from dragonfly.core.model.digest import Digest
from dragonfly.core.model.units import Bytes, Seconds
from dragonfly.errors import InvalidInput, UnsupportedFeature


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """One download, of a file or a directory, as its user wants it. None means: not said, the daemon decides."""

    url: str
    output: str
    overwrite: bool
    force_hard_link: bool
    json: bool
    json_progress: bool
    no_progress: bool
    timeout: Seconds
    digest: Digest | None
    priority: int
    piece_length: Bytes | None
    content_for_calculating_task_id: str | None
    application: str
    tag: str
    header: tuple[tuple[str, str], ...]
    filtered_query_param: tuple[str, ...] | None
    disable_back_to_source: bool
    transfer_from_dfdaemon: bool
    range: WantedRange | None
    prefetch: bool
    insecure_skip_verify: bool
    certificate: tuple[bytes, ...]  # DER
    recursive: bool
    include_files: tuple[str, ...]
    max_files: int
    max_concurrent_requests: int
    access: Mapping[str, str | bool]  # what was said for the URL's scheme, by flag
    notices: tuple[str, ...]  # what its user should know before it starts
    endpoint: str
    log_level: str
    console: bool


class _Refuse(argparse.Action):
    """Upstream has this flag and we do not, yet: saying so is better than `unrecognized argument`."""

    def __call__(self, parser: object, namespace: object, values: object, option_string: str | None = None) -> NoReturn:
        raise UnsupportedFeature(feature=self.option_strings[-1])


class _Parser(argparse.ArgumentParser):
    """Errors are raised, so that `main` says them all in one way."""

    def error(self, message: str) -> NoReturn:
        raise InvalidInput(reason=f"{message} (dfget --help explains)")


def parse(argv: Sequence[str], environment: Mapping[str, str]) -> Arguments:
    """Read the command line. Raises InvalidInput and its kin; `--help` and `--version` raise SystemExit."""
    given = vars(parser().parse_args(argv))
    for flag in REFUSED:
        if flag.has_variable and _is_wanted(flag, environment.get(flag.variable, "")):
            raise UnsupportedFeature(feature=f"--{flag.name} ({flag.variable} is set)")
    values = {flag.field: _value(flag, given[flag.field], environment) for flag in FLAGS}
    url = texts.url(given["url"])
    if values["output"] is None:
        raise InvalidInput(reason="--output is missing (dfget --help explains)")
    for name in ("header", "certificate", "include_files"):
        values[name] = values[name] or ()
    access = {flag.field: values.pop(flag.field) for flag in FLAGS if flag.group == ACCESS}
    values["recursive"] = values["recursive"] or source_access.is_directory(url)
    _check_header_names(values["header"])
    _take_range_header(values)
    _check_companions(values)
    return Arguments(
        url=source_access.directory_url(url) if values["recursive"] else url,
        access=source_access.used(url, access),
        notices=source_access.notices(url, [name for name in access if given[name] is not None]),
        **values,
    )


def parser() -> argparse.ArgumentParser:
    """Knows names and help; the texts stay texts, as those of variables do."""
    result = _Parser(
        prog="dfget", description=DESCRIPTION, epilog=EPILOG, usage="dfget URL -O PATH [options]",
        formatter_class=_formatter, allow_abbrev=False, add_help=False,
    )  # fmt: skip
    result.add_argument("url", metavar="URL", help="where the file is: scheme://host/path")
    groups = {name: result.add_argument_group(name) for name in dict.fromkeys(flag.group for flag in FLAGS)}
    for flag in FLAGS:
        _add(groups[flag.group], flag)
    for flag in REFUSED:
        result.add_argument(
            *_names(flag), action=_Refuse, nargs=0 if flag.is_switch else "?", dest=flag.field, help=argparse.SUPPRESS
        )
    other = result.add_argument_group("other")
    other.add_argument("-h", "--help", action="help", help="show this and exit")
    other.add_argument("-V", "--version", action="version", version=f"dfget {__version__}", help="show the version")
    return result


def _formatter(prog: str) -> argparse.HelpFormatter:
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=30, width=100)


def _names(flag: Flag) -> list[str]:
    return [f"-{flag.short}"] * (flag.short is not None) + [f"--{flag.name}"]


def _add(group: Any, flag: Flag) -> None:
    if flag.is_switch:
        group.add_argument(*_names(flag), action="store_const", const="true", dest=flag.field, help=_help(flag))
    else:
        action = "append" if flag.is_list else "store"
        group.add_argument(*_names(flag), action=action, metavar=flag.metavar, dest=flag.field, help=_help(flag))


def _help(flag: Flag) -> str:
    facts = [f"default: {flag.default}"] * bool(flag.default and not flag.is_switch)
    facts += [f"variable: {flag.variable}"] * flag.has_variable
    return f"{flag.help} [{'; '.join(facts)}]" if facts else flag.help


def _is_wanted(flag: Flag, text: str) -> bool:
    return bool(_read(texts.boolean, text, flag.variable)) if flag.is_switch else bool(text)


def _value(flag: Flag, given: Any, environment: Mapping[str, str]) -> Any:
    if flag.is_list:
        return None if given is None else tuple(_read(flag.read, text, f"--{flag.name}") for text in given)
    if given is not None:
        return _read(flag.read, given, f"--{flag.name}")
    if flag.has_variable and environment.get(flag.variable):  # an empty variable says nothing
        return _read(flag.read, environment[flag.variable], flag.variable)
    return None if flag.default is None else flag.read(flag.default)


def _read(read: Callable[[str], Any], text: str, origin: str) -> Any:
    """Read one text; the error names the flag or the variable it came from."""
    try:
        return read(text)
    except InvalidInput as error:
        error.args = (f"{origin}: {error}",)
        raise


def _take_range_header(values: dict[str, Any]) -> None:
    """A Range header means what --range means, so it is one."""
    for name, text in values["header"]:
        if name.lower() == "range":
            if values["range"] is not None:
                raise InvalidInput(reason="--range and a Range header cannot be given together")
            values["range"] = _read(WantedRange.parse, text, "--header: Range")
    values["header"] = tuple(pair for pair in values["header"] if pair[0].lower() != "range")


def _check_companions(values: Mapping[str, Any]) -> None:
    """Flags that make no sense without, or beside, each other."""
    has_range = values["range"] is not None
    if values["prefetch"] and not has_range:
        raise InvalidInput(reason="--prefetch is for --range: without it the whole file is fetched anyway")
    if has_range and values["digest"] is not None:
        raise InvalidInput(reason="--digest is of the whole file, so it cannot be checked with --range")
    if values["force_hard_link"] and (has_range or values["transfer_from_dfdaemon"]):
        other = "--range" if has_range else "--transfer-from-dfdaemon"
        raise InvalidInput(reason=f"--force-hard-link cannot be had with {other}: the output is a file of its own")
    if values["include_files"] and not values["recursive"]:
        raise InvalidInput(reason="--include-files is for directories: add --recursive")
    for name in ("range", "digest", "content_for_calculating_task_id"):
        if values["recursive"] and values[name] is not None:
            raise InvalidInput(reason=f"--{name.replace('_', '-')} is of one file; it cannot be given with a directory")


def _check_header_names(headers: Sequence[tuple[str, str]]) -> None:
    seen: set[str] = set()
    for name, _ in headers:
        if name.lower() in seen:
            raise InvalidInput(reason=f"--header: {name} is given twice")
        seen.add(name.lower())
