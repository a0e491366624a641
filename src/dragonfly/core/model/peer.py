"""One host's part in one task, and the states it goes through.

              register            started                 finished
    PENDING ───────────► RECEIVED ───────► RUNNING ──────────────────► SUCCEEDED
                            │                 │                           ▲
                            └──────┬──────────┘                           │
                                   ▼ back to source started               │ finished
                             BACK_TO_SOURCE ──────────────────────────────┘

    any of these ── failed ──► FAILED          every state ── left ──► LEFT

RECEIVED has a twin RECEIVED_EMPTY for tasks without a byte. The table below is the truth, the picture its summary; the
scheduler moves a peer only along it, and a message the table does not know in a state leaves the state as it is.
"""

from enum import StrEnum


class PeerState(StrEnum):
    """The texts are the reference's, seen in StatPeer."""

    PENDING = "Pending"
    RECEIVED_EMPTY = "ReceivedEmpty"
    RECEIVED_NORMAL = "ReceivedNormal"
    RUNNING = "Running"
    BACK_TO_SOURCE = "BackToSource"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    LEFT = "Leave"


class PeerStep(StrEnum):
    """What can happen to a peer."""

    REGISTER_EMPTY = "RegisterEmpty"
    REGISTER_NORMAL = "RegisterNormal"
    DOWNLOAD = "Download"
    DOWNLOAD_BACK_TO_SOURCE = "DownloadBackToSource"
    SUCCEED = "DownloadSucceeded"
    FAIL = "DownloadFailed"
    LEAVE = "Leave"


_P, _E, _N = PeerState.PENDING, PeerState.RECEIVED_EMPTY, PeerState.RECEIVED_NORMAL
_R, _B, _S, _F = PeerState.RUNNING, PeerState.BACK_TO_SOURCE, PeerState.SUCCEEDED, PeerState.FAILED

PEER_TRANSITIONS: dict[tuple[PeerState, PeerStep], PeerState] = {
    (_P, PeerStep.REGISTER_EMPTY): _E,
    (_P, PeerStep.REGISTER_NORMAL): _N,
    **{(state, PeerStep.DOWNLOAD): _R for state in (_E, _N)},
    **{(state, PeerStep.DOWNLOAD_BACK_TO_SOURCE): _B for state in (_E, _N, _R)},
    **{(state, PeerStep.SUCCEED): _S for state in (_E, _N, _R, _B)},
    **{(state, PeerStep.FAIL): _F for state in (_P, _E, _N, _R, _B, _S)},
    **{(state, PeerStep.LEAVE): PeerState.LEFT for state in (_P, _E, _N, _R, _B, _S, _F)},
}

HOLDS_OR_FETCHES = frozenset({_R, _B, _S})  # a peer in these states has pieces or will have some


def next_peer_state(state: PeerState, step: PeerStep) -> PeerState | None:
    """The state after `step`; None where the table has no such move."""
    return PEER_TRANSITIONS.get((state, step))
