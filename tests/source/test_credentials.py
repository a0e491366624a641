import pytest

from dragonfly.source.credentials import has_credentials, without_credentials
from dragonfly.source.http_address import shown
from dragonfly.source.protocol import SourceRequest


@pytest.mark.parametrize(
    "name",
    [
        "Authorization",
        "authorization",
        "Proxy-Authorization",
        "Cookie",
        "X-Auth-Token",
        "X-Auth-Key",
        "Private-Token",
        "PRIVATE-KEY",
        "X-Api-Key",
        "X-Amz-Security-Token",
        "X-Goog-Signature",
        "X-Session-Id",
        "X-JWT-Assertion",
        "X-Password",
    ],
)
def test_a_header_that_proves_who_asks_is_a_credential(name: str) -> None:
    assert has_credentials(SourceRequest(url="https://host/file", headers={"Accept": "*/*", name: "secret"}))
    assert without_credentials({name: "secret", "Accept": "*/*"}) == {"Accept": "*/*"}


@pytest.mark.parametrize(
    "url",
    [
        "https://user:password@host/file",
        "https://user@host/file",
        "https://host/file?X-Amz-Algorithm=a&X-Amz-Signature=ff&X-Amz-Expires=60",
        "https://host/file?X-Amz-%53ignature=ff",
        "https://host/file?sv=2020&sig=ab%2Bc",
        "https://host/file?Expires=1&OSSAccessKeyId=x&Signature=y",
        "https://host/file?Expires=1&Key-Pair-Id=x&Signature=y",
        "https://host/file?q-sign-algorithm=sha1&q-ak=x&q-signature=y",
        "https://host/file?access_token=t",
        "https://host/file?auth_key=t",
        "https://host/file?auth=t",
        "https://host/file?sign=t",
        "https://host/file?a=1&jwt=t#fragment",
    ],
)
def test_a_url_that_proves_who_asks_is_one_too(url: str) -> None:
    assert has_credentials(SourceRequest(url=url))
    assert shown(url) != url


@pytest.mark.parametrize(
    "url",
    [
        "https://host/file",
        "https://host/user@host/file",
        "https://host/signature=1",
        "https://host/file?version=2&design=new&author=me&assignee=you",
        "https://host/file?#token=1",
        "not a url",
        "",
    ],
)
def test_what_everybody_may_ask_alike_is_none(url: str) -> None:
    headers = {"User-Agent": "x", "Accept": "*/*", "Range": "bytes=0-1", "X-Author": "me", "If-None-Match": "x"}
    assert not has_credentials(SourceRequest(url=url, headers=headers))
    assert shown(url) == url
    assert without_credentials(headers) == headers
