"""Errors on the wire: what any client reads, what strangers send, what does not fit."""

import json

import grpc
import pytest
from grpc import StatusCode
from hypothesis import given
from hypothesis import strategies as st

from dragonfly import errors
from dragonfly.errors import BY_CODE, DragonflyError
from dragonfly.wire.status import (
    CODES,
    DETAILS_KEY,
    ERROR_KEY,
    MAX_DETAILS_BYTES,
    MAX_MESSAGE_BYTES,
    OriginAnswer,
    decode_details,
    encode_details,
    grpc_status,
    restored_error,
)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InvalidUrl(url="x", reason="y"), StatusCode.INVALID_ARGUMENT),
        (errors.InvalidRange(text="x", reason="y"), StatusCode.FAILED_PRECONDITION),
        (errors.UnsupportedFeature(feature="x"), StatusCode.UNIMPLEMENTED),
        (errors.SourceNotFound(url="x", status=404), StatusCode.INTERNAL),
        (errors.SourceUnreachable(url="x", reason="y"), StatusCode.INTERNAL),
        (errors.DownloadForbidden(reason="x"), StatusCode.PERMISSION_DENIED),
        (errors.TaskNotFound(task_id="x"), StatusCode.NOT_FOUND),
        (errors.PieceNotFound(number=1, task_id="x"), StatusCode.NOT_FOUND),
        (errors.HostUnknown(host_id="x"), StatusCode.NOT_FOUND),
        (errors.PeerUnknown(peer_id="x"), StatusCode.NOT_FOUND),
        (errors.DiskFull(path="x", needed=1, free=0), StatusCode.RESOURCE_EXHAUSTED),
        (errors.Overloaded(reason="x"), StatusCode.RESOURCE_EXHAUSTED),
        (errors.DeadlineExceeded(seconds=1), StatusCode.DEADLINE_EXCEEDED),
        (errors.DownloadCancelled(), StatusCode.CANCELLED),
        (errors.SchedulerUnreachable(address="x", reason="y"), StatusCode.UNAVAILABLE),
        (errors.ParentUnreachable(address="x", reason="y"), StatusCode.UNAVAILABLE),
        (errors.OutputExists(path="x"), StatusCode.ALREADY_EXISTS),
        (errors.OutputIsDirectory(path="x"), StatusCode.FAILED_PRECONDITION),
        (errors.InternalFailure(reason="x"), StatusCode.INTERNAL),
        (DragonflyError(), StatusCode.INTERNAL),
    ],
)
def test_error_has_the_code_any_client_understands(error, code):
    assert grpc_status(error).code is code


def test_table_of_codes_holds_errors_of_the_tree_only():
    assert set(CODES) <= set(BY_CODE.values())


def test_error_without_an_answer_of_the_origin_has_no_details():
    fields = dict(grpc_status(errors.SourceUnreachable(url="x", reason="refused")).trailing_metadata)
    assert fields == {ERROR_KEY: "SourceUnreachable"}


def test_status_and_headers_of_the_origin_are_facts_again():
    status = grpc_status(errors.SourceForbidden(url="x", status=403, header={"Server": "s3"}))
    again = restored_error(status.code, status.message, status.trailing_metadata)
    assert again.facts == {"status": 403, "header": {"Server": "s3"}}


def test_cookies_of_the_origin_stay_here():
    status = grpc_status(errors.SourceNotFound(url="x", status=404, header={"Set-Cookie": "secret", "Via": "a"}))
    details = dict(status.trailing_metadata)[DETAILS_KEY]
    assert json.loads(details)["header"] == {"Via": "a"}


def test_headers_that_would_burst_the_metadata_are_left_out():
    header = {f"x-{number}": "y" * 100 for number in range(100)}
    details = encode_details(OriginAnswer("gone", 404, header))
    assert len(details) <= MAX_DETAILS_BYTES
    assert decode_details(details) == OriginAnswer("gone", 404, {})


def test_endless_sentence_is_cut_at_a_character():
    message = grpc_status(errors.InternalFailure(reason="ü" * 5000)).message
    assert len(message.encode()) <= MAX_MESSAGE_BYTES
    assert message.endswith("ü…")


def test_path_that_is_no_text_can_be_sent():
    assert grpc_status(errors.OutputExists(path="/tmp/\udcff")).message.startswith("the output exists already: /tmp/?")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, errors.SourceForbidden),
        (403, errors.SourceForbidden),
        (404, errors.SourceNotFound),
        (410, errors.SourceNotFound),
        (400, errors.SourceRefused),
        (416, errors.SourceRefused),
        (429, errors.SourceUnavailable),
        (500, errors.SourceUnavailable),
        (503, errors.SourceUnavailable),
        (302, errors.SourceError),
        (None, errors.SourceError),
    ],
)
def test_failure_at_the_origin_of_a_reference_daemon_finds_its_class(status, kind):
    details = json.dumps({"message": "m", "header": {}, "status_code": status}).encode()
    error = restored_error(StatusCode.INTERNAL, "", [(DETAILS_KEY, details)])
    assert type(error) is kind
    assert str(error) == "m"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (StatusCode.NOT_FOUND, errors.TaskNotFound),
        (StatusCode.INVALID_ARGUMENT, errors.InvalidInput),
        (StatusCode.PERMISSION_DENIED, errors.DownloadForbidden),
        (StatusCode.UNAUTHENTICATED, errors.DownloadForbidden),
        (StatusCode.RESOURCE_EXHAUSTED, errors.Overloaded),
        (StatusCode.UNAVAILABLE, errors.Overloaded),
        (StatusCode.DEADLINE_EXCEEDED, errors.DeadlineExceeded),
        (StatusCode.CANCELLED, errors.DownloadCancelled),
        (StatusCode.UNIMPLEMENTED, errors.UnsupportedFeature),
        (StatusCode.INTERNAL, errors.RemoteFailure),
        (StatusCode.UNKNOWN, errors.RemoteFailure),
        (StatusCode.FAILED_PRECONDITION, errors.RemoteFailure),
    ],
)
def test_process_that_does_not_name_our_class_gets_the_nearest_one(code, kind):
    error = restored_error(code, "their words", [])
    assert type(error) is kind
    assert str(error) == "their words"


@pytest.mark.parametrize("code", list(StatusCode))
def test_every_status_becomes_an_error_with_a_sentence(code):
    error = restored_error(code, "", grpc.aio.Metadata())
    assert isinstance(error, DragonflyError)
    assert code.name in str(error)


@pytest.mark.parametrize("name", ["NotOurs", "", "__class__", b"SourceNotFound\xff"])
def test_class_name_we_do_not_know_is_passed_over(name):
    assert type(restored_error(StatusCode.NOT_FOUND, "m", [(ERROR_KEY, name)])) is errors.TaskNotFound


@pytest.mark.parametrize(
    "details",
    [
        b"",
        b"\x08\x05\x12\x03abc",
        b"\xff\xfe",
        b"{",
        b"[]",
        b"null",
        b"7",
        b"{}",
        b'{"message":"m"}',
        b"[" * 60_000,
        b'{"status_code":' + b"9" * 5000 + b"}",
        b'{"status_code":404,"message":"' + b"x" * 100_000 + b'"}',
    ],
)
def test_details_that_are_not_ours_are_passed_over(details):
    assert decode_details(details) is None
    assert type(restored_error(StatusCode.INTERNAL, "m", [(DETAILS_KEY, details)])) is errors.RemoteFailure


@pytest.mark.parametrize("status", ["404", True, 4.04, 0, -1, 99, 600, 10**30, [404], None])
def test_details_with_an_impossible_status_have_none(status):
    details = json.dumps({"message": 5, "header": ["x"], "status_code": status})
    assert decode_details(details) == OriginAnswer("", None, {})


def test_half_a_surrogate_pair_in_json_becomes_writable_text():
    answer = decode_details(b'{"message":"\\ud800","header":{"a\\udfff":"\\ud800"},"status_code":500}')
    assert answer == OriginAnswer("?", 500, {"a?": "?"})


@given(st.binary() | st.text(), st.sampled_from(list(StatusCode)), st.text(), st.text() | st.binary())
def test_nothing_a_stranger_sends_raises(details, code, message, name):
    """Attack 43."""
    error = restored_error(code, message, [(DETAILS_KEY, details), (ERROR_KEY, name)])
    assert isinstance(error, DragonflyError)


texts = st.text(st.characters(codec="utf-8"), max_size=20)


@given(texts, st.integers(100, 599) | st.none(), st.dictionaries(texts, texts, max_size=5))
def test_details_are_read_back_as_written(message, status, header):
    kept = {key: value for key, value in header.items() if key.lower() != "set-cookie"}
    assert decode_details(encode_details(OriginAnswer(message, status, header))) == OriginAnswer(message, status, kept)


async def test_error_crosses_a_real_call_as_itself():
    """The whole way, metadata limits included: a status as large as we make it still arrives."""

    async def fail(request, context):
        error = errors.SourceNotFound(url="https://example.com/" + "ü" * 2000, status=404, header={"a": "b" * 900})
        status = grpc_status(error)
        await context.abort(status.code, status.message, status.trailing_metadata)

    server = grpc.aio.server()
    handlers = {"Fail": grpc.unary_unary_rpc_method_handler(fail)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Test", handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_unary("/test.Test/Fail")(b"", timeout=5)
    finally:
        await server.stop(None)
    raised = caught.value
    error = restored_error(raised.code(), raised.details() or "", raised.trailing_metadata())
    assert type(error) is errors.SourceNotFound
    assert error.facts["status"] == 404
    assert str(error).startswith("the origin has no such file: https://example.com/üü")
