"""The reference's ring, by the hashes and owners its own build computes."""

import pytest

from dragonfly.core.placement.hashring import ReferenceRing, _address_bytes, siphash24

SCHEDULERS = [f"10.0.0.{number}:8002" for number in (1, 2, 3)]


def test_siphash_agrees_with_the_vector_of_its_authors():
    key = bytes(range(16))
    k0, k1 = int.from_bytes(key[:8], "little"), int.from_bytes(key[8:], "little")
    assert siphash24(bytes(range(15)), k0, k1) == 0xA129CA6149BE45E5
    assert siphash24(b"", k0, k1) == 0x726FDB47DD0E0E31


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("10.0.0.1:8002", 0x9948A09AF7EC8DEE),
        ("10.0.0.2:8002", 0x3C5A35DAA4177512),
        ("10.0.0.3:8002", 0x3FB2E2C7EE4F0057),
    ],
)
def test_scheduler_stands_where_the_reference_puts_it(address, expected):
    assert siphash24(_address_bytes(address)) == expected


@pytest.mark.parametrize(("key", "expected"), [("00000", 0x32266D2BBC957C60), ("abcde", 0xF4CDB0A996A23A5E)])
def test_task_stands_where_the_reference_puts_it(key, expected):
    assert siphash24(key.encode() + b"\xff") == expected


@pytest.mark.parametrize(
    ("task_id", "owner"),
    [("00000", 2), ("abcde", 2), ("12345", 1), ("fffff", 2), ("5844f", 2), ("e2d0f", 1), ("7160a", 1), ("b51f4", 2)],
)
def test_task_goes_to_the_scheduler_the_reference_chooses(task_id, owner):
    assert ReferenceRing(SCHEDULERS).owner(task_id.ljust(64, "7")) == f"10.0.0.{owner}:8002"


def test_ipv6_scheduler_hashes_family_octets_port_flow_and_scope():
    expected = (1).to_bytes(8, "little") + bytes(15) + b"\x01" + b"\x42\x1f" + bytes(8)
    assert _address_bytes("[::1]:8002") == expected
