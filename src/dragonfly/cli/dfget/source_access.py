"""What a URL's scheme means for the flags: which credentials it uses, and whether the URL names a directory.

Only what the scheme uses is sent to the daemon. A flag it does not use is said so and passed over, so that one command
line can serve several URLs; a variable, which is set for a whole machine, is passed over silently.
"""

from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from dragonfly.errors import InvalidUrl

_STORES = ("s3", "gs", "abs", "oss", "obs", "cos")
_FAMILIES = {**dict.fromkeys(_STORES, "storage"), "hdfs": "hdfs", "hf": "hf", "modelscope": "ms"}
_FILES_ONLY = ("http", "https")  # a URL that ends in a slash is an ordinary file of such a server


def family(url: str) -> str | None:
    """The beginning of the flags this URL's scheme uses: storage, hdfs, hf, ms, or None for none."""
    return _FAMILIES.get(url.partition(":")[0].lower())


def used(url: str, access: Mapping[str, str | bool | None]) -> dict[str, str | bool]:
    """What was said for this scheme, by the flags' names without their family."""
    prefix = f"{family(url)}_"
    return {
        name.removeprefix(prefix): value
        for name, value in access.items()
        if name.startswith(prefix) and value is not None and value != ""
    }


def notices(url: str, given: Iterable[str]) -> tuple[str, ...]:
    """One sentence where flags were given that this scheme does not use."""
    prefix = f"{family(url)}_"
    names = [f"--{name.replace('_', '-')}" for name in given if not name.startswith(prefix)]
    if not names:
        return ()
    scheme = url.partition(":")[0].lower()
    return (f"{', '.join(names)} {'has' if len(names) == 1 else 'have'} no effect on {scheme} URLs",)


def is_directory(url: str) -> bool:
    """Whether the URL names a directory by its own, without --recursive."""
    return url.partition(":")[0].lower() not in _FILES_ONLY and _path_of(url).endswith("/")


def directory_url(url: str) -> str:
    """The URL with a slash at the end of its path."""
    path = _path_of(url)
    parts = urlsplit(url)
    return url if path.endswith("/") else parts._replace(path=path + "/").geturl()


def _path_of(url: str) -> str:
    try:
        return urlsplit(url).path
    except ValueError as error:  # such as half an IPv6 address
        raise InvalidUrl(url=url, reason=str(error)) from None
