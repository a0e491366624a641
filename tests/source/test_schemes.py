import pytest

from dragonfly.errors import InvalidUrl, SchemeUnsupported, SourceUnavailable
from dragonfly.source.http import HttpSource
from dragonfly.source.protocol import SourceRequest
from dragonfly.source.schemes import Sources
from dragonfly.testing.origin import Origin
from dragonfly.testing.origin_answer import Fault


@pytest.mark.parametrize("url", ["http://host/file", "https://host/file", "HTTPS://host/file"])
def test_http_and_https_are_read_by_one_source(url: str) -> None:
    sources = Sources.standard()
    assert isinstance(sources.of(url), HttpSource)
    assert sources.of(url) is sources.of("http://other/")
    sources.close()


def test_an_unknown_scheme_names_the_known_ones() -> None:
    with pytest.raises(SchemeUnsupported, match=r"'gopher'.*known: http, https") as caught:
        Sources.standard().of("gopher://user:password@host/file")
    assert "password" not in str(caught.value)


@pytest.mark.parametrize("url", ["", "/etc/passwd", "host/file", "://host", "1http://host"])
def test_a_url_without_a_scheme_is_invalid(url: str) -> None:
    with pytest.raises(InvalidUrl):
        Sources.standard().of(url)


def test_closing_closes_each_source_once() -> None:
    class Counting(HttpSource):
        closed = 0

        def close(self) -> None:
            self.closed += 1
            super().close()

    source = Counting()
    Sources({"http": source, "https": source}).close()
    assert source.closed == 1


def test_what_the_settings_say_reaches_the_origins(origin: Origin) -> None:
    sources = Sources.standard(max_retries=0, request_header={"X-Team": "ours"})
    origin.fail("/file", Fault(status=503))
    with pytest.raises(SourceUnavailable):
        sources.of(origin.url("/file")).stat(SourceRequest(url=origin.url("/file")), timeout=10)
    sources.close()
    assert [request.headers["x-team"] for request in origin.requests()] == ["ours"]
