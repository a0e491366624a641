"""What a peer tells the scheduler of its download when it registers."""

from dragonfly.dfdaemon.flight import Flight
from dragonfly.wire.convert import range_to_pb
from dragonfly.wire.pb import common_pb2
from dragonfly.wire.transfer import PeerMessages


def messages_of(flight: Flight, host_id: str, *, concurrent_piece_count: int, is_seed: bool) -> PeerMessages:
    """The messages of a flight's peer; a seed says from the start that it needs the origin."""
    download = asked_for(flight)
    download.concurrent_piece_count = concurrent_piece_count
    download.need_back_to_source |= is_seed
    return PeerMessages(host_id, flight.key.wire_id, flight.peer_id, download)


def asked_for(flight: Flight) -> common_pb2.Download:
    """What its caller asked for, with the part that is flown and the lengths and version the origin gave."""
    download = common_pb2.Download()
    download.CopyFrom(flight.request.wire)
    download.ClearField("output_path")  # nobody else's business
    for name in [name for name in download.request_header if name.lower() == "range"]:
        del download.request_header[name]
    download.ClearField("range")
    if flight.span is not None:
        download.range.CopyFrom(range_to_pb(flight.span))
    geometry = flight.geometry
    if not geometry.is_open:
        download.actual_content_length = geometry.content_length
        download.actual_piece_length = geometry.piece_length
        download.actual_piece_count = geometry.piece_count
    download.generation = flight.generation
    return download
