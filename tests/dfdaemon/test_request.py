"""Reading a download from the wire."""

from pathlib import Path

import pytest

from dragonfly.core.model.ids import content_task_id, url_task_id
from dragonfly.core.model.units import MiB
from dragonfly.dfdaemon.request import DownloadRequest
from dragonfly.errors import InvalidDigest, InvalidPieceLength, InvalidUrl, OutputUnwritable, UnsupportedFeature
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


@pytest.mark.parametrize(
    "fields",
    [
        {"range": common_pb2.Range(start=0, length=1)},
        {"need_piece_content": True},
        {"prefetch": True},
        {"type": common_pb2.PERSISTENT},
        {"certificate_chain": [b"x"]},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_what_is_not_supported_yet_is_refused_by_name(fields: dict[str, object]) -> None:
    with pytest.raises(UnsupportedFeature, match="is not supported yet"):
        DownloadRequest.from_wire(download(**fields))
