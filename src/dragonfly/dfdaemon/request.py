"""What a caller asks of this daemon, read from the wire and checked once; everything behind it trusts these values."""

from dataclasses import dataclass, field
from pathlib import Path

from dragonfly.core.model.digest import Digest
from dragonfly.core.model.ids import TaskId, TaskKey, blob_task_id, content_task_id, url_task_id
from dragonfly.core.model.piece import check_requested_piece_length
from dragonfly.core.model.principal import Principal
from dragonfly.core.model.task import TaskKind
from dragonfly.core.model.units import Bytes
from dragonfly.errors import InvalidUrl, OutputUnwritable, UnsupportedFeature
from dragonfly.source.protocol import SourceRequest
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
            source=SourceRequest(url=download.url, headers=dict(download.request_header)),
            wire=download,
            piece_length=length,
            digest=Digest.parse(download.digest) if download.digest else None,
            output=_output(download),
        )


def _refuse_unsupported(download: common_pb2.Download) -> None:
    unsupported = {
        "a task that is not a standard one": download.type != TaskKind.STANDARD.value,
        "downloading a range": download.HasField("range"),
        "sending piece content to the caller": download.need_piece_content,
        "prefetching": download.prefetch,
        "a certificate chain for the origin": bool(download.certificate_chain),
    }
    for feature, is_asked in unsupported.items():
        if is_asked:
            raise UnsupportedFeature(feature=feature)


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
