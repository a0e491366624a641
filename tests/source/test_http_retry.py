"""How long a failed request waits for its next try."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragonfly.core.model.units import Seconds
from dragonfly.errors import SourceError, SourceNotFound, SourceUnavailable
from dragonfly.source.http_retry import DELAY_LIMIT, Patience
from dragonfly.testing.origin import Origin
from dragonfly.testing.origin_answer import Fault
from dragonfly.testing.source_reader import Reader

URL = "http://host/file"


def waits_of(error: SourceError, rng: random.Random, max_retries: int = 4) -> list[Seconds]:
    """What is waited where every attempt ends in the same error."""

    def attempt() -> None:
        raise error

    waits: list[Seconds] = []
    patience = Patience(max_retries=max_retries, rng=rng, sleep=waits.append, is_over=lambda: False)
    with pytest.raises(type(error)):
        patience.with_retries(attempt)
    return waits


@given(st.randoms(use_true_random=False))
def test_delays_vary_by_half_around_what_grows(rng: random.Random) -> None:
    waits = waits_of(SourceUnavailable(url=URL, status=500), rng)
    for wait, mean in zip(waits, [0.2, 1.0, 5.0, 10.0], strict=True):
        assert 0.5 * mean <= wait <= min(1.5 * mean, DELAY_LIMIT)


def test_hosts_that_failed_together_do_not_come_back_together() -> None:
    error = SourceUnavailable(url=URL, status=500)
    assert len({tuple(waits_of(error, random.Random(seed))) for seed in range(20)}) == 20


def test_what_will_not_pass_is_not_waited_for(even_chance: random.Random) -> None:
    assert waits_of(SourceNotFound(url=URL, status=404), even_chance) == []


@pytest.mark.parametrize(
    ("retry_after", "expected"),
    [
        ("3", [3.0, 3.0]),
        ("0", [0.2, 1.0]),
        ("1", [1.0, 1.0]),
        ("10", [10.0, 10.0]),
        ("3600", [10.0, 10.0]),
        ("9" * 18, [10.0, 10.0]),
        ("Fri, 31 Dec 1999 23:59:59 GMT", [0.2, 1.0]),
        ("-1", [0.2, 1.0]),
        ("1e1", [0.2, 1.0]),
        ("nan", [0.2, 1.0]),
        ("9" * 5000, [0.2, 1.0]),
        (None, [0.2, 1.0]),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_an_origin_may_say_when_to_come_back(
    origin: Origin, reader: Reader, status: int, retry_after: str | None, expected: list[Seconds]
) -> None:
    origin.fail("/file", Fault(status=status, headers={"Retry-After": retry_after}, times=2))
    url = origin.put("/file", b"content")
    assert reader.stat(url).content_length == 7
    assert reader.waits == expected


def test_a_read_is_patient_likewise(origin: Origin, reader: Reader) -> None:
    url = origin.put("/file", b"content")
    stat = reader.stat(url)
    origin.fail("/file", Fault(status=503, headers={"Retry-After": "4"}, times=1))
    assert reader.read(url, 0, 7, stat=stat) == b"content"
    assert reader.waits == [4.0]


def test_a_time_to_come_back_counts_only_where_it_means_that(origin: Origin, reader: Reader) -> None:
    origin.fail("/file", Fault(status=500, headers={"Retry-After": "4"}, times=2))
    reader.stat(origin.put("/file", b"content") + "?v=1")
    assert reader.waits == [0.2, 1.0]
