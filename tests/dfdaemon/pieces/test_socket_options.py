"""What sockets that carry pieces are born with."""

import socket

import pytest

from dragonfly.dfdaemon.pieces.socket import choose_congestion_control


@pytest.mark.skipif(not hasattr(socket, "TCP_CONGESTION"), reason="this system has no choice of congestion control")
def test_connection_is_accepted_with_the_congestion_control_of_its_listener() -> None:
    with socket.socket() as listener:
        choose_congestion_control(listener)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with socket.create_connection(listener.getsockname()), listener.accept()[0] as accepted:
            name = accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16)
    assert name.rstrip(b"\0") == b"cubic"
