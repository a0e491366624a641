"""One child of the piece server: its connection, its request so far, what it is still owed."""

import socket
import ssl
import time
from enum import Enum, auto

from dragonfly.core.model.units import Seconds
from dragonfly.dfdaemon.pieces.answer import Answer
from dragonfly.dfdaemon.pieces.channel import Channel, PlainChannel, TlsChannel, reset_on_close
from dragonfly.dfdaemon.pieces.socket import Address, text_of
from dragonfly.dfdaemon.pieces.tls import HANDSHAKE_RECORD, PieceTls
from dragonfly.errors import ServiceError
from dragonfly.wire.vortex import PieceRequest, Refusal, RefusalCode, RequestDecoder

IN_THE_CLEAR = Refusal(RefusalCode.INVALID_ARGUMENT, "pieces are served over TLS only")


class Arrival(Enum):
    """What a look at the connection found."""

    REQUEST = auto()
    NOTHING_YET = auto()
    ENDED = auto()


class Child:
    """Owned by one thread of the server at a time."""

    __slots__ = (
        "address",
        "answer",
        "answer_until",
        "asked_at",
        "channel",
        "deadline",
        "decoder",
        "ip",
        "request",
        "tls",
        "wait",
        "wake_at",
    )

    def __init__(self, connected: socket.socket, address: Address, wait: Seconds, tls: PieceTls | None) -> None:
        self.channel: Channel = PlainChannel(connected, wait)
        self.ip = address[0]
        self.address = text_of(address)
        self.tls = tls  # until the handshake is done
        self.wait = wait
        self.decoder = RequestDecoder(self.address)
        self.request: PieceRequest | None = None
        self.asked_at: Seconds = 0.0
        self.answer: Answer | None = None
        self.answer_until: Seconds = 0.0
        self.deadline: Seconds = 0.0  # of being idle, or parked until it takes bytes
        self.wake_at: Seconds = 0.0  # of being parked for a time

    def read(self) -> Arrival:
        """Take what has arrived of a request, without waiting. Raises ProtocolViolation, OSError."""
        while self.decoder.needs:
            data = self.channel.take(self.decoder.needs)
            if data is None:
                return Arrival.NOTHING_YET
            if not data:
                return Arrival.ENDED
            frame = self.decoder.feed(data)
            if frame is not None:
                self.decoder.reset()
                self.request = frame if isinstance(frame, PieceRequest) else None
                self.asked_at = time.monotonic()
                return Arrival.REQUEST if self.request else Arrival.ENDED
        return Arrival.ENDED

    def shake_hands(self, tls: PieceTls) -> Arrival:
        """Go on with the handshake, without waiting. Raises OSError; ServiceError where the child does it wrong."""
        channel = self.channel
        if isinstance(channel, PlainChannel):
            first = channel.socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
            if not first:
                return Arrival.ENDED
            if first != HANDSHAKE_RECORD:
                self._refuse_in_the_clear()
            secured = tls.server().wrap_socket(channel.socket, server_side=True, do_handshake_on_connect=False)
            self.channel = channel = TlsChannel(secured, self.wait)
        assert isinstance(channel, TlsChannel)
        try:
            if not channel.handshake():
                return Arrival.NOTHING_YET
        except ssl.SSLError as error:
            raise ServiceError(reason=f"no TLS with the child at {self.address}: {error.reason or error}") from error
        self.tls = None
        return self.read()

    def _refuse_in_the_clear(self) -> None:
        self.channel.take(4096)  # a socket closed over unread bytes would be reset, and the refusal lost
        self.channel.send_now(IN_THE_CLEAR.encode())
        raise ServiceError(reason=f"the child at {self.address} asks in the clear, but pieces are served over TLS only")

    def give_up_answer(self) -> None:
        """Owe it no longer; the close becomes a reset, so that the kernel does not keep what the child never takes."""
        answer, self.answer = self.answer, None
        if answer is not None:
            answer.close()
            reset_on_close(self.channel.socket)

    def close(self) -> None:
        self.give_up_answer()
        self.channel.close()
