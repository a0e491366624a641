"""What a stranger's listing may and may not make of the output directory."""

import pytest

from dragonfly.cli.dfget.include import Include, check
from dragonfly.cli.dfget.listing import DEEPEST, Entry, Listing
from dragonfly.errors import InvalidInput

ROOT = "s3://bucket/models/llama/"


def listing(*patterns: str, url: str = ROOT, max_files: int = 100) -> Listing:
    return Listing(url, Include(patterns), max_files)


def file(path: str, length: int = 1) -> Entry:
    return Entry(ROOT + path, length, False)


def directory(path: str) -> Entry:
    return Entry(ROOT + path, 0, True)


def paths(found: Listing) -> list[str]:
    return sorted("/".join(path) for path in found.files)


# --- names


def test_names_are_what_follows_the_directory_decoded() -> None:
    found = listing()
    found.add([file("a.bin"), file("sub/b%20c.bin"), file("%C3%A9"), file("models/llama/x"), file("a+b&c")])
    assert paths(found) == ["a+b&c", "a.bin", "models/llama/x", "sub/b c.bin", "é"]


def test_bytes_that_are_no_text_stay_what_they_are() -> None:
    found = listing()
    found.add([file("%FF")])
    assert paths(found) == ["\udcff"]


ATTACKS = {
    "parent": ROOT + "../secret", "parent within": ROOT + "a/../../../secret", "encoded parent": ROOT + "%2e%2e/secret",
    "parent in the root's place": "s3://bucket/models/../etc/passwd", "encoded slash": ROOT + "a%2fb",
    "encoded absolute": ROOT + "%2Fetc%2Fpasswd", "encoded climb": ROOT + "..%2f..%2fetc", "NUL": ROOT + "a%00b",
    "encoded backslash": ROOT + "a%5Cb", "backslash": ROOT + "a\\b", "line end": ROOT + "a%0Ab",
    "escape": ROOT + "%1B[2J", "unfit directory": ROOT + "a%5Cb/c", "delete": ROOT + "a%7F",
    "double slash": ROOT + "a//b", "dot": ROOT + "./a", "another directory": "s3://bucket/other/a",
    "a longer name": "s3://bucket/models/llama-2/a", "another bucket": "s3://evil/models/llama/a",
    "another scheme": "http://bucket/models/llama/a", "no scheme": "models/llama/a", "absolute": "/etc/passwd",
    "no URL": "s3://[/models/llama/a",
}  # fmt: skip


@pytest.mark.parametrize("url", ATTACKS.values(), ids=ATTACKS.keys())
def test_a_name_that_leads_elsewhere_is_refused_and_the_others_are_not(url: str) -> None:
    """Attacks 19 and 22."""
    found = listing()
    found.add([Entry(url, 1, False), file("good")])
    assert paths(found) == ["good"]
    assert [refused for refused, _ in found.refused] == [url]


def test_a_directory_that_leads_elsewhere_is_not_asked_for() -> None:
    found = listing()
    assert found.add([Entry("s3://bucket/", 0, True), Entry(ROOT + "../", 0, True)]) == []
    assert len(found.refused) == 2


def test_two_files_of_one_name_are_one_file_and_a_failure() -> None:
    found = listing()
    found.add([file("ab"), file("%61b"), file("ab")])
    assert paths(found) == ["ab"]
    assert [url for url, _ in found.refused] == [ROOT + "%61b"]


def test_a_query_belongs_to_the_url_and_not_to_the_name() -> None:
    found = listing(url="http://origin.test/d/?token=a/b")
    found.add([Entry("http://origin.test/d/x.bin?token=a%2Fb", 3, False)])
    assert paths(found) == ["x.bin"]
    assert found.files[("x.bin",)].url.endswith("?token=a%2Fb")


# --- levels


def test_directories_are_asked_for_once_each() -> None:
    found = listing()
    assert found.add([directory("a/"), directory("b"), file("c")]) == [ROOT + "a/", ROOT + "b"]
    assert found.add([directory("a/"), directory("a/deep/"), file("a/x")]) == [ROOT + "a/deep/"]
    assert found.add([directory(""), file("a/deep/y")]) == []
    assert paths(found) == ["a/deep/y", "a/x", "c"]


def test_a_directory_of_which_the_answer_names_a_part_is_not_asked_for_again() -> None:
    found = listing()
    assert found.add([directory("a/"), file("a/b/x"), directory("a/b/"), directory("empty/")]) == [ROOT + "empty/"]
    assert found.directories == {("a",), ("a", "b"), ("empty",)}


def test_an_object_that_marks_a_directory_is_one() -> None:
    found = listing()
    found.add([Entry(ROOT + "a/", 0, False)])
    assert (found.files, found.directories) == ({}, {("a",)})


def test_more_files_than_allowed_are_refused_with_the_flags_name() -> None:
    listing(max_files=3).add([file(str(number)) for number in range(3)])
    with pytest.raises(InvalidInput, match="more than 3 files; --max-files"):
        listing(max_files=3).add([file(str(number)) for number in range(4)])


def test_files_that_are_not_included_do_not_count() -> None:
    found = listing("*.bin", max_files=1)
    found.add([file("a.bin"), *[file(f"{number}.txt") for number in range(10)]])
    assert paths(found) == ["a.bin"]


def test_an_origin_that_invents_directories_is_left() -> None:
    found = listing(max_files=10)
    for number in range(10):
        found.add([directory(f"{number}/")])
    with pytest.raises(InvalidInput, match="more than 10 directories"):
        found.add([directory("10/")])
    with pytest.raises(InvalidInput, match=f"deeper than {DEEPEST} levels"):
        listing().add([directory("a/" * (DEEPEST + 1))])


# --- globs

MATCHES = {
    "*.txt": (["a.txt", ".txt"], ["d/a.txt", "a.txt.gz"]),
    "**": (["a", "a/b/c"], []),
    "**/*.txt": (["a.txt", "d/a.txt", "d/e/a.txt"], ["d/a.bin"]),
    "docs/": (["docs/a", "docs/b/c"], ["docs", "other/docs/a"]),
    "docs/**": (["docs/a", "docs/b/c"], ["docs", "doc/a"]),
    "docs/**/x": (["docs/x", "docs/a/x", "docs/a/b/x"], ["x", "docs/y"]),
    "a/?.bin": (["a/1.bin"], ["a/12.bin", "a/b/1.bin"]),
    "[ab].txt": (["a.txt", "b.txt"], ["c.txt"]),
    "[!ab].txt": (["c.txt"], ["a.txt"]),
    "a": (["a"], ["a/b", "b"]),
}


@pytest.mark.parametrize("pattern", MATCHES)
def test_a_glob_matches_relative_paths(pattern: str) -> None:
    include, (matching, others) = Include([check(pattern)]), MATCHES[pattern]
    assert [path for path in matching if not include.file(path.split("/"))] == []
    assert [path for path in others if include.file(path.split("/"))] == []
    for path in matching:
        parents = path.split("/")[:-1]
        assert all(include.directory(parents[: depth + 1]) for depth in range(len(parents)))


def test_directories_that_can_hold_no_match_are_not_asked_for() -> None:
    include = Include(["docs/*.txt", "a/**/z"])
    assert include.directory(["docs"])
    assert include.directory(["a", "b", "c"])
    assert not include.directory(["docs", "deeper"])
    assert not include.directory(["other"])


@pytest.mark.parametrize("pattern", ["/etc/*", "../x", "a/../b", "./a", "a//b", "", "/"])
def test_a_pattern_is_a_plain_relative_path(pattern: str) -> None:
    with pytest.raises(InvalidInput, match="not a plain relative path"):
        check(pattern)


def test_a_run_of_stars_is_matched_without_trying_everything() -> None:
    assert not Include(["/".join(["**"] * 30) + "/x"]).file(["a"] * 60)
    assert not Include(["*a" * 30 + "b"]).file(["a" * 200])
