"""dfget's conversation with this host's dfdaemon. Loads gRPC, so it is imported once that is needed."""

import logging
from collections.abc import Generator
from typing import cast

import grpc
from google.protobuf.duration_pb2 import Duration

from dragonfly.cli.daemon_calls import OPTIONS, call_error, target
from dragonfly.cli.dfget import source_access
from dragonfly.cli.dfget.arguments import Arguments
from dragonfly.core.model.ids import DEFAULT_FILTERED_QUERY_PARAMS
from dragonfly.core.model.units import Seconds
from dragonfly.wire.pb import common_pb2, dfdaemon_pb2

log = logging.getLogger(__name__)

_DOWNLOAD_TASK = "/dfdaemon.v2.DfdaemonDownload/DownloadTask"  # the generated stub takes 8 ms of CPU to load


def download_request(arguments: Arguments, output_path: str | None = None) -> dfdaemon_pb2.DownloadTaskRequest:
    """What the daemon is asked for; it may overwrite `output_path`, which is our own empty draft.

    None: the daemon sends the content.
    """
    names = arguments.filtered_query_param
    known = arguments.range.known if arguments.range else None
    download = common_pb2.Download(
        url=arguments.url,
        type=common_pb2.TaskType.STANDARD,
        tag=arguments.tag,
        application=arguments.application,
        priority=common_pb2.Priority.Name(arguments.priority),  # type: ignore[arg-type]  # 0..6, checked when read
        filtered_query_params=DEFAULT_FILTERED_QUERY_PARAMS if names is None else names,
        request_header=_header(arguments),
        range=None if known is None else common_pb2.Range(start=known.start, length=known.length),
        prefetch=arguments.prefetch,
        output_path=output_path,
        overwrite=output_path is not None,
        need_piece_content=arguments.transfer_from_dfdaemon,
        force_hard_link=arguments.force_hard_link,
        disable_back_to_source=arguments.disable_back_to_source,
        timeout=duration(arguments.timeout),
        digest=None if arguments.digest is None else str(arguments.digest),
        piece_length=arguments.piece_length,
        content_for_calculating_task_id=arguments.content_for_calculating_task_id,
        certificate_chain=arguments.certificate,
        insecure_skip_verify=arguments.insecure_skip_verify,
    )
    _put_access(download, arguments)
    return dfdaemon_pb2.DownloadTaskRequest(download=download)


def listing_request(arguments: Arguments) -> dfdaemon_pb2.ListTaskEntriesRequest:
    """Asks for the entries of the directory that the arguments name."""
    request = dfdaemon_pb2.ListTaskEntriesRequest(
        url=arguments.url,
        request_header=dict(arguments.header),
        timeout=duration(arguments.timeout),
        certificate_chain=arguments.certificate,
        insecure_skip_verify=arguments.insecure_skip_verify,
    )
    _put_access(request, arguments)
    return request


def responses(
    arguments: Arguments, request: dfdaemon_pb2.DownloadTaskRequest, seconds_left: Seconds
) -> Generator[dfdaemon_pb2.DownloadTaskResponse, None, None]:
    """Everything the daemon says until the output is written. Leaving early cancels the download.

    Raises DaemonUnreachable, DeadlineExceeded, or what the daemon's status stands for.
    """
    endpoint = arguments.endpoint
    with grpc.insecure_channel(target(endpoint), options=OPTIONS) as channel:
        log.debug("asking %s for %s", endpoint, arguments.url)
        download = channel.unary_stream(
            _DOWNLOAD_TASK,
            request_serializer=dfdaemon_pb2.DownloadTaskRequest.SerializeToString,
            response_deserializer=dfdaemon_pb2.DownloadTaskResponse.FromString,
        )
        call = download(request, timeout=max(seconds_left, 0.001))
        try:
            yield from call
        except grpc.RpcError as error:
            ended = cast(grpc.Call, error)  # what a call raises is both; the stubs do not say so
            trailing = tuple(ended.trailing_metadata() or ())
            raise call_error(ended.code(), ended.details(), trailing, endpoint, arguments.timeout) from error
        finally:
            call.cancel()


def duration(seconds: Seconds) -> Duration:
    """As protobuf has it."""
    result = Duration()
    result.FromNanoseconds(int(seconds * 1e9))
    return result


def _header(arguments: Arguments) -> dict[str, str]:
    """The origin's request headers; among them a range of which an end is not known, for the daemon to resolve."""
    header = dict(arguments.header)
    if arguments.range is not None and arguments.range.known is None:
        header["Range"] = arguments.range.header()
    return header


def _put_access(request: common_pb2.Download | dfdaemon_pb2.ListTaskEntriesRequest, arguments: Arguments) -> None:
    """The message of the URL's scheme; it is there even where nothing was said, as the daemon looks for it."""
    access = arguments.access
    match source_access.family(arguments.url):
        case "storage":
            request.object_storage.CopyFrom(common_pb2.ObjectStorage(**access))  # type: ignore[arg-type]  # by name
        case "hdfs":
            request.hdfs.CopyFrom(common_pb2.HDFS(**access))  # type: ignore[arg-type]
        case "hf":
            request.hugging_face.CopyFrom(common_pb2.HuggingFace(**{"revision": "main", **access}))  # type: ignore[arg-type]
        case "ms":
            request.model_scope.CopyFrom(common_pb2.ModelScope(**{"revision": "master", **access}))  # type: ignore[arg-type]
