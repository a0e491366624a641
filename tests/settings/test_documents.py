"""Reading YAML: what is refused before any key is looked at."""

import os
from itertools import pairwise
from pathlib import Path

import pytest

from dragonfly.dfdaemon.settings import DaemonSettings
from dragonfly.errors import InvalidSettings
from dragonfly.settings.documents import LONGEST_FILE, described, read_document
from dragonfly.settings.loader import load


def refusal(path: Path) -> str:
    with pytest.raises(InvalidSettings) as caught:
        read_document(path)
    return str(caught.value)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "settings.yaml"


def test_missing_file_is_named(file: Path) -> None:
    assert refusal(file) == f"{file}: cannot be read: No such file or directory"


def test_directory_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"{tmp_path}: cannot be read: Is a directory"


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_unreadable_file_is_refused(file: Path) -> None:
    file.touch(mode=0)
    assert "Permission denied" in refusal(file)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: 1\nb: [1,\nc: 2\n", 4),
        ("a: 1\n b: 2\n", 2),
        ("a: 1\n---\nb: 2\n", 2),
        ("a: *nobody\n", 1),
        ("a: !!python/object/apply:os.system [ls]\n", 1),
        ("a: '\n", 2),
        ("a:\n\t- 1\n", 2),
    ],
)
def test_syntax_error_is_told_with_its_line(file: Path, text: str, line: int) -> None:
    file.write_text(text)
    assert refusal(file).startswith(f"{file}: line {line}: ")


@pytest.mark.parametrize("text", ["a: 1\nb: 2\na: 3\n", "x: {}\ny: {}\n'x': 1\n"])
def test_key_that_is_there_twice_is_refused(file: Path, text: str) -> None:
    file.write_text(text)
    assert "line 3: the key" in refusal(file)
    assert "is here twice" in refusal(file)


def test_nested_key_that_is_there_twice_is_refused(file: Path) -> None:
    file.write_text("storage:\n  dir: /a\n  dir: /b\n")
    assert refusal(file) == f'{file}: line 3: the key "dir" is here twice'


def test_merged_keys_may_be_said_again(file: Path) -> None:
    file.write_text("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\n")
    assert read_document(file)["b"] == {"x": 3, "y": 2}


@pytest.mark.parametrize(("text", "what"), [("- a\n", "a list"), ("hello\n", '"hello"'), ("7\n", "7")])
def test_file_without_keys_is_refused(file: Path, text: str, what: str) -> None:
    file.write_text(text)
    assert refusal(file) == f"{file}: has to hold keys and values, and holds {what}"


def test_key_that_is_no_text_is_refused(file: Path) -> None:
    file.write_text("? [a, b]\n: 1\n")
    assert refusal(file) == f"{file}: line 1: a key has to be text"


def test_date_that_does_not_exist_is_refused(file: Path) -> None:
    file.write_text("a: 2026-02-31\n")
    assert refusal(file).startswith(f"{file}: not YAML: ")


def test_bytes_that_are_no_text_are_refused(file: Path) -> None:
    file.write_bytes(b"a: \xff\n")
    assert refusal(file) == f"{file}: is not UTF-8 text (byte 3)"


def test_byte_order_mark_is_skipped(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read_document(file) == {"a": 1}


def test_huge_file_is_refused(file: Path) -> None:
    file.write_bytes(b"#" * (LONGEST_FILE + 1))
    assert "larger than 1 MiB" in refusal(file)


def test_endless_device_is_refused_soon() -> None:
    assert "larger than 1 MiB" in refusal(Path("/dev/zero"))


@pytest.mark.parametrize("where", ["host.hostname", "proxy.rules", "backend.requestHeader", "storage"])
def test_aliases_that_multiply_are_refused_without_being_unfolded(file: Path, where: str) -> None:
    names = "abcdefghijklmnopqrstuvwxyz"
    bomb = "[&a [x, x, x, x, x, x, x, x, x], "
    bomb += ", ".join(f"&{name} [{', '.join(['*' + before] * 9)}]" for before, name in pairwise(names))
    section, _, key = where.partition(".")
    file.write_text(f"{section}:\n  {key}: {bomb}]\n" if key else f"{section}: {bomb}]\n")
    with pytest.raises(InvalidSettings, match="is a list, wanted"):
        load(DaemonSettings, file)


def test_document_that_contains_itself_is_refused(file: Path) -> None:
    file.write_text("storage: &s\n  server: *s\n")
    with pytest.raises(InvalidSettings, match=r'unknown key "storage\.server\.server"'):
        load(DaemonSettings, file)


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "nothing"), (True, "true"), ("a", '"a"'), ({}, "a mapping"), ([], "a list"), (1.5, "1.5")],
)
def test_values_are_described_for_people(value: object, text: str) -> None:
    assert described(value) == text
