"""The piece protocol (vortex): one request, one answer, over a byte stream. Pure: bytes in, frames out; no sockets.

Every message begins with a header: id (random, means nothing), tag, length of the value; integers are big-endian.

    request   tags 0 2 4 6   64 characters of task id, u32 piece number: 74 bytes with the header
    content   tags 1 3 5 7   u32 metadata length M, M bytes of metadata, then the piece's bytes
    close     tag 254        no value
    error     tag 255        u8 code, UTF-8 text

The reference's daemon writes 4 + M as a content's length and leaves the piece outside; its documents count the piece
in. So a reader never trusts that length: it reads M, the metadata, and then as many bytes as the metadata says.

    header ── content tag ──► metadata length ──► metadata ──► ContentHead     (the piece's bytes follow, not read here)
       ├──── error tag ─────► text ─────────────────────────► Refusal
       └──── close tag ─────────────────────────────────────► Close

A decoder names the bytes it `needs`; a caller that reads no more than that can receive the piece straight into its own
buffer. What it buffers is bounded by MAX_VALUE, whatever the peer claims. A peer that breaks the rules raises
ProtocolViolation with the address the decoder was given.
Source: reference data-plane facts, section 4; its vectors stand in tests/golden/test_vortex.py.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum

from dragonfly.core.model.ids import TASK_ID_LENGTH
from dragonfly.core.model.units import Bytes, KiB
from dragonfly.errors import InvalidIdentifier, ProtocolViolation

MAX_VALUE: Bytes = 64 * KiB  # for what a reader must buffer: metadata or an error's text; real ones have some 100 bytes
MAX_DIGEST: Bytes = 256  # the longest known, sha512 in hex, has 135
REMOTE_PEER = 1  # traffic type; the reference's servers write nothing else

_HEADER = struct.Struct(">BBI")
_REQUEST = struct.Struct(f">BBI{TASK_ID_LENGTH}sI")
_U32 = struct.Struct(">I")
_SPAN = struct.Struct(">IQQ")  # number, offset, length
_TAIL = struct.Struct(">BQq")  # traffic type, cost, created at
_FIXED_METADATA = _SPAN.size + 2 * _U32.size + _TAIL.size

HEADER_LENGTH: Bytes = _HEADER.size
REQUEST_LENGTH: Bytes = _REQUEST.size
_REQUEST_VALUE = REQUEST_LENGTH - HEADER_LENGTH


class Tag(IntEnum):
    """What a message is. The content that answers a request has the request's tag plus one."""

    DOWNLOAD_PIECE = 0
    PIECE_CONTENT = 1
    DOWNLOAD_PERSISTENT_PIECE = 2
    PERSISTENT_PIECE_CONTENT = 3
    DOWNLOAD_PERSISTENT_CACHE_PIECE = 4
    PERSISTENT_CACHE_PIECE_CONTENT = 5
    DOWNLOAD_CACHE_PIECE = 6
    CACHE_PIECE_CONTENT = 7
    CLOSE = 254
    ERROR = 255

    @property
    def is_request(self) -> bool:
        return self < Tag.CLOSE and self % 2 == 0

    @property
    def is_content(self) -> bool:
        return self < Tag.CLOSE and self % 2 == 1


_TAGS = {int(tag): tag for tag in Tag}


class RefusalCode(IntEnum):
    """Why a server refuses. Any other byte on the wire is UNKNOWN."""

    UNKNOWN = 0
    INVALID_ARGUMENT = 1
    NOT_FOUND = 2
    INTERNAL = 3


_CODES = {int(code): code for code in RefusalCode}


@dataclass(frozen=True, slots=True)
class PieceRequest:
    """A child asks for one piece. `tag` tells the kind of task; the id alone finds it."""

    task_id: str
    number: int
    tag: Tag = Tag.DOWNLOAD_PIECE
    id: int = 0

    def encode(self) -> bytes:
        """The 74 bytes. Raises InvalidIdentifier for a task id that is not 64 ASCII characters."""
        task_id = self.task_id.encode()
        if len(task_id) != TASK_ID_LENGTH or not task_id.isascii():
            raise InvalidIdentifier(kind="task id", text=self.task_id)
        return _REQUEST.pack(self.id, self.tag, _REQUEST_VALUE, task_id, self.number)


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentHead:
    """All of a content message but the content: `length` bytes of it follow.

    `digest` and `parent_id`, the peer the server had the piece from, may be empty. `cost` is in whole seconds,
    `created_at` in Unix seconds.
    """

    number: int
    offset: Bytes
    length: Bytes
    digest: str = ""
    parent_id: str = ""
    traffic_type: int = REMOTE_PEER
    cost: int = 0
    created_at: int = 0
    tag: Tag = Tag.PIECE_CONTENT
    id: int = 0

    def encode(self) -> bytes:
        """Header and metadata, with the content left out of the header's length, as the reference's daemon does."""
        digest, parent_id = self.digest.encode(), self.parent_id.encode()
        metadata_length = _FIXED_METADATA + len(digest) + len(parent_id)
        return b"".join(
            (
                _HEADER.pack(self.id, self.tag, _U32.size + metadata_length),
                _U32.pack(metadata_length),
                _SPAN.pack(self.number, self.offset, self.length),
                _U32.pack(len(digest)),
                digest,
                _U32.pack(len(parent_id)),
                parent_id,
                _TAIL.pack(self.traffic_type, self.cost, self.created_at),
            )
        )


@dataclass(frozen=True, slots=True)
class Refusal:
    """The server cannot give the piece."""

    code: RefusalCode
    message: str
    id: int = 0

    def encode(self) -> bytes:
        text = self.message.encode()[: MAX_VALUE - 1]
        return _HEADER.pack(self.id, Tag.ERROR, 1 + len(text)) + bytes((self.code,)) + text


@dataclass(frozen=True, slots=True)
class Close:
    """Nothing more will come."""

    id: int = 0

    def encode(self) -> bytes:
        return _HEADER.pack(self.id, Tag.CLOSE, 0)


Frame = PieceRequest | ContentHead | Refusal | Close


class _Decoder:
    """Gathers `needs` bytes at a time and lets `_step` make something of them."""

    def __init__(self, address: str = "?") -> None:
        self._address = address
        self._gathered = bytearray()
        self.reset()

    def reset(self) -> None:
        """Be ready for the next message."""
        self._gathered.clear()
        self._missing = HEADER_LENGTH
        self._id, self._tag, self._length = 0, Tag.CLOSE, 0

    @property
    def needs(self) -> Bytes:
        """How many bytes are certainly still to come before the next step; 0 when the message is complete."""
        return self._missing - len(self._gathered)

    @property
    def began(self) -> bool:
        """Whether a message has begun to arrive."""
        return bool(self._gathered) or self._missing != HEADER_LENGTH

    def feed(self, data: bytes) -> Frame | None:
        """Take bytes, at most `needs` of them; the message if it is complete. Raises ProtocolViolation."""
        if len(data) > self.needs:
            raise ValueError(f"fed {len(data)} bytes where {self.needs} are needed")
        self._gathered += data
        frame = None
        while frame is None and self._missing and not self.needs:
            block = bytes(self._gathered)
            self._gathered.clear()
            self._missing = 0
            frame = self._step(block)
        return frame

    def _step(self, block: bytes) -> Frame | None:
        raise NotImplementedError

    def _read_header(self, block: bytes) -> None:
        self._id, tag, self._length = _HEADER.unpack(block)
        if tag not in _TAGS:
            raise self._violation(f"the tag {tag} is unknown")
        self._tag = _TAGS[tag]

    def _violation(self, reason: str) -> ProtocolViolation:
        return ProtocolViolation(address=self._address, reason=reason)


class RequestDecoder(_Decoder):
    """A server's side: PieceRequest or Close, one after the other; `reset` between them."""

    def _step(self, block: bytes) -> Frame | None:
        if len(block) == HEADER_LENGTH:
            return self._after_header(block)
        task_id, number = block[:TASK_ID_LENGTH], _U32.unpack_from(block, TASK_ID_LENGTH)[0]
        if not task_id.isascii():
            raise self._violation("a task id is not ASCII")
        return PieceRequest(task_id.decode("ascii"), number, self._tag, self._id)

    def _after_header(self, block: bytes) -> Close | None:
        self._read_header(block)
        if self._tag is Tag.CLOSE and self._length == 0:
            return Close(self._id)
        if not self._tag.is_request or self._length != _REQUEST_VALUE:
            raise self._violation(f"a request of tag {self._tag.value} with {self._length} bytes")
        self._missing = _REQUEST_VALUE
        return None


class AnswerDecoder(_Decoder):
    """A client's side: ContentHead, Refusal or Close."""

    def reset(self) -> None:
        super().reset()
        self._step_now = self._after_header

    def _step(self, block: bytes) -> Frame | None:
        return self._step_now(block)

    def _after_header(self, block: bytes) -> Frame | None:
        self._read_header(block)
        if self._tag.is_content:
            self._missing, self._step_now = _U32.size, self._after_metadata_length
            return None
        if self._tag is Tag.CLOSE and self._length == 0:
            return Close(self._id)
        if self._tag is not Tag.ERROR or not 1 <= self._length <= MAX_VALUE:
            raise self._violation(f"an answer of tag {self._tag.value} with {self._length} bytes")
        self._missing, self._step_now = self._length, self._refusal
        return None

    def _after_metadata_length(self, block: bytes) -> Frame | None:
        (length,) = _U32.unpack(block)
        if not _FIXED_METADATA <= length <= MAX_VALUE:
            raise self._violation(f"metadata of {length} bytes")
        self._missing, self._step_now = length, self._content_head
        return None

    def _content_head(self, block: bytes) -> ContentHead:
        number, offset, length = _SPAN.unpack_from(block)
        digest, position = self._text(block, _SPAN.size)
        parent_id, position = self._text(block, position)
        if position + _TAIL.size != len(block) or len(digest) > MAX_DIGEST:
            raise self._violation("the metadata's lengths do not add up")
        traffic_type, cost, created_at = _TAIL.unpack_from(block, position)
        return ContentHead(
            number=number,
            offset=offset,
            length=length,
            digest=digest,
            parent_id=parent_id,
            traffic_type=traffic_type,
            cost=cost,
            created_at=created_at,
            tag=self._tag,
            id=self._id,
        )

    def _text(self, block: bytes, position: int) -> tuple[str, int]:
        """A counted text and the position behind it, which still leaves room for a count."""
        start = position + _U32.size
        end = start + int(_U32.unpack_from(block, position)[0])
        if end + _U32.size > len(block):
            raise self._violation("a text is longer than the metadata around it")
        try:
            return block[start:end].decode(), end
        except UnicodeDecodeError as error:
            raise self._violation("a text is not UTF-8") from error

    def _refusal(self, block: bytes) -> Refusal:
        return Refusal(_CODES.get(block[0], RefusalCode.UNKNOWN), block[1:].decode(errors="replace"), self._id)
