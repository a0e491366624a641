"""Pages that list a directory, written as different web servers write them: what clients of such pages are tried on."""

import json
from collections.abc import Callable, Mapping, Sequence
from html import escape
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import quote

from dragonfly.core.model.units import Bytes


class Entry(NamedTuple):
    """A file, or a directory where there is no length. The name is as it is, not encoded."""

    name: str
    length: Bytes | None = None

    @property
    def shown(self) -> str:
        """The name as pages show it, with a slash behind directories."""
        return self.name if self.length is not None else f"{self.name}/"

    @property
    def href(self) -> str:
        """A relative link to it."""
        return quote(self.shown)


class Page(NamedTuple):
    """A body and its Content-Type."""

    content_type: str
    body: bytes


def index_page(style: str, path: str, entries: Sequence[Entry]) -> Page:
    """The page of the directory `path`, which ends in a slash. `style` is one of `STYLES`."""
    if style == "nginx-json":
        return Page("application/json", _nginx_json(entries).encode())
    return Page("text/html; charset=utf-8", _STYLES[style](escape(path), entries).encode())


def _nginx(path: str, entries: Sequence[Entry]) -> str:
    rows = "".join(
        f'<a href="{entry.href}">{escape(entry.shown)}</a>  01-Jan-2026 00:00  {_size(entry):>19}\r\n'
        for entry in entries
    )
    return (
        f"<html>\r\n<head><title>Index of {path}</title></head>\r\n<body>\r\n<h1>Index of {path}</h1><hr><pre>"
        f'<a href="../">../</a>\r\n{rows}</pre><hr></body>\r\n</html>\r\n'
    )


def _nginx_json(entries: Sequence[Entry]) -> str:
    time = {"mtime": "Thu, 01 Jan 2026 00:00:00 GMT"}
    return json.dumps(
        [
            {"name": entry.name, "type": "directory", **time}
            if entry.length is None
            else {"name": entry.name, "type": "file", **time, "size": entry.length}
            for entry in entries
        ]
    )


def _apache(path: str, entries: Sequence[Entry]) -> str:
    columns = "".join(
        f'<th><a href="?C={letter};O=A">{name}</a></th>'
        for letter, name in (("N", "Name"), ("M", "Last modified"), ("S", "Size"), ("D", "Description"))
    )
    rows = "".join(
        f'<tr><td valign="top"><a href="{entry.href}"><img src="/icons/unknown.gif" alt="[   ]"></a></td>'
        f'<td><a href="{entry.href}">{escape(entry.shown)}</a></td>'
        f'<td align="right">2026-01-01 00:00  </td><td align="right">{_size(entry)}</td></tr>\n'
        for entry in entries
    )
    name = path.rstrip("/")
    parent = name.rpartition("/")[0] + "/"
    return (
        '<!DOCTYPE HTML PUBLIC "-//W3C//DTD HTML 3.2 Final//EN">\n<html>\n <head>\n'
        f"  <title>Index of {name or '/'}</title>\n </head>\n <body>\n<h1>Index of {name}</h1>\n"
        f'<table><tr><th valign="top"></th>{columns}</tr>\n<tr><td><a href="{parent}">Parent Directory</a></td></tr>\n'
        f"{rows}</table>\n</body></html>\n"
    )


def _lighttpd(path: str, entries: Sequence[Entry]) -> str:
    rows = "".join(
        f'<tr class="d"><td class="n"><a href="{entry.href}">{escape(entry.name)}</a>'
        f'{"/" if entry.length is None else ""}</td><td class="s">{_size(entry)}</td></tr>\n'
        for entry in entries
    )
    return (
        f"<!DOCTYPE html>\n<html>\n<head>\n<title>Index of {path}</title>\n</head>\n<body>\n<h2>Index of {path}</h2>\n"
        '<div class="list">\n<table summary="Directory Listing" cellpadding="0" cellspacing="0">\n<tbody>\n'
        f'<tr class="d"><td class="n"><a href="../">..</a>/</td></tr>\n{rows}</tbody>\n</table>\n</div>\n'
        "</body>\n</html>\n"
    )


def _caddy(path: str, entries: Sequence[Entry]) -> str:
    rows = "".join(
        f'<tr class="file"><td></td><td><a href="./{entry.href}"><span class="name">{escape(entry.shown)}</span></a>'
        f'</td><td data-size="{entry.length}">{_size(entry)}</td></tr>\n'
        for entry in entries
    )
    return (
        f'<!DOCTYPE html>\n<html>\n<head><title>{path}</title><meta charset="utf-8"></head>\n<body>\n<header><h1>'
        f'<a href="/">/</a></h1></header><main><div class="listing"><table aria-describedby="summary"><thead><tr>'
        '<th><a href="?sort=name&amp;order=asc">Name</a></th></tr></thead><tbody>'
        f'<tr><td><a href=".."><span class="goup">Up</span></a></td></tr>\n{rows}</tbody></table>'
        "</div></main></body></html>\n"
    )


def _python(path: str, entries: Sequence[Entry]) -> str:
    rows = "".join(f'<li><a href="{entry.href}">{escape(entry.shown)}</a></li>\n' for entry in entries)
    return (
        f'<!DOCTYPE HTML>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>Directory listing for {path}</title>\n</head>\n<body>\n"
        f"<h1>Directory listing for {path}</h1>\n<hr>\n<ul>\n{rows}</ul>\n<hr>\n</body>\n</html>\n"
    )


def _size(entry: Entry) -> str:
    return "-" if entry.length is None else str(entry.length)


_STYLES: Mapping[str, Callable[[str, Sequence[Entry]], str]] = MappingProxyType(
    {"nginx": _nginx, "apache": _apache, "lighttpd": _lighttpd, "caddy": _caddy, "python": _python}
)
STYLES = (*_STYLES, "nginx-json")
"""Whose pages can be written."""
