from collections.abc import Iterator

import pytest

from dragonfly.errors import SourceError
from dragonfly.source.http import HttpSource
from dragonfly.source.http_request import HttpRequest, prepared
from dragonfly.source.protocol import SourceRequest
from dragonfly.testing.origin import Origin
from dragonfly.testing.origin_answer import Fault
from dragonfly.testing.source_reader import Reader
from dragonfly.testing.tls import Authority

BODY = bytes(range(256)) * 64
SECRETS = {
    "Authorization": "Bearer secret",
    "Cookie": "session=secret",
    "X-Auth-Token": "secret",
    "Private-Token": "secret",
    "X-Api-Key": "secret",
}


@pytest.fixture
def other() -> Iterator[Origin]:
    """Another origin: the same address, another port."""
    with Origin() as other:
        yield other


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed_with_its_range(origin: Origin, other: Origin, reader: Reader, status: int) -> None:
    origin.fail("/file", Fault(redirect=other.put("/real", BODY), status=status))
    assert reader.read(origin.url("/file"), 100, 50) == BODY[100:150]
    assert [request.headers["range"] for request in other.requests()] == ["bytes=0-0", "bytes=100-149"]


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/real?a=%2F&b=c+d&e=", "/real?a=%2F&b=c+d&e="),
        ("real", "/deep/real"),
        ("../real", "/real"),
        ("/a/../real", "/real"),
        ("?only=query", "/deep/file?only=query"),
        ("/real#fragment", "/real"),
    ],
)
def test_where_a_redirect_leads(origin: Origin, reader: Reader, location: str, target: str) -> None:
    origin.fail("/deep/file", Fault(redirect=location, times=1))
    for path in ("/real", "/deep/real", "/deep/file", "/a/../real"):
        origin.put(path, BODY)
    reader.stat(origin.url("/deep/file?q"))
    assert origin.requests()[-1].target == target


def test_ten_hops_are_followed_and_no_more(origin: Origin, reader: Reader) -> None:
    for hop in range(11):
        origin.fail(f"/{hop}", Fault(redirect=f"/{hop + 1}"))
    origin.put("/11", BODY)
    assert reader.stat(origin.url("/1")).content_length == len(BODY)
    with pytest.raises(SourceError, match="more than 10 times"):
        reader.stat(origin.url("/0"))


def test_attack_15_another_origin_gets_no_credentials(origin: Origin, other: Origin, reader: Reader) -> None:
    origin.fail("/file", Fault(redirect=other.put("/real", BODY)))
    reader.stat(origin.url("/file?v=1"), headers={**SECRETS, "X-Harmless": "1"})
    [first], [second] = origin.requests(), other.requests()
    assert {name.lower() for name in SECRETS} <= set(first.headers)
    assert "secret" not in str(second.headers)
    assert second.headers["x-harmless"] == "1"


def test_attack_15_credentials_do_not_come_back_after_a_detour(origin: Origin, other: Origin, reader: Reader) -> None:
    origin.fail("/file", Fault(redirect=other.url("/detour")))
    other.fail("/detour", Fault(redirect=origin.put("/real", BODY)))
    reader.stat(origin.url("/file"), headers=SECRETS)
    assert "secret" not in str(origin.requests()[-1].headers)


def test_the_same_origin_keeps_credentials(origin: Origin, reader: Reader) -> None:
    origin.put("/real", BODY)
    origin.fail("/file", Fault(redirect="/real"))
    origin.fail("/real", Fault(authorization="Bearer secret"))
    assert reader.stat(origin.url("/file"), headers=SECRETS).content_length == len(BODY)


def test_attack_15_user_information_of_the_url_stays_with_its_origin(
    origin: Origin, other: Origin, reader: Reader
) -> None:
    origin.fail("/file", Fault(redirect=other.put("/real", BODY)))
    reader.stat(origin.url("/file").replace("//", "//user:password@"))
    assert "authorization" in origin.requests()[0].headers
    assert "authorization" not in other.requests()[0].headers


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "gopher://127.0.0.1/", "ftp://127.0.0.1/file", "javascript:alert(1)", "data:,x"]
)
def test_attack_14_a_redirect_leads_to_http_only(origin: Origin, reader: Reader, location: str) -> None:
    origin.fail("/file", Fault(redirect=location))
    with pytest.raises(SourceError, match="not http or https"):
        reader.stat(origin.url("/file"))


@pytest.mark.parametrize(
    "location",
    ["http://[", "http://host:99999/", "http://host:0/", "http://a\\@b/", "http://%31/", "http:///x", "http://a b/"],
)
def test_attack_14_a_redirect_that_cannot_be_read_is_the_origins_mistake(
    origin: Origin, reader: Reader, location: str
) -> None:
    origin.fail("/file", Fault(redirect=location))
    with pytest.raises(SourceError, match="it redirects to 'http") as caught:
        reader.stat(origin.url("/file"))
    assert type(caught.value) is SourceError
    assert caught.value.facts["url"] == origin.url("/file")
    assert reader.waits == []


def test_a_redirect_to_nowhere_is_an_error(origin: Origin, reader: Reader) -> None:
    origin.fail("/file", Fault(status=302))
    with pytest.raises(SourceError, match="without saying where"):
        reader.stat(origin.url("/file"))


def test_attack_14_https_is_never_left_for_http(authority: Authority, origin: Origin) -> None:
    source = HttpSource()
    with Origin(tls=authority.server_context("127.0.0.1")) as secure:
        secure.fail("/file", Fault(redirect=origin.put("/real", BODY)))
        with pytest.raises(SourceError, match="from https to plain http"):
            Reader(source).stat(secure.url("/file"), insecure_skip_verify=True)
    source.close()
    assert origin.requests() == []


def test_http_may_lead_to_https_and_back() -> None:
    first = prepared(SourceRequest(url="http://a/"))
    back: HttpRequest = first.redirected("https://b/").redirected("http://c/")
    assert back.url == "http://c/"
