"""A block of loopback addresses for one cluster."""

import random
import socket
from collections.abc import Iterator

import pytest

from dragonfly.cli.up.block import HOLDING_PORT, Address, hold_block, is_free
from dragonfly.errors import ServiceError

PORT = 24_000


def addresses(prefix: str, ports: dict[int, int]) -> Iterator[Address]:
    for last in (2, 3):
        yield f"{prefix}.{last}", ports.get(PORT, PORT)


def test_two_clusters_never_get_the_same_block() -> None:
    first = hold_block(addresses, random.Random(1))
    second = hold_block(addresses, random.Random(1))
    try:
        assert first.prefix != second.prefix
    finally:
        first.release()
        second.release()


def test_released_block_can_be_had_again() -> None:
    first = hold_block(addresses, random.Random(2))
    first.release()
    again = hold_block(addresses, random.Random(3), preferred=first.prefix)
    again.release()
    assert again.prefix == first.prefix


def test_preferred_block_that_is_held_is_passed_over() -> None:
    first = hold_block(addresses, random.Random(4))
    second = hold_block(addresses, random.Random(5), preferred=first.prefix)
    first.release()
    second.release()
    assert first.prefix != second.prefix


def test_block_where_a_port_is_taken_is_passed_over() -> None:
    first = hold_block(addresses, random.Random(6))
    first.release()
    with socket.create_server((f"{first.prefix}.3", PORT)):
        second = hold_block(addresses, random.Random(6))
        second.release()
    assert second.prefix != first.prefix
    assert second.ports == {}


def test_port_that_is_taken_on_every_address_is_replaced() -> None:
    with socket.create_server(("0.0.0.0", PORT)):
        block = hold_block(addresses, random.Random(7))
        block.release()
    assert block.ports == {PORT: PORT + 10_000}


def test_preferred_block_is_had_again_where_a_port_is_taken_on_every_address() -> None:
    with socket.create_server(("0.0.0.0", PORT)):
        first = hold_block(addresses, random.Random(11))
        first.release()
        again = hold_block(addresses, random.Random(12), preferred=first.prefix)
        again.release()
    assert (again.prefix, again.ports) == (first.prefix, first.ports)


def test_port_that_is_taken_and_cannot_be_replaced_is_named() -> None:
    with (
        socket.create_server(("0.0.0.0", PORT)),
        pytest.raises(ServiceError, match=rf"no free block .*\(ports in the way: {PORT}\)"),
    ):
        hold_block(lambda prefix, ports: [(f"{prefix}.2", PORT)], random.Random(8))


def test_blocks_are_loopback_addresses_of_their_own_range() -> None:
    block = hold_block(addresses, random.Random(9))
    block.release()
    first, a, b = block.prefix.split(".")
    assert first == "127"
    assert 64 <= int(a) < 128
    assert 0 <= int(b) < 256


def test_held_block_is_not_free() -> None:
    block = hold_block(addresses, random.Random(10))
    try:
        assert not is_free((f"{block.prefix}.1", HOLDING_PORT))
        assert is_free((f"{block.prefix}.2", PORT))
    finally:
        block.release()
