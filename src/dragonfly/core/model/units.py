"""Quantities with a unit, and the texts people write them as."""

import re

from dragonfly.errors import InvalidQuantity

Bytes = int
Seconds = float

KiB: Bytes = 1 << 10
MiB: Bytes = 1 << 20
GiB: Bytes = 1 << 30

_NUMBER = r"[0-9]{1,18}(?:\.[0-9]{1,18})?"  # bounded, so that no text becomes an infinity
_SIZE = re.compile(rf"\s*({_NUMBER})\s*([a-z]*)\s*", re.IGNORECASE)
_SIZE_UNITS: dict[str, Bytes] = {"": 1, "b": 1}
for _power, _letter in enumerate("kmgtp", start=1):
    _SIZE_UNITS |= {f"{_letter}ib": 1024**_power, f"{_letter}i": 1024**_power}
    _SIZE_UNITS |= {f"{_letter}b": 1000**_power, _letter: 1000**_power}

_DURATION_PART = re.compile(rf"\s*({_NUMBER})\s*([a-zA-Zµμ]+)")
_DURATION_UNITS: dict[str, Seconds] = {
    **dict.fromkeys(("ns", "nsec"), 1e-9),
    **dict.fromkeys(("us", "µs", "μs", "usec"), 1e-6),
    **dict.fromkeys(("ms", "msec", "millis"), 1e-3),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
    **dict.fromkeys(("w", "week", "weeks"), 604800.0),
    **dict.fromkeys(("M", "month", "months"), 2630016.0),  # 30.44 days, as the reference counts
    **dict.fromkeys(("y", "year", "years"), 31557600.0),
}


def parse_size(text: str) -> Bytes:
    """Bytes of `4MiB`, `50GB`, `1024`: KB, MB, GB are powers of 1000, KiB, MiB, GiB of 1024. Raises InvalidQuantity."""
    match = _SIZE.fullmatch(text)
    unit = _SIZE_UNITS.get(match[2].lower()) if match else None
    if match is None or unit is None:
        raise InvalidQuantity(kind="size", text=text, example="4MiB")
    return int(float(match[1]) * unit) if "." in match[1] else int(match[1]) * unit


def parse_duration(text: str) -> Seconds:
    """Seconds of `30s`, `2h`, `1h 5m`, `500ms`; a number alone has no unit and raises InvalidQuantity.

    Case matters: `1m` is a minute, `1M` a month.
    """
    parts = _DURATION_PART.findall(text)
    if not parts or _DURATION_PART.sub("", text).strip():
        raise InvalidQuantity(kind="duration", text=text, example="30s")
    try:
        return sum(float(number) * _DURATION_UNITS[unit] for number, unit in parts)
    except KeyError:
        raise InvalidQuantity(kind="duration", text=text, example="30s") from None


def format_size(count: Bytes | float) -> str:
    """`1.5 GiB` for people."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"
