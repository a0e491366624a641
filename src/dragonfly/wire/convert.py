"""Protobuf messages <-> core values: hosts, pieces, ranges, tasks.

Every `…_from_pb` reads what a stranger sent: it raises an InvalidInput that says in one sentence what is wrong, and
what it returns is safe to use. Absent optional sections are no error, they are unknown figures. Request headers and
other credentials have no way through here: no function copies them, `without_credentials` takes them out.
"""

import ipaddress
import math
from collections.abc import Iterable
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from dragonfly.core.model.digest import Digest
from dragonfly.core.model.host import Build, Host, HostType, Network
from dragonfly.core.model.ids import HostId, PeerId, TaskKey
from dragonfly.core.model.piece import MAX_PIECE_COUNT, ROOT_LENGTH, Piece, PieceGeometry, PieceNumber, TrafficType
from dragonfly.core.model.ranges import ByteRange
from dragonfly.core.model.task import Priority, SizeScope, TaskDescription, TaskKind
from dragonfly.core.model.units import Bytes, Seconds
from dragonfly.errors import InvalidIdentifier, InvalidInput, InvalidUrl
from dragonfly.wire.pb import common_pb2

MAX_IDENTIFIER_LENGTH = 512  # an IP address, the longest host name, a UUID and their suffixes need 340
MAX_PORT = 65535
MAX_SECONDS = 253_402_300_799  # the end of the year 9999, where a Timestamp ends
_NANOS = 1_000_000_000

_SIZE_SCOPES = {
    SizeScope.EMPTY: common_pb2.EMPTY,
    SizeScope.TINY: common_pb2.TINY,
    SizeScope.SMALL: common_pb2.SMALL,
    SizeScope.NORMAL: common_pb2.NORMAL,
    SizeScope.UNKNOWN: common_pb2.NORMAL,  # the wire has no word for it; the reference treats the two alike
}

# --- time


def duration_to_pb(seconds: Seconds) -> Duration:
    """A Duration; what is not a positive number of seconds becomes none at all."""
    whole, nanos = _split(seconds)
    return Duration(seconds=whole, nanos=nanos)


def duration_from_pb(duration: Duration) -> Seconds:
    """Seconds, never negative."""
    return _joined(duration)


def timestamp_to_pb(unix_seconds: Seconds) -> Timestamp:
    """A Timestamp of Unix seconds."""
    whole, nanos = _split(unix_seconds)
    return Timestamp(seconds=whole, nanos=nanos)


def timestamp_from_pb(timestamp: Timestamp) -> Seconds:
    """Unix seconds; 0.0 for a timestamp that was never set."""
    return _joined(timestamp)


def _split(seconds: Seconds) -> tuple[int, int]:
    return divmod(round(min(_figure(seconds), MAX_SECONDS) * _NANOS), _NANOS)


def _joined(time: Duration | Timestamp) -> Seconds:
    return max(0, time.seconds * _NANOS + time.nanos) / _NANOS  # whole numbers first: 2.639 stays 2.639


# --- ranges and pieces


def range_to_pb(span: ByteRange) -> common_pb2.Range:
    """The same span as a message."""
    return common_pb2.Range(start=span.start, length=span.length)


def range_from_pb(span: common_pb2.Range) -> ByteRange:
    """Raises InvalidRange for a range without a byte."""
    return ByteRange(span.start, span.length)


def piece_to_pb(piece: Piece, traffic: int, created_at: Seconds) -> common_pb2.Piece:
    """A finished piece. `traffic` is a TrafficType of the model or the wire, `created_at` Unix seconds."""
    return common_pb2.Piece(
        number=piece.number,
        parent_id=piece.parent_id,
        offset=piece.offset,
        length=piece.length,
        digest=piece.digest,
        traffic_type=common_pb2.TrafficType.ValueType(traffic),
        cost=duration_to_pb(piece.cost),
        created_at=timestamp_to_pb(created_at),
        root=piece.root,
    )


def piece_from_pb(piece: common_pb2.Piece) -> Piece:
    """A piece somebody reports. Raises InvalidInput for a number no task has, InvalidDigest for a digest that is none.

    An empty digest passes: the reference sends one where it knows none.
    """
    if piece.number >= MAX_PIECE_COUNT:
        raise InvalidInput(reason=f"no task has a piece {piece.number}; the last one possible is {MAX_PIECE_COUNT - 1}")
    return Piece(
        PieceNumber(piece.number),
        piece.offset,
        piece.length,
        str(Digest.parse(piece.digest)) if piece.digest else "",
        checked_identifier("parent id", piece.parent_id) if piece.parent_id else None,
        duration_from_pb(piece.cost),
        root=piece.root if len(piece.root) == ROOT_LENGTH else b"",
    )


def traffic_from_pb(piece: common_pb2.Piece) -> TrafficType | None:
    """Where a reported piece came from; None where the report does not say, or says what we do not know."""
    number: int = piece.traffic_type
    known = piece.HasField("traffic_type") and number in TrafficType.__members__.values()
    return TrafficType(number) if known else None


# --- hosts

_HOST_TEXTS = ("name", "os", "platform", "platform_family", "platform_version", "kernel_version")


def host_to_pb(host: Host) -> common_pb2.Host:
    """A host as it announces itself, and as a scheduler passes it on to children."""
    return common_pb2.Host(
        id=host.id,
        type=host.type,
        hostname=host.hostname,
        ip=host.ip,
        port=host.port,
        download_port=host.download_port,
        proxy_port=host.proxy_port,
        piece_port=host.piece_port,
        scheduler_cluster_id=host.scheduler_cluster_id,
        disable_shared=host.disable_shared,
        cpu=common_pb2.CPU(logical_count=host.cpu_count, percent=host.cpu_percent),
        memory=_memory_to_pb(host.memory_total, host.memory_available),
        network=network_to_pb(host.network),
        disk=_disk_to_pb(host.disk_total, host.disk_free),
        build=build_to_pb(host.build),
        **{name: getattr(host, name) for name in _HOST_TEXTS},
    )


def host_from_pb(host: common_pb2.Host) -> Host:
    """An announced host. Raises InvalidIdentifier without an id, InvalidInput where nobody could call it.

    A type from the future counts as a normal host: treating it as a seed peer would send the origin's load there.
    """
    texts: dict[str, Any] = {name: getattr(host, name) for name in _HOST_TEXTS}
    return Host(
        id=HostId(checked_identifier("host id", host.id)),
        type=HostType(host.type) if host.type in HostType.__members__.values() else HostType.NORMAL,
        hostname=checked_identifier("host name", host.hostname),
        ip=_checked_ip(host.ip),
        port=checked_port("port", host.port, least=1),
        download_port=checked_port("download port", host.download_port),
        proxy_port=checked_port("proxy port", host.proxy_port),
        piece_port=checked_port("piece port", host.piece_port),
        scheduler_cluster_id=host.scheduler_cluster_id,
        disable_shared=host.disable_shared,
        network=network_from_pb(host.network),
        build=build_from_pb(host.build),
        cpu_percent=_figure(host.cpu.percent),
        cpu_count=host.cpu.logical_count,
        memory_total=host.memory.total,
        memory_available=host.memory.available,
        disk_total=host.disk.total,
        disk_free=host.disk.free,
        **texts,
    )


def network_to_pb(network: Network) -> common_pb2.Network:
    """Bandwidths in bits per second; an unknown place stays absent."""
    return common_pb2.Network(
        idc=network.idc or None,
        location=network.location or None,
        max_rx_bandwidth=network.max_rx_bandwidth,
        rx_bandwidth=network.rx_bandwidth,
        max_tx_bandwidth=network.max_tx_bandwidth,
        tx_bandwidth=network.tx_bandwidth,
    )


def network_from_pb(network: common_pb2.Network) -> Network:
    """Also what SyncHost brings, whose hosts hold nothing else."""
    return Network(
        network.idc,
        network.location,
        network.max_rx_bandwidth,
        network.rx_bandwidth,
        network.max_tx_bandwidth,
        network.tx_bandwidth,
    )


def build_to_pb(build: Build) -> common_pb2.Build:
    """The software a host runs; what is unknown stays absent."""
    return common_pb2.Build(git_version=build.version, git_commit=build.commit or None, platform=build.platform or None)


def build_from_pb(build: common_pb2.Build) -> Build:
    return Build(build.git_version, build.git_commit, build.platform)


def _memory_to_pb(total: Bytes, available: Bytes) -> common_pb2.Memory:
    used = max(total - available, 0)
    return common_pb2.Memory(total=total, available=available, used=used, used_percent=_percent(used, total))


def _disk_to_pb(total: Bytes, free: Bytes) -> common_pb2.Disk:
    used = max(total - free, 0)
    return common_pb2.Disk(total=total, free=free, used=used, used_percent=_percent(used, total))


def _percent(part: Bytes, whole: Bytes) -> float:
    return 100.0 * part / whole if whole else 0.0


# --- tasks


def description_from_download(download: common_pb2.Download, key: TaskKey) -> TaskDescription:
    """What a registering peer says the task is. Raises InvalidUrl without a URL, InvalidInput for what cannot be."""
    if not download.url:
        raise InvalidUrl(url="", reason="it is empty")
    return TaskDescription(
        key=key,
        url=download.url,
        kind=kind_from_pb(download.type),
        geometry=geometry_from_download(download),
        digest=download.digest,
        tag=download.tag,
        application=download.application,
        filtered_query_params=tuple(download.filtered_query_params),
    )


def geometry_from_download(download: common_pb2.Download) -> PieceGeometry | None:
    """How the sender found the file cut; None while it does not know the length.

    Raises InvalidPieceLength where the file would fall into more pieces than any task may have.
    """
    if not download.HasField("actual_content_length"):
        return None
    cut = download.actual_piece_length or download.piece_length
    return PieceGeometry.of(download.actual_content_length, cut or None)


def without_credentials(download: common_pb2.Download) -> common_pb2.Download:
    """A copy to pass on or keep: no request header, no key, token or certificate, no path on the sender's disk."""
    copy = common_pb2.Download()
    copy.CopyFrom(download)
    for name in ("request_header", "output_path", "certificate_chain", "hdfs"):
        copy.ClearField(name)
    if copy.HasField("object_storage"):
        for secret in ("access_key_id", "access_key_secret", "session_token", "security_token", "credential_path"):
            copy.object_storage.ClearField(secret)
    for hub in ("hugging_face", "model_scope"):
        if copy.HasField(hub):
            getattr(copy, hub).ClearField("token")
    return copy


def description_to_task_pb(
    description: TaskDescription,
    *,
    state: str,
    pieces: Iterable[common_pb2.Piece] = (),
    peer_count: int = 0,
    has_available_peer: bool = False,
    created_at: Seconds | None = None,
    updated_at: Seconds | None = None,
) -> common_pb2.Task:
    """A task as StatTask and candidate parents show it, under the id the wire knows; times are Unix seconds."""
    geometry = description.geometry
    return common_pb2.Task(
        id=description.key.wire_id,
        type=common_pb2.TaskType.ValueType(description.kind),
        url=description.url,
        digest=description.digest or None,
        tag=description.tag or None,
        application=description.application or None,
        filtered_query_params=description.filtered_query_params,
        content_length=geometry.content_length if geometry else 0,
        piece_count=geometry.piece_count if geometry else 0,
        size_scope=_SIZE_SCOPES[SizeScope.of(geometry)],
        pieces=pieces,
        state=state,
        peer_count=peer_count,
        has_available_peer=has_available_peer,
        created_at=_optional_timestamp(created_at),
        updated_at=_optional_timestamp(updated_at),
    )


def peer_to_pb(
    peer_id: PeerId,
    *,
    state: str,
    host: Host | None = None,
    task: common_pb2.Task | None = None,
    pieces: Iterable[common_pb2.Piece] = (),
    span: ByteRange | None = None,
    priority: Priority = Priority.LEVEL0,
    need_back_to_source: bool = False,
    cost: Seconds = 0.0,
    created_at: Seconds | None = None,
    updated_at: Seconds | None = None,
) -> common_pb2.Peer:
    """A peer as StatPeer and candidate parents show it; `cost` is in seconds, times are Unix seconds."""
    return common_pb2.Peer(
        id=peer_id,
        state=state,
        host=host_to_pb(host) if host else None,
        task=task,
        pieces=pieces,
        range=range_to_pb(span) if span else None,
        priority=common_pb2.Priority.ValueType(priority),
        need_back_to_source=need_back_to_source,
        cost=duration_to_pb(cost),
        created_at=_optional_timestamp(created_at),
        updated_at=_optional_timestamp(updated_at),
    )


def kind_from_pb(number: int) -> TaskKind:
    """Raises InvalidInput for a task type we do not know: its rules would be unknown, too."""
    if number not in TaskKind.__members__.values():
        raise InvalidInput(reason=f"there is no task type {number}")
    return TaskKind(number)


def priority_from_pb(number: int) -> Priority:
    """A priority from the future counts as LEVEL0, the default."""
    return Priority(number) if number in Priority.__members__.values() else Priority.LEVEL0


# --- single values


def checked_identifier(kind: str, text: str) -> str:
    """`text`, which ends up in logs, keys and file names. Raises InvalidIdentifier if empty, huge or unprintable."""
    if not 0 < len(text) <= MAX_IDENTIFIER_LENGTH or not text.isprintable():
        raise InvalidIdentifier(kind=kind, text=text[:80])
    return text


def checked_port(kind: str, number: int, *, least: int = 0) -> int:
    """A TCP port; 0, where allowed, is none. Raises InvalidInput."""
    if not least <= number <= MAX_PORT:
        raise InvalidInput(reason=f"the {kind} {number} is outside {least} to {MAX_PORT}")
    return number


def _checked_ip(text: str) -> str:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        raise InvalidInput(reason=f"the host's address {text[:80]!r} is not an IP address") from None
    return text


def _figure(value: float) -> float:
    """A measurement; nonsense (negative, infinite, not a number) is unknown, 0."""
    return value if math.isfinite(value) and value > 0 else 0.0


def _optional_timestamp(unix_seconds: Seconds | None) -> Timestamp | None:
    return None if unix_seconds is None else timestamp_to_pb(unix_seconds)
