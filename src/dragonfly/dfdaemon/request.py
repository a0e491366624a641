"""What a caller asks of this daemon, read from the wire and checked once; everything behind it trusts these values."""

from dataclasses import dataclass, field
from pathlib import Path

from dragonfly.core.model.digest import Digest
from dragonfly.core.model.ids import TaskId, TaskKey, blob_task_id, content_task_id, url_task_id
from dragonfly.core.model.piece import check_requested_piece_length
from dragonfly.core.model.principal import Principal
from dragonfly.core.model.ranges import ByteRange, parse_range_header
from dragonfly.core.model.task import Priority, TaskKind
from dragonfly.core.model.units import Bytes
from dragonfly.errors import InvalidInput, InvalidRange, InvalidUrl, OutputUnwritable, UnsupportedFeature
from dragonfly.source.protocol import SourceRequest
from dragonfly.wire.convert import priority_from_pb, range_from_pb
from dragonfly.wire.pb import common_pb2


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputRequest:
    """Where the caller wants the file. `path` is absolute."""

    path: Path
    overwrite: bool = False
    force_hard_link: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadRequest:
    """One download as asked for. `wire` is the message itself, which the scheduler gets when we register."""

    key: TaskKey
    principal: Principal
    source: SourceRequest
    wire: common_pb2.Download = field(repr=False)
    span: ByteRange | None = None
    range_header: str = ""
    piece_length: Bytes | None = None
    digest: Digest | None = None
    output: OutputRequest | None = None

    @classmethod
    def from_wire(cls, download: common_pb2.Download) -> "DownloadRequest":
        """Raises InvalidInput where the message asks for something impossible or not supported yet."""
        _refuse_unsupported(download)
        if not download.url:
            raise InvalidUrl(url="", reason="a download needs one")
        principal = Principal(application=download.application)  # callers have no identity of their own yet
        length = check_requested_piece_length(download.piece_length) if download.HasField("piece_length") else None
        return cls(
            key=TaskKey(principal.scope, _task_id(download, length)),
            principal=principal,
            source=SourceRequest(
                url=download.url,
                headers=dict(download.request_header),
                insecure_skip_verify=download.insecure_skip_verify,
                certificate_chain=tuple(download.certificate_chain),
            ),
            wire=download,
            span=range_from_pb(download.range) if download.HasField("range") else None,
            range_header=_range_header(download),
            piece_length=length,
            digest=Digest.parse(download.digest) if download.digest else None,
            output=_output(download),
        )

    @property
    def is_partial(self) -> bool:
        """Whether only a range is asked for."""
        return self.span is not None or bool(self.range_header)

    @property
    def wants_content(self) -> bool:
        """Whether the caller wants the bytes themselves, in the answers."""
        return self.wire.need_piece_content

    @property
    def priority(self) -> Priority:
        return priority_from_pb(self.wire.priority)

    @property
    def is_prefetch(self) -> bool:
        return self.wire.is_prefetch

    def span_within(self, content_length: Bytes | None) -> ByteRange | None:
        """The bytes that have to be brought; None for all of them, so that a range of everything is the whole file's
        flight. Raises InvalidRange.
        """
        asked = self.range_within(content_length)
        return None if asked is None or asked.length == content_length else asked

    def range_within(self, content_length: Bytes | None) -> ByteRange | None:
        """The range that was asked for, cut to the file, be it all of it; None where none was. Raises InvalidRange.

        The message's own field wins over a Range header, as in the reference.
        """
        if not self.is_partial:
            return None
        text = self.span.header() if self.span is not None else self.range_header
        if content_length is None:
            raise InvalidRange(text=text, reason="the origin does not tell how long the file is")
        return parse_range_header(text, content_length)

    def as_prefetch(self) -> "DownloadRequest":
        """The download of the whole file behind a range of it, which nobody waits for."""
        whole = common_pb2.Download()
        whole.CopyFrom(self.wire)
        for name in ("range", "output_path", "digest", "timeout", "need_piece_content", "prefetch"):
            whole.ClearField(name)
        for name in [name for name in whole.request_header if name.lower() == "range"]:
            del whole.request_header[name]
        whole.is_prefetch = True
        return DownloadRequest.from_wire(whole)


def _refuse_unsupported(download: common_pb2.Download) -> None:
    unsupported = {
        "a task that is not a standard one": download.type != TaskKind.STANDARD.value,
    }
    for feature, is_asked in unsupported.items():
        if is_asked:
            raise UnsupportedFeature(feature=feature)
    is_partial = download.HasField("range") or bool(_range_header(download))
    if is_partial and download.digest:
        raise InvalidInput(reason="a digest is one of the whole file; a range cannot be compared with it")
    if is_partial and download.force_hard_link:
        raise InvalidInput(reason="a range of a file cannot be a hard link")


def _range_header(download: common_pb2.Download) -> str:
    return next((value for name, value in download.request_header.items() if name.lower() == "range"), "")


def _task_id(download: common_pb2.Download, piece_length: Bytes | None) -> TaskId:
    """As the reference chooses it: the caller's own text, else the blob's digest where enabled, else the URL."""
    if download.HasField("content_for_calculating_task_id"):
        return content_task_id(download.content_for_calculating_task_id)
    if download.enable_task_id_based_blob_digest and (blob := blob_task_id(download.url)):
        return blob
    return url_task_id(
        download.url,
        tag=download.tag,
        application=download.application,
        piece_length=piece_length,
        filtered_query_params=download.filtered_query_params,
    )


def _output(download: common_pb2.Download) -> OutputRequest | None:
    if not download.HasField("output_path"):
        return None
    if "\0" in download.output_path or not download.output_path.startswith("/"):
        raise OutputUnwritable(path=repr(download.output_path), reason="the path is not absolute")
    return OutputRequest(
        path=Path(download.output_path), overwrite=download.overwrite, force_hard_link=download.force_hard_link
    )
