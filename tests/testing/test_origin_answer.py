import gzip

import pytest

from dragonfly.testing.origin_answer import Answer, Content, Fault, Request, answer, of_bytes

BODY = bytes(range(100))
CONTENT = of_bytes(BODY)
FINE = Fault()


def told(
    fault: Fault = FINE, content: Content | None = CONTENT, method: str = "GET", sent: int = 0, **headers: str
) -> Answer:
    return answer(Request(method=method, target="/file", headers=headers), content, fault, sent)


def test_a_whole_file_has_its_length_and_validators() -> None:
    reply = told()
    assert (reply.status, reply.start, reply.length) == (200, 0, 100)
    assert reply.headers["Content-Length"] == "100"
    assert reply.headers["ETag"] == CONTENT.etag
    assert reply.head().startswith(b"HTTP/1.1 200 OK\r\n")
    assert reply.head().endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("asked", "start", "length"),
    [("bytes=0-0", 0, 1), ("bytes=10-", 10, 90), ("bytes=-10", 90, 10), ("bytes=90-1000", 90, 10)],
)
def test_a_range_is_answered_by_that_part(asked: str, start: int, length: int) -> None:
    reply = told(range=asked)
    assert (reply.status, reply.start, reply.length) == (206, start, length)
    assert reply.headers["Content-Range"] == f"bytes {start}-{start + length - 1}/100"


@pytest.mark.parametrize("asked", ["bytes=100-", "bytes=-0", "bytes=5-4"])
def test_attack_33_a_range_without_bytes_is_not_satisfiable(asked: str) -> None:
    reply = told(range=asked)
    assert reply.status == 416
    assert reply.headers["Content-Range"] == "bytes */100"


def test_several_ranges_are_answered_by_the_whole_file() -> None:
    assert told(range="bytes=0-1,3-4").status == 200


def test_a_head_request_gets_no_body() -> None:
    reply = told(method="HEAD")
    assert reply.length == 0
    assert reply.headers["Content-Length"] == "100"


def test_a_head_request_may_go_wrong_in_its_own_way() -> None:
    fault = Fault(ignore_range=True, head=Fault(status=405))
    assert told(fault, method="HEAD").status == 405
    assert told(fault, range="bytes=0-0").status == 200


def test_a_head_request_is_a_kind_of_its_own() -> None:
    assert Request(method="HEAD", target="/file", headers={}).kind == "head"


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (Fault(status=503), 503),
        (Fault(redirect="/b"), 302),
        (Fault(redirect="/b", status=308), 308),
        (Fault(authorization="x"), 401),
        (Fault(ignore_range=True), 200),
    ],
)
def test_a_fault_decides_the_status(fault: Fault, status: int) -> None:
    assert told(fault, range="bytes=0-0").status == status


def test_an_unknown_path_is_not_found_and_other_methods_are_refused() -> None:
    assert told(content=None).status == 404
    assert told(method="DELETE").status == 405


def test_a_file_changes_once_enough_was_sent() -> None:
    fault = Fault(changes_after=50, becomes=b"new")
    assert told(fault, sent=49).body == BODY
    changed = told(fault, sent=50)
    assert changed.body == b"new"
    assert changed.headers["Content-Length"] == "3"
    only_validators = told(Fault(changes_after=0))
    assert only_validators.body == BODY
    assert only_validators.headers["ETag"] != CONTENT.etag
    assert only_validators.headers["Last-Modified"] != CONTENT.last_modified


def test_headers_can_be_added_falsified_and_left_out() -> None:
    reply = told(Fault(headers={"Content-Range": "bytes 1-2/3", "X-New": "1", "ETag": None}), range="bytes=0-0")
    assert reply.headers["Content-Range"] == "bytes 1-2/3"
    assert reply.headers["X-New"] == "1"
    assert "ETag" not in reply.headers


def test_who_has_the_version_gets_no_body() -> None:
    known = {"if-none-match": f'"x", W/{CONTENT.etag}'}
    for headers in (known, {"if-modified-since": CONTENT.last_modified}, known | {"range": "bytes=0-0"}):
        reply = told(**headers)
        assert (reply.status, reply.length) == (304, 0)
        assert reply.headers["ETag"] == CONTENT.etag
        assert "Content-Length" not in reply.headers


def test_who_has_another_version_gets_the_file() -> None:
    stale = {"if-modified-since": "Thu, 01 Jan 1998 00:00:00 GMT"}
    for headers in (
        {"if-none-match": '"x"', "if-modified-since": CONTENT.last_modified},
        stale,
        {"if-modified-since": "?"},
    ):
        assert told(**headers).status == 200
    assert told(Fault(ignore_conditions=True), **{"if-none-match": CONTENT.etag}).status == 200


def test_gzip_is_another_content_with_a_tag_of_its_own() -> None:
    reply = told(Fault(gzip=True))
    assert isinstance(reply.body, bytes)
    assert gzip.decompress(reply.body) == BODY
    assert reply.headers["Content-Length"] == str(len(reply.body))
    assert reply.headers["Content-Encoding"] == "gzip"
    assert reply.headers["ETag"] not in (CONTENT.etag, f"W/{CONTENT.etag}")
    part = told(Fault(gzip=True), range="bytes=0-1")
    assert part.headers["Content-Range"] == f"bytes 0-1/{len(reply.body)}"


def test_the_total_of_a_part_may_be_kept_secret() -> None:
    assert told(Fault(unknown_total=True), range="bytes=0-1").headers["Content-Range"] == "bytes 0-1/*"


@pytest.mark.parametrize("status", [204, 304])
def test_a_status_that_has_no_body_is_told_without_one(status: int) -> None:
    reply = told(Fault(status=status, no_length=True, headers={"ETag": '"x"'}))
    assert (reply.status, reply.length, dict(reply.headers)) == (status, 0, {"ETag": '"x"'})


def test_a_304_has_no_length_to_lose() -> None:
    reply = told(Fault(no_length=True), **{"if-none-match": CONTENT.etag})
    assert not reply.chunked
    assert "Transfer-Encoding" not in reply.headers


def test_without_a_length_the_body_is_chunked() -> None:
    reply = told(Fault(no_length=True))
    assert reply.chunked
    assert "Content-Length" not in reply.headers
