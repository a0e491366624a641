"""What a peer tells the scheduler of its download when it registers."""

from dragonfly.core.model.piece import PieceGeometry
from dragonfly.core.model.ranges import ByteRange
from dragonfly.dfdaemon.request import DownloadRequest
from dragonfly.wire.convert import range_to_pb
from dragonfly.wire.pb import common_pb2


def registration(
    request: DownloadRequest,
    span: ByteRange | None,
    geometry: PieceGeometry,
    generation: str,
    *,
    concurrent_piece_count: int,
    is_seed: bool,
) -> common_pb2.Download:
    """What the caller asked for, with the part that is brought here and the lengths and version the origin gave.

    A seed says from the start that it needs the origin.
    """
    download = common_pb2.Download()
    download.CopyFrom(request.wire)
    download.ClearField("output_path")  # nobody else's business
    for name in [name for name in download.request_header if name.lower() == "range"]:
        del download.request_header[name]
    download.ClearField("range")
    if span is not None:
        download.range.CopyFrom(range_to_pb(span))
    if not geometry.is_open:
        download.actual_content_length = geometry.content_length
        download.actual_piece_length = geometry.piece_length
        download.actual_piece_count = geometry.piece_count
    download.generation = generation
    download.concurrent_piece_count = concurrent_piece_count
    download.need_back_to_source |= is_seed
    return download
