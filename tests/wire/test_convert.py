"""Messages and values: nothing is lost on the way there and back, and nothing bad comes in."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragonfly.core.model.host import Build, Host, HostType, Network
from dragonfly.core.model.ids import HostId, PeerId, TaskKey, content_task_id, public_task
from dragonfly.core.model.piece import MAX_PIECE_COUNT, Piece, PieceGeometry, PieceNumber, TrafficType
from dragonfly.core.model.principal import TenantScope
from dragonfly.core.model.ranges import ByteRange
from dragonfly.core.model.task import Priority, TaskDescription, TaskKind
from dragonfly.core.model.units import MiB
from dragonfly.errors import (
    InvalidDigest,
    InvalidIdentifier,
    InvalidInput,
    InvalidPieceLength,
    InvalidRange,
    InvalidUrl,
)
from dragonfly.wire.convert import (
    MAX_SECONDS,
    checked_identifier,
    description_from_download,
    description_to_task_pb,
    duration_from_pb,
    duration_to_pb,
    host_from_pb,
    host_to_pb,
    kind_from_pb,
    network_from_pb,
    peer_to_pb,
    piece_from_pb,
    piece_to_pb,
    priority_from_pb,
    range_from_pb,
    range_to_pb,
    timestamp_from_pb,
    timestamp_to_pb,
    traffic_from_pb,
    without_credentials,
)
from dragonfly.wire.pb import common_pb2

KEY = public_task(content_task_id("x"))

HOST = Host(
    id=HostId("10.0.0.1-node"),
    type=HostType.SUPER,
    hostname="node",
    ip="10.0.0.1",
    port=4000,
    download_port=4000,
    proxy_port=4001,
    piece_port=4002,
    name="seed",
    os="linux",
    platform="linux",
    platform_family="debian",
    platform_version="13",
    kernel_version="6.12",
    scheduler_cluster_id=7,
    disable_shared=True,
    network=Network("idc-1", "asia|cn", 10**10, 5, 10**9, 6),
    build=Build("1.5.1", "abc123", "linux"),
    cpu_percent=12.5,
    cpu_count=8,
    memory_total=1000,
    memory_available=250,
    disk_total=2000,
    disk_free=500,
)


def least_host(**changed):
    figures = {"id": "10.0.0.1-node", "hostname": "node", "ip": "10.0.0.1", "port": 4000} | changed
    return common_pb2.Host(**figures)


def test_host_comes_back_with_all_its_figures():
    assert host_from_pb(host_to_pb(HOST)) == HOST


def test_host_carries_what_follows_from_its_figures():
    message = host_to_pb(HOST)
    assert (message.memory.used, message.memory.used_percent) == (750, 75.0)
    assert (message.disk.used, message.disk.used_percent) == (1500, 75.0)


def test_host_without_optional_sections_has_unknown_figures():
    host = host_from_pb(least_host())
    assert (host.network, host.build) == (Network(), Build())
    assert (host.cpu_count, host.memory_total, host.disk_total) == (0, 0, 0)


def test_unknown_place_stays_absent_on_the_wire():
    message = host_to_pb(host_from_pb(least_host()))
    assert not message.network.HasField("idc")
    assert not message.network.HasField("location")
    assert not message.build.HasField("git_commit")


def test_host_type_from_the_future_is_a_normal_host():
    assert host_from_pb(least_host(type=99)).type is HostType.NORMAL
    assert host_from_pb(least_host(type=3)).type is HostType.WEAK


@pytest.mark.parametrize("percent", [math.nan, math.inf, -math.inf, -1.0])
def test_nonsense_figure_is_unknown(percent):
    assert host_from_pb(least_host(cpu=common_pb2.CPU(percent=percent))).cpu_percent == 0.0


def test_host_of_a_load_report_holds_a_network_only():
    report = common_pb2.Host(network=common_pb2.Network(max_tx_bandwidth=10**9, tx_bandwidth=10**8))
    assert network_from_pb(report.network) == Network(max_tx_bandwidth=10**9, tx_bandwidth=10**8)


@pytest.mark.parametrize(
    ("changed", "kind", "sentence"),
    [
        ({"id": ""}, InvalidIdentifier, "not a usable host id: ''"),
        ({"id": "a\nb"}, InvalidIdentifier, r"not a usable host id: 'a\nb'"),
        ({"hostname": ""}, InvalidIdentifier, "not a usable host name: ''"),
        ({"ip": ""}, InvalidInput, "the host's address '' is not an IP address"),
        ({"ip": "evil.example"}, InvalidInput, "the host's address 'evil.example' is not an IP address"),
        ({"port": 0}, InvalidInput, "the port 0 is outside 1 to 65535"),
        ({"port": 65536}, InvalidInput, "the port 65536 is outside 1 to 65535"),
        ({"port": -1}, InvalidInput, "the port -1 is outside 1 to 65535"),
        ({"piece_port": 70_000}, InvalidInput, "the piece port 70000 is outside 0 to 65535"),
        ({"download_port": -1}, InvalidInput, "the download port -1 is outside 0 to 65535"),
        ({"proxy_port": 70000}, InvalidInput, "the proxy port 70000 is outside 0 to 65535"),
    ],
)
def test_host_nobody_could_call_is_refused_in_one_sentence(changed, kind, sentence):
    with pytest.raises(kind) as caught:
        host_from_pb(least_host(**changed))
    assert str(caught.value) == sentence


@pytest.mark.parametrize("text", ["", "a" * 513, "a\x00b", "a\x1b[31m", "\u2028"])
def test_identifier_that_would_spoil_a_log_is_refused(text):
    with pytest.raises(InvalidIdentifier) as caught:
        checked_identifier("peer id", text)
    assert len(str(caught.value)) < 200


pieces = st.builds(
    Piece,
    st.integers(0, MAX_PIECE_COUNT - 1).map(PieceNumber),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**32 - 1).map("crc32:{}".format),
    st.none() | st.just("10.0.0.1-node-uuid"),
    st.integers(0, 10**6).map(lambda milliseconds: milliseconds / 1000),
)


@given(pieces, st.sampled_from(TrafficType), st.integers(0, 10**10))
def test_piece_comes_back_as_it_went(piece, traffic, created_at):
    message = common_pb2.Piece.FromString(piece_to_pb(piece, traffic, created_at).SerializeToString())
    assert piece_from_pb(message) == piece
    assert traffic_from_pb(message) is traffic
    assert timestamp_from_pb(message.created_at) == created_at
    assert not message.HasField("content")


def test_traffic_may_be_given_as_the_wire_names_it():
    piece = Piece(PieceNumber(0), 0, 1, "crc32:0")
    assert traffic_from_pb(piece_to_pb(piece, common_pb2.LOCAL_PEER, 0.0)) is TrafficType.LOCAL_PEER


def test_traffic_that_is_not_said_is_not_guessed():
    assert traffic_from_pb(common_pb2.Piece()) is None
    unknown = common_pb2.Piece.FromString(b"\x38\x63")  # field 7, an enum value from the future
    assert traffic_from_pb(unknown) is None


@pytest.mark.parametrize("number", [MAX_PIECE_COUNT, 2**32 - 1])
def test_piece_number_no_task_has_is_refused(number):
    with pytest.raises(InvalidInput):
        piece_from_pb(common_pb2.Piece(number=number))


def test_piece_digest_may_be_empty_but_not_wrong():
    assert piece_from_pb(common_pb2.Piece()).digest == ""
    with pytest.raises(InvalidDigest):
        piece_from_pb(common_pb2.Piece(digest="crc32:x"))


def test_range_comes_back_as_it_went():
    assert range_from_pb(range_to_pb(ByteRange(5, 7))) == ByteRange(5, 7)


def test_range_without_a_byte_is_refused():
    """Attack 33."""
    with pytest.raises(InvalidRange):
        range_from_pb(common_pb2.Range(start=5, length=0))


@given(st.floats(0, 1e9))
def test_durations_and_timestamps_keep_nanoseconds(seconds):
    assert math.isclose(duration_from_pb(duration_to_pb(seconds)), seconds, abs_tol=1e-9)
    assert math.isclose(timestamp_from_pb(timestamp_to_pb(seconds)), seconds, abs_tol=1e-9)


def test_time_beyond_the_year_9999_is_cut_there():
    assert timestamp_from_pb(timestamp_to_pb(1e300)) == MAX_SECONDS


@pytest.mark.parametrize("seconds", [-1.0, math.nan, math.inf])
def test_time_that_is_no_time_is_zero(seconds):
    assert duration_from_pb(duration_to_pb(seconds)) == 0.0


def test_registration_describes_the_task():
    download = common_pb2.Download(
        url="https://example.com/x",
        digest="sha256:" + "ab" * 32,
        type=common_pb2.PERSISTENT,
        tag="t",
        application="a",
        filtered_query_params=["ns"],
        actual_content_length=10 * MiB,
        actual_piece_length=4 * MiB,
    )
    assert description_from_download(download, KEY) == TaskDescription(
        key=KEY,
        url="https://example.com/x",
        kind=TaskKind.PERSISTENT,
        geometry=PieceGeometry(10 * MiB, 4 * MiB),
        digest="sha256:" + "ab" * 32,
        tag="t",
        application="a",
        filtered_query_params=("ns",),
    )


@pytest.mark.parametrize(
    ("lengths", "geometry"),
    [
        ({}, None),
        ({"piece_length": 8 * MiB}, None),
        ({"actual_piece_length": 8 * MiB}, None),
        ({"actual_content_length": 0}, PieceGeometry(0, 4 * MiB)),
        ({"actual_content_length": 10 * MiB}, PieceGeometry(10 * MiB, 4 * MiB)),
        ({"actual_content_length": 10 * MiB, "piece_length": 8 * MiB}, PieceGeometry(10 * MiB, 8 * MiB)),
        (
            {"actual_content_length": 10 * MiB, "piece_length": 8 * MiB, "actual_piece_length": 5 * MiB},
            PieceGeometry(10 * MiB, 5 * MiB),
        ),
    ],
)
def test_length_is_unknown_until_the_sender_says_it(lengths, geometry):
    download = common_pb2.Download(url="https://example.com/x", **lengths)
    assert description_from_download(download, KEY).geometry == geometry


def test_registration_with_a_million_tiny_pieces_too_many_is_refused():
    """Attack 43."""
    download = common_pb2.Download(url="u", actual_content_length=2**63, actual_piece_length=1)
    with pytest.raises(InvalidPieceLength):
        description_from_download(download, KEY)


def test_registration_without_a_url_is_refused():
    with pytest.raises(InvalidUrl):
        description_from_download(common_pb2.Download(), KEY)


def test_task_type_from_the_future_is_refused():
    with pytest.raises(InvalidInput, match="there is no task type 9"):
        kind_from_pb(9)


def test_priority_from_the_future_is_the_default():
    assert priority_from_pb(99) is Priority.LEVEL0
    assert priority_from_pb(6) is Priority.LEVEL6


def test_task_is_shown_under_the_id_the_wire_knows():
    key = TaskKey(TenantScope("tenant"), KEY.task_id)
    shown = description_to_task_pb(TaskDescription(key=key, url="u"), state="Running")
    assert shown.id == key.wire_id != KEY.task_id
    assert (shown.content_length, shown.piece_count, shown.size_scope) == (0, 0, common_pb2.NORMAL)
    assert not shown.HasField("created_at")


@pytest.mark.parametrize(
    ("length", "scope"),
    [(0, common_pb2.EMPTY), (1, common_pb2.TINY), (4 * MiB, common_pb2.SMALL), (9 * MiB, common_pb2.NORMAL)],
)
def test_task_is_shown_with_its_size(length, scope):
    geometry = PieceGeometry.of(length)
    shown = description_to_task_pb(
        TaskDescription(key=KEY, url="u", geometry=geometry, tag="t", filtered_query_params=("ns",)),
        state="Succeeded",
        peer_count=3,
        has_available_peer=True,
        created_at=1.5,
        updated_at=2.5,
    )
    assert (shown.content_length, shown.piece_count, shown.size_scope) == (length, geometry.piece_count, scope)
    assert (shown.tag, list(shown.filtered_query_params), shown.state) == ("t", ["ns"], "Succeeded")
    assert (shown.peer_count, shown.has_available_peer) == (3, True)
    assert (timestamp_from_pb(shown.created_at), timestamp_from_pb(shown.updated_at)) == (1.5, 2.5)


def test_peer_is_shown_with_its_host_and_task():
    task = description_to_task_pb(TaskDescription(key=KEY, url="u"), state="Running")
    piece = piece_to_pb(Piece(PieceNumber(0), 0, 1, "crc32:0"), TrafficType.REMOTE_PEER, 1.0)
    shown = peer_to_pb(
        PeerId("p"), state="Running", host=HOST, task=task, pieces=[piece], span=ByteRange(1, 2), cost=2.5
    )
    assert host_from_pb(shown.host) == HOST
    assert (shown.id, shown.task, list(shown.pieces), shown.state) == ("p", task, [piece], "Running")
    assert range_from_pb(shown.range) == ByteRange(1, 2)
    assert duration_from_pb(shown.cost) == 2.5


def secret_download():
    return common_pb2.Download(
        url="https://example.com/x",
        tag="t",
        request_header={"Authorization": "SECRET"},
        output_path="/SECRET",
        certificate_chain=[b"SECRET"],
        object_storage=common_pb2.ObjectStorage(
            region="eu",
            endpoint="https://s3.example",
            access_key_id="SECRET",
            access_key_secret="SECRET",
            session_token="SECRET",
            security_token="SECRET",
            credential_path="SECRET",
        ),
        hdfs=common_pb2.HDFS(delegation_token="SECRET"),
        hugging_face=common_pb2.HuggingFace(token="SECRET", revision="main"),
        model_scope=common_pb2.ModelScope(token="SECRET", revision="v1"),
    )


def test_download_passed_on_holds_no_credential():
    kept = without_credentials(secret_download())
    assert b"SECRET" not in kept.SerializeToString()
    assert (kept.url, kept.tag, kept.object_storage.region) == ("https://example.com/x", "t", "eu")
    assert (kept.hugging_face.revision, kept.model_scope.revision) == ("main", "v1")


def test_passing_a_download_on_adds_nothing_to_it_and_leaves_it_whole():
    plain = common_pb2.Download(url="u")
    assert without_credentials(plain) == plain
    download = secret_download()
    without_credentials(download)
    assert download == secret_download()


def test_description_and_answers_hold_no_credential():
    description = description_from_download(secret_download(), KEY)
    assert "SECRET" not in repr(description)
    assert b"SECRET" not in description_to_task_pb(description, state="Running").SerializeToString()
