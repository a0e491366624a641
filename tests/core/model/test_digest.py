import zlib

import pytest

from dragonfly.core.model.digest import Digest
from dragonfly.errors import InvalidDigest


def test_piece_digest_is_the_unpadded_decimal_of_crc32():
    assert str(Digest.crc32(zlib.crc32(b"123456789"))) == "crc32:3421780262"
    assert str(Digest.crc32(7)) == "crc32:7"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sha256:" + "ab" * 32, "sha256:" + "ab" * 32),
        (" SHA256:" + "AB" * 32 + "\n", "sha256:" + "ab" * 32),
        ("sha512:" + "ab" * 64, "sha512:" + "ab" * 64),
        ("blake3:" + "ab" * 32, "blake3:" + "ab" * 32),
        ("crc32:0000000007", "crc32:7"),
        ("crc32:4294967295", "crc32:4294967295"),
        ("crc32:0", "crc32:0"),
    ],
)
def test_digest_is_read_in_its_one_spelling(text, expected):
    assert str(Digest.parse(text)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256",
        "sha256:",
        ":abc",
        "sha256:" + "ab" * 31,
        "sha256:" + "xy" * 32,
        "sha256:" + "ab" * 32 + ":",
        "crc32:4294967296",
        "crc32:-1",
        "crc32:1a",
        "crc32:²",
        "crc32:" + "9" * 5000,
        "whirlpool:ab",
        "md5:" + "ab" * 16,
        "sha1:" + "ab" * 20,
    ],
)
def test_text_that_is_no_digest_is_refused(text):
    """Attack 27: MD5 and SHA-1 are no digests here."""
    with pytest.raises(InvalidDigest):
        Digest.parse(text)
