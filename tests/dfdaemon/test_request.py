"""Reading a download from the wire."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragonfly.core.model.ids import content_task_id, url_task_id
from dragonfly.core.model.ranges import ByteRange
from dragonfly.core.model.units import MiB
from dragonfly.dfdaemon.request import DownloadRequest
from dragonfly.errors import (
    DragonflyError,
    InvalidDigest,
    InvalidInput,
    InvalidPieceLength,
    InvalidRange,
    InvalidUrl,
    OutputUnwritable,
    UnsupportedFeature,
)
from dragonfly.wire.pb import common_pb2

URL = "http://origin/file?x=1&Expires=9"
BLOB = "sha256:" + "ab" * 32


def download(**fields: object) -> common_pb2.Download:
    return common_pb2.Download(**{"url": URL, **fields})  # type: ignore[arg-type]


def test_task_is_named_by_the_url_and_what_the_caller_set() -> None:
    read = DownloadRequest.from_wire(
        download(tag="t", application="a", piece_length=4 * MiB, filtered_query_params=["Expires"])
    )
    expected = url_task_id(URL, tag="t", application="a", piece_length=4 * MiB, filtered_query_params=["Expires"])
    assert read.key.task_id == read.key.wire_id == expected
    assert read.principal.application == "a"


def test_text_of_the_caller_names_the_task_alone() -> None:
    """Attack 31: it stands for a file of its own."""
    read = DownloadRequest.from_wire(download(tag="ignored", content_for_calculating_task_id="same"))
    assert read.key.task_id == content_task_id("same")


def test_blob_names_itself_only_where_that_is_enabled() -> None:
    url = f"https://registry/v2/library/busybox/blobs/{BLOB}?ns=x"
    enabled = DownloadRequest.from_wire(download(url=url, enable_task_id_based_blob_digest=True))
    assert enabled.key.task_id == BLOB.removeprefix("sha256:")
    assert DownloadRequest.from_wire(download(url=url)).key.task_id == url_task_id(url)


def test_headers_go_to_the_origin_and_not_into_what_is_printed() -> None:
    read = DownloadRequest.from_wire(download(request_header={"Authorization": "Bearer secret"}))
    assert read.source.headers == {"Authorization": "Bearer secret"}
    assert "secret" not in repr(read.source)


def test_output_is_read_with_its_options() -> None:
    read = DownloadRequest.from_wire(download(output_path="/x/y", overwrite=True, force_hard_link=True))
    assert read.output is not None
    assert (read.output.path, read.output.overwrite, read.output.force_hard_link) == (Path("/x/y"), True, True)


@pytest.mark.parametrize("path", ["relative/path", "", "/with\0nul"])
def test_output_must_be_absolute(path: str) -> None:
    """Attack 19."""
    with pytest.raises(OutputUnwritable):
        DownloadRequest.from_wire(download(output_path=path))


def test_download_without_a_url_is_refused() -> None:
    with pytest.raises(InvalidUrl):
        DownloadRequest.from_wire(common_pb2.Download())


def test_piece_length_below_the_minimum_is_refused() -> None:
    with pytest.raises(InvalidPieceLength):
        DownloadRequest.from_wire(download(piece_length=MiB))


def test_digest_that_does_not_parse_is_refused() -> None:
    with pytest.raises(InvalidDigest):
        DownloadRequest.from_wire(download(digest="md5:0"))


def test_what_is_not_supported_yet_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedFeature, match="is not supported yet"):
        DownloadRequest.from_wire(download(type=common_pb2.PERSISTENT))


FIELDS = {
    "url": st.text() | st.just(URL),
    "digest": st.text(max_size=20) | st.sampled_from(["", "crc32:1"]),
    "range": st.builds(common_pb2.Range, start=st.integers(0, 2**64 - 1), length=st.integers(0, 2**64 - 1)),
    "request_header": st.dictionaries(st.sampled_from(["Range", "range", "A"]), st.text()),
    "piece_length": st.integers(0, 2**64 - 1),
    "output_path": st.text() | st.text().map("/{}".format),
    "content_for_calculating_task_id": st.text(),
    "filtered_query_params": st.lists(st.text()),
    "enable_task_id_based_blob_digest": st.booleans(),
    "type": st.integers(0, 2**31 - 1),
    "priority": st.integers(0, 2**31 - 1),
}


@given(st.fixed_dictionaries({}, optional=FIELDS), st.none() | st.integers(0, 2**63))
def test_whatever_is_asked_for_is_read_or_refused(asked: dict[str, object], content_length: int | None) -> None:
    """Attack 43."""
    with suppress(DragonflyError):
        span = DownloadRequest.from_wire(common_pb2.Download(**asked)).range_within(content_length)  # type: ignore[arg-type]
        assert span is None or (content_length is not None and span.end <= content_length)


# --- ranges


def spans(content_length: int | None = 100, **fields: object) -> ByteRange | None:
    return DownloadRequest.from_wire(download(**fields)).span_within(content_length)


def header(text: str) -> dict[str, object]:
    return {"request_header": {"RANGE": text}}


def test_range_of_the_message_is_clamped_to_the_file() -> None:
    assert spans(range=common_pb2.Range(start=90, length=50)) == ByteRange(90, 10)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("bytes=0-9", ByteRange(0, 10)), ("bytes=-10", ByteRange(90, 10)), ("bytes=95-", ByteRange(95, 5))],
)
def test_range_header_is_read_against_the_files_length(text: str, expected: ByteRange) -> None:
    assert spans(**header(text)) == expected


def test_range_of_the_message_wins_over_the_header() -> None:
    assert spans(range=common_pb2.Range(start=1, length=2), **header("bytes=5-6")) == ByteRange(1, 2)


WHOLE: list[dict[str, object]] = [
    *map(header, ("bytes=0-", "bytes=0-99", "bytes=0-100", "bytes=-100", "bytes=-99999999", f"bytes=0-{2**64}")),
    {"range": common_pb2.Range(start=0, length=100)},
    {"range": common_pb2.Range(start=0, length=2**64 - 1)},
]


@pytest.mark.parametrize("fields", WHOLE, ids=str)
def test_range_that_is_the_whole_file_brings_the_whole_and_is_known_as_a_range(fields: dict[str, object]) -> None:
    """Attack 33."""
    assert spans(**fields) is None
    assert DownloadRequest.from_wire(download(**fields)).range_within(100) == ByteRange(0, 100)


def test_without_a_range_there_is_none() -> None:
    assert spans() is None
    assert DownloadRequest.from_wire(download()).range_within(100) is None


@pytest.mark.parametrize("text", ["bytes=100-", "bytes=5-1", "bytes=-0", "bytes=0-1,3-4", "lines=1-2", "bytes=-"])
def test_range_that_cannot_be_satisfied_is_refused(text: str) -> None:
    """Attack 33."""
    with pytest.raises(InvalidRange):
        spans(**header(text))


def test_range_of_a_file_of_unknown_length_is_refused() -> None:
    """Attack 33."""
    with pytest.raises(InvalidRange, match="does not tell how long"):
        spans(None, range=common_pb2.Range(start=0, length=1))


@pytest.mark.parametrize("fields", [{"digest": "crc32:1"}, {"output_path": "/x", "force_hard_link": True}])
def test_range_goes_with_nothing_that_is_of_the_whole_file(fields: dict[str, object]) -> None:
    with pytest.raises(InvalidInput, match="a range"):
        DownloadRequest.from_wire(download(range=common_pb2.Range(start=0, length=1), **fields))


def test_prefetch_is_the_same_task_as_a_whole_without_an_output() -> None:
    fields = {"output_path": "/x", "prefetch": True, "tag": "t", "need_piece_content": True}
    asked = DownloadRequest.from_wire(download(**fields, request_header={"Range": "bytes=0-1", "A": "b"}))
    whole = asked.as_prefetch()
    assert whole.key == asked.key
    assert whole.is_prefetch
    assert not whole.is_partial
    assert whole.output is None
    assert not whole.wants_content
    assert whole.source.headers == {"A": "b"}


def test_trust_in_the_origin_is_the_callers() -> None:
    read = DownloadRequest.from_wire(download(insecure_skip_verify=True, certificate_chain=[b"pem"]))
    assert read.source.insecure_skip_verify
    assert read.source.certificate_chain == (b"pem",)
