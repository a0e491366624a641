"""Telling versions of a file apart."""

import pytest

from dragonfly.core.model.version import FileVersion

MONDAY, TUESDAY = "Mon, 01 Jun 2026 00:00:00 GMT", "Tue, 02 Jun 2026 00:00:00 GMT"


@pytest.mark.parametrize(
    ("kept", "now"),
    [
        (("", ""), ("", "")),
        (('"a"', MONDAY), ('"a"', TUESDAY)),  # a strong tag is certain
        (('W/"a"', MONDAY), ('W/"b"', MONDAY)),  # weak tags are not, the date is
        (('W/"a"', ""), ('"a"', "")),
        (('"a"', ""), ("", MONDAY)),  # nothing in common to compare
    ],
)
def test_same_version(kept: tuple[str, str], now: tuple[str, str]) -> None:
    assert FileVersion(9, *kept).difference(FileVersion(9, *now)) == ""


@pytest.mark.parametrize(
    ("kept", "now", "why"),
    [
        (('"a"', MONDAY), ('"b"', MONDAY), 'ETag was "a" and is now "b"'),
        (("", MONDAY), ("", TUESDAY), "last modified"),
        (('W/"a"', MONDAY), ('W/"a"', TUESDAY), "last modified"),
        (('W/"a"', ""), ('W/"b"', ""), "ETag"),
    ],
)
def test_another_version_says_why(kept: tuple[str, str], now: tuple[str, str], why: str) -> None:
    """Attack 30."""
    assert why in FileVersion(9, *kept).difference(FileVersion(9, *now))


def test_generation_is_the_same_on_hosts_that_saw_the_same_version() -> None:
    assert FileVersion(9, '"a"', MONDAY).generation == FileVersion(9, '"a"', TUESDAY).generation
    assert FileVersion(9, 'W/"a"', MONDAY).generation == FileVersion(9, 'W/"b"', MONDAY).generation


def test_generation_differs_where_the_file_does() -> None:
    versions = [
        FileVersion(9, '"a"'),
        FileVersion(8, '"a"'),
        FileVersion(9, '"b"'),
        FileVersion(9, "", MONDAY),
    ]
    assert len({version.generation for version in versions}) == len(versions)


def test_length_alone_names_no_generation() -> None:
    assert FileVersion(9).generation == ""


def test_another_length_is_another_version_whatever_the_tags_say() -> None:
    assert FileVersion(9, '"a"').difference(FileVersion(8, '"a"')) == "it was 9 bytes long and is now 8"


def test_length_that_one_side_does_not_know_tells_nothing_apart() -> None:
    assert FileVersion(None, '"a"').difference(FileVersion(8, '"a"')) == ""
    assert "ETag" in FileVersion(None, '"a"').difference(FileVersion(8, '"b"'))


def test_file_of_which_nothing_is_known_has_no_generation() -> None:
    assert FileVersion(None).generation == ""
    assert FileVersion(None, '"a"').generation
