"""Every flag of dfget, one row each: names, how its text is read, its default, its group in `--help`.

Which flag has a DFGET_* variable follows upstream, so that a machine set up for the one works for the other.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dragonfly.cli.daemon_socket import DEFAULT_ENDPOINT
from dragonfly.cli.dfget import flag_texts as texts
from dragonfly.cli.exit_codes import MEANINGS


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """One flag. `read` turns its text into a value or raises InvalidInput; a switch has one in its variable only."""

    name: str
    help: str
    group: str
    short: str | None = None
    metavar: str | None = None
    default: str | None = None
    read: Callable[[str], object] = str
    has_variable: bool = True
    is_switch: bool = False
    is_list: bool = False

    @property
    def variable(self) -> str:
        return "DFGET_" + self.name.upper().replace("-", "_")

    @property
    def field(self) -> str:
        return self.name.replace("-", "_")


def _switch(name: str, group: str, help: str, **more: Any) -> Flag:  # noqa: A002  # argparse's own word
    return Flag(name=name, group=group, help=help, read=texts.boolean, is_switch=True, default="false", **more)


ACCESS = "access to other origins than http and https"
"""Group of the flags that only some schemes use; see source_access.py."""

_OBJECT_STORAGE = {
    "region": "region of the bucket", "endpoint": "address of the object store", "access-key-id": "id of the key",
    "access-key-secret": "the key", "security-token": "token of oss", "session-token": "token of s3",
    "credential-path": "file of credentials, on the daemon's host, for gs", "predefined-acl": "access list of gs",
}  # fmt: skip


def _access(name: str, help: str) -> Flag:  # noqa: A002
    return Flag(name=name, metavar="TEXT", read=texts.text, group=ACCESS, help=help)


FLAGS = (
    Flag(name="output", short="O", metavar="PATH", read=texts.output, has_variable=False, group="output",
         help="the file to write, or the directory with --recursive; required"),
    _switch("overwrite", "output", "replace an existing file, once the new one is whole"),
    _switch("force-hard-link", "output", "the output must be a hard link of the daemon's own file, or the download "
            "fails; do not edit such a file in place"),
    _switch("json", "output", "write one JSON object to stdout at the end, after failures too", has_variable=False),
    _switch("json-progress", "output", "as --json, with a line of progress about five times a second before it",
            has_variable=False),
    _switch("no-progress", "output", "no bar and no summary on stderr"),
    _switch("transfer-from-dfdaemon", "output", "the daemon sends the bytes and dfget writes them, for a daemon that "
            "does not see this file system"),
    Flag(name="timeout", metavar="DURATION", default="2h", read=texts.timeout, group="download",
         help="give up when the whole download is not done by then"),
    Flag(name="digest", metavar="ALGORITHM:VALUE", read=texts.digest, has_variable=False, group="download",
         help="the content must have this digest: sha256:<hex>, sha512:<hex> or crc32:<decimal>"),
    Flag(name="priority", short="p", metavar="0..6", default="6", read=texts.priority, group="download",
         help="1 forbids the download, 2 allows peers only, 3 goes to the origin itself, others ask a seed peer first"),
    Flag(name="disable-back-to-source", read=texts.boolean, is_switch=True, default="false", group="download",
         help="peers only: never read the origin"),
    Flag(name="header", short="H", metavar="'NAME: VALUE'", read=texts.header, has_variable=False, is_list=True,
         group="download", help="a header of the requests to the origin; repeatable"),
    Flag(name="range", metavar="RANGE", read=texts.byte_range, has_variable=False, group="download",
         help="only these bytes: 0-99 the first hundred, 100- all from there on, -50 the last fifty"),
    _switch("prefetch", "download", "with --range: the daemon fetches the rest of the file too", has_variable=False),
    _switch("insecure-skip-verify", "download", "do not verify the certificate of an https origin"),
    Flag(name="certificate", metavar="FILE", read=texts.certificates, group="download",
         help="a PEM file; an https origin whose certificate one of these has signed is trusted"),
    _switch("recursive", "directories", "download the directory that the URL names; files that are there already, with "
            "the length the listing tells, are not downloaded again without --overwrite", short="r",
            has_variable=False),
    Flag(name="include-files", short="I", metavar="GLOB", read=texts.include, has_variable=False, is_list=True,
         group="directories",
         help="only files whose path in the directory matches: *.txt, docs/**, a/?.bin; repeatable"),
    Flag(name="max-files", metavar="COUNT", default="100", read=texts.count, group="directories",
         help="refuse a directory with more files than that, or with more directories"),
    Flag(name="max-concurrent-requests", metavar="COUNT", default="5", read=texts.count, group="directories",
         help="files downloaded at once"),
    Flag(name="application", metavar="NAME", default="", read=texts.text, group="which downloads share their pieces",
         help="downloads of different applications do not share"),
    Flag(name="tag", metavar="TEXT", default="", read=texts.text, group="which downloads share their pieces",
         help="downloads with different tags do not share"),
    Flag(name="filtered-query-param", metavar="NAME", read=texts.text, has_variable=False, is_list=True,
         group="which downloads share their pieces",
         help="a query parameter of the URL that does not matter for sharing; repeatable, replaces the default list: "
         "the signatures of the usual object stores"),
    Flag(name="piece-length", metavar="SIZE", read=texts.piece_length, group="which downloads share their pieces",
         help="length of a piece, at least 4MiB; by default it follows from the content's length"),
    Flag(name="content-for-calculating-task-id", metavar="TEXT", read=texts.text,
         group="which downloads share their pieces",
         help="share with downloads that say the same text, whatever their URL"),
    *(_access(f"storage-{name}", meaning) for name, meaning in _OBJECT_STORAGE.items()),
    Flag(name="storage-insecure-skip-verify", metavar="BOOLEAN", read=texts.boolean, group=ACCESS,
         help="do not verify the certificate of the object store"),
    _access("hdfs-delegation-token", "token of a Hadoop file system"),
    _access("hf-revision", "revision of a Hugging Face repository; main if not given"),
    _access("hf-token", "token for Hugging Face"),
    _access("hf-base-url", "another hub than Hugging Face's own"),
    _access("ms-revision", "revision of a ModelScope repository; master if not given"),
    _access("ms-token", "token for ModelScope"),
    _access("ms-base-url", "another hub than ModelScope's own"),
    Flag(name="endpoint", short="e", metavar="SOCKET", default=DEFAULT_ENDPOINT, read=texts.socket_path,
         has_variable=False, group="daemon", help="the socket where this host's dfdaemon listens"),
    Flag(name="log-level", short="l", metavar="LEVEL", default="info", read=texts.log_level, group="daemon",
         help="how much --console tells: trace, debug, info, warn or error"),
    _switch("console", "daemon", "write a log to stderr"),
)  # fmt: skip

REFUSED = tuple(
    Flag(name=f"csg-{name}", group="", help="") for name in ("revision", "token", "base-url")
)  # upstream's message for OpenCSG has no number we know

DESCRIPTION = """\
Download a file or a directory through this host's dfdaemon: from peers that have it, and from its origin where none
has.
"""
EPILOG = f"""\
examples:
  dfget https://example.com/disk.img -O disk.img
  dfget https://example.com/model.bin -O /models/model.bin --overwrite --digest sha256:9f86d081...
  dfget https://example.com/disk.img -O head.bin --range 0-1048575
  dfget s3://models/llama/ -O llama --recursive -I '*.safetensors' --storage-region eu-west-1
  dfget https://example.com/private.tar -O private.tar -H "Authorization: Bearer $TOKEN" --timeout 10m

exit status:
{chr(10).join(f"  {status:>3}  {meaning}" for status, meaning in MEANINGS.items())}

not supported yet, and refused by name:
  --csg-revision, --csg-token, --csg-base-url
"""
