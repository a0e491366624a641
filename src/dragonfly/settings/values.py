"""What a single value in a settings file may look like. Each refusal says what is wanted instead.

Files carry units (`4MiB`, `30s`); code hands over bytes and seconds as they are. The two are told apart by the
validation context the loader passes, so that `pieceTimeout: 30` in a file is refused and never read as nanoseconds.
"""

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo
from pydantic_core import PydanticCustomError

from dragonfly.core.model.host import HostType
from dragonfly.core.model.units import Bytes, Seconds, parse_duration, parse_size
from dragonfly.errors import InvalidQuantity

FROM_FILE = {"from": "file"}
"""The validation context of values that people wrote."""


def unwanted(wanted: str) -> PydanticCustomError:
    """The refusal of a value; `wanted` completes "is X, wanted …"."""
    return PydanticCustomError("unwanted", "{wanted}", {"wanted": wanted})


def _is_number(given: Any) -> bool:
    return isinstance(given, int | float) and not isinstance(given, bool)


def read_duration(given: Any, info: ValidationInfo) -> Seconds:
    wanted = 'a duration such as "30s" or "1h 5m"'
    if isinstance(given, str):
        try:
            return parse_duration(given)
        except InvalidQuantity:
            raise unwanted(wanted) from None
    if _is_number(given) and given >= 0 and (given == 0 or info.context is not FROM_FILE):
        return float(given)
    raise unwanted(f"{wanted} (a number alone has no unit)" if _is_number(given) else wanted)


def read_size(given: Any) -> Bytes:
    if isinstance(given, int) and not isinstance(given, bool) and given >= 0:
        return given
    if isinstance(given, str):
        try:
            return parse_size(given)
        except InvalidQuantity:
            pass  # refused below, with everything else that is no size
    raise unwanted('a size such as "4MiB" or "50GB"')


def _above_nothing(given: Bytes) -> Bytes:
    if given == 0:
        raise unwanted('bytes per second above 0, such as "100MB" (50GB or more is no limit)')
    return given


def _ip(given: str) -> str:
    try:
        return str(ipaddress.ip_address(given))
    except ValueError:
        raise unwanted('an IP address such as "192.168.0.7"') from None


def split_address(text: str) -> tuple[str, int]:
    """(host, port) of `host:port`, `[::1]:port` and `:port`; an absent host is every address, "0.0.0.0".

    Raises ValueError for anything else.
    """
    match = re.fullmatch(r"(?:\[([^\[\]\s]+)\]|([^:\[\]\s]*)):(\d{1,5})", text)
    if match is None or not int(match[3]) < 65536:
        raise ValueError(f"not an address: {text!r}")
    return match[1] or match[2] or "0.0.0.0", int(match[3])


def joined_address(host: str, port: int) -> str:
    """`host:port`, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _address(given: str) -> str:
    try:
        split_address(given)
    except ValueError:
        raise unwanted('an address such as "127.0.0.1:8080" or ":8080"') from None
    return given


_LABEL = "[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_REMOTE = re.compile(
    rf"(?:http://)?(?:\[(?P<v6>[^\[\]]+)\]|(?P<v4>[\d.]+)|(?P<name>{_LABEL}(?:\.{_LABEL})*\.?)):(\d{{1,5}})/?"
)


def remote_address(text: str) -> str:
    """`host:port` of a server we call: a name, an IPv4 address or a bracketed IPv6 one, and a port from 1 on.

    The reference's files say `http://host:port`; what is in front is taken off. Raises ValueError for anything else.
    """
    match = _REMOTE.fullmatch(text)
    if match is None or not 0 < int(match[4]) < 65536 or len(match["name"] or "") > 253:
        raise ValueError(f"not an address: {text!r}")
    if match["v6"]:
        return f"[{ipaddress.IPv6Address(match['v6'])}]:{match[4]}"
    return f"{ipaddress.IPv4Address(match['v4']) if match['v4'] else match['name']}:{match[4]}"


def _remote_address(given: str) -> str:
    wanted = 'host:port with a port from 1 to 65535, such as "10.0.0.5:8002", "name:8002" or "[::1]:8002"'
    if given.startswith("https://"):
        raise unwanted(f"{wanted} (TLS to it is not supported yet, so not https://)")
    try:
        return remote_address(given)
    except ValueError:
        raise unwanted(wanted) from None


def _host_type(given: Any) -> HostType:
    if isinstance(given, HostType):
        return given
    if isinstance(given, str) and given.upper() in HostType.__members__:
        return HostType[given.upper()]
    raise unwanted("one of " + ", ".join(name.lower() for name in HostType.__members__))


def _regular_expression(given: str) -> str:
    try:
        re.compile(given)
    except re.error as error:
        raise unwanted(f"a regular expression ({error})") from None
    return given


def read_mode(given: Any) -> int:
    if isinstance(given, int) and not isinstance(given, bool) and 0 <= given <= 0o777:
        return given
    if isinstance(given, str) and re.fullmatch(r"0?[0-7]{3}", given):
        return int(given, 8)
    raise unwanted('rights in octal such as "0640"')


def _path(given: Path) -> Path:
    if not str(given) or "\0" in str(given):
        raise unwanted("a path")
    return given


Flag = Annotated[bool, Field(strict=True)]
Text = Annotated[str, Field(strict=True)]
Number = Annotated[int, Field(strict=True, ge=0)]
Count = Annotated[int, Field(strict=True, ge=1)]
Percent = Annotated[int, Field(strict=True, ge=1, le=99)]
Rate = Annotated[float, Field(strict=True, gt=0)]
"""Per second."""
Port = Annotated[int, Field(strict=True, ge=0, le=65535)]
"""0 lets the system choose."""
Size = Annotated[Bytes, BeforeValidator(read_size)]
Bandwidth = Annotated[Bytes, BeforeValidator(read_size), AfterValidator(_above_nothing)]
"""Bytes per second."""
Duration = Annotated[Seconds, BeforeValidator(read_duration)]
Ip = Annotated[str, Field(strict=True), AfterValidator(_ip)]
Address = Annotated[str, Field(strict=True), AfterValidator(_address)]
RemoteAddress = Annotated[str, Field(strict=True), AfterValidator(_remote_address)]
"""Of a server we call; kept as bare host:port."""
FilePath = Annotated[Path, AfterValidator(_path)]
Kind = Annotated[HostType, BeforeValidator(_host_type)]
Mode = Annotated[int, BeforeValidator(read_mode)]
"""Rights of a file. In YAML 0640 is an octal number and "0640" a text; both mean the same."""
Pattern = Annotated[str, Field(strict=True), AfterValidator(_regular_expression)]
