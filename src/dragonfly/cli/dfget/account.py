"""What the daemon tells of one download, checked as it comes and once more at the end.

    Started (length, range; or is_open: nobody knows the length yet) -> PieceFinished … -> Started with the length, if
    it was open -> the stream ends

The output of a download with a range is that range's bytes, so its length is the range's.
"""

from typing import TYPE_CHECKING

from dragonfly.cli.dfget.wanted_range import WantedRange
from dragonfly.core.model.units import Bytes
from dragonfly.errors import InternalFailure

if TYPE_CHECKING:
    from dragonfly.cli.dfget.received import Received
    from dragonfly.wire.pb.common_pb2 import Piece
    from dragonfly.wire.pb.dfdaemon_pb2 import DownloadTaskResponse, DownloadTaskStartedResponse


class Account:
    """One download; `received` writes the content where the daemon sends it."""

    def __init__(self, wanted: WantedRange | None = None, received: "Received | None" = None) -> None:
        self.task_id = self.peer_id = ""
        self.length: Bytes | None = None  # of the output; None: not known yet
        self.is_finished_before = False  # the whole content was on this host already
        self._wanted, self._received = wanted, received
        self._has_begun = False

    def take(self, answer: "DownloadTaskResponse") -> "Piece | None":
        """One message; returns the piece that is here now, None where the message was a start.

        Raises InternalFailure for what no daemon should say, and what writing a piece raises.
        """
        self.task_id, self.peer_id = answer.task_id, answer.peer_id
        if answer.HasField("download_piece_finished_response"):
            piece = answer.download_piece_finished_response.piece
            if not self._has_begun:
                raise InternalFailure(reason="the daemon sent a piece of a download it had not begun")
            if self._received is not None:
                self._received.write(piece)
            return piece
        self._start(answer.download_task_started_response)
        return None

    def end(self) -> Bytes:
        """The output's length, once the daemon has said all. Raises what is missing."""
        if not self._has_begun:
            raise InternalFailure(reason="the daemon ended the download without having begun it")
        if self.length is None:
            raise InternalFailure(reason="the daemon ended the download without telling its length")
        if self._received is not None:
            self._received.check_whole(self.length)
        return self.length

    def _start(self, started: "DownloadTaskStartedResponse") -> None:
        self._has_begun = True
        self.is_finished_before = started.is_finished
        if started.HasField("range"):
            start, length = started.range.start, started.range.length
            self._check_range(start, length, started.content_length)
        else:
            start, length = (self._wanted.first if self._wanted else None) or 0, started.content_length
            if self._wanted is not None and not started.is_open:
                raise InternalFailure(reason="the daemon took no notice of --range")
        self.length = None if started.is_open else length
        if self._received is not None:
            self._received.begin(start, self.length, is_cut=self._wanted is not None or started.HasField("range"))

    def _check_range(self, start: Bytes, length: Bytes, content_length: Bytes) -> None:
        """The end of the file may cut a range short; nothing may move or lengthen it."""
        if self._wanted is None:
            if (start, length) != (0, content_length):
                raise InternalFailure(reason="the daemon sends a range that nobody asked for")
        elif not self._wanted.allows(start, length):
            raise InternalFailure(reason=f"the daemon sends another range than --range: {length} bytes from {start} on")
