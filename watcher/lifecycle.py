"""The life of an entry, as one table: PURE, no I/O, no clock.

    writer commits          claimed by one process
          |                        |
       ARRIVING --COMMIT--> READY --CLAIM--> CLAIMED --FINISH--> DONE (unlinked)
          |                   ^                |  |--RELEASE--> READY      (retry, busy, crash)
          |                   |                |  |--DEFER----> DEFERRED --FALL_DUE--> READY
       ABANDON             REUNITE             |  '--REJECT---> DEAD     --REQUEUE--> READY
          '----> ORPHAN ------'                '
       READY, DEFERRED --HOLD--> HELD --RELEASE--> READY      DEFERRED, ORPHAN --REQUEUE--> READY
       DEFERRED --ABANDON--> ORPHAN         HELD, DEAD, ORPHAN, DEFERRED --DELETE--> REMOVED

What it guarantees: a pair of state and move that is not in `TABLE` raises `IllegalMove`; nothing
that is not DONE by a handler's word or REMOVED by an operator's leaves the table's middle.
The words are those of the design, section 3, and no others.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from watcher.errors import IllegalMove


class State(enum.Enum):
    """Where an entry is; on disk, the directory its file lies in."""

    ARRIVING = "arriving"
    READY = "ready"
    CLAIMED = "claimed"
    DEFERRED = "deferred"
    HELD = "held"
    DEAD = "dead"
    ORPHAN = "orphan"
    DONE = "done"
    REMOVED = "removed"

    __hash__ = object.__hash__  # there is one of each; Enum's own is Python code, on the hot path


class Move(enum.Enum):
    """What takes an entry from one state to the next: one rename, one unlink, or one lock."""

    COMMIT = "commit"
    CLAIM = "claim"
    FINISH = "finish"
    RELEASE = "release"
    DEFER = "defer"
    FALL_DUE = "fall due"
    REJECT = "reject"
    ABANDON = "abandon"
    REUNITE = "reunite"
    HOLD = "hold"
    REQUEUE = "requeue"
    DELETE = "delete"

    __hash__ = object.__hash__


TABLE: dict[tuple[State, Move], State] = {
    (State.ARRIVING, Move.COMMIT): State.READY,
    (State.ARRIVING, Move.ABANDON): State.ORPHAN,
    (State.ORPHAN, Move.REUNITE): State.READY,
    (State.ORPHAN, Move.REQUEUE): State.READY,
    (State.ORPHAN, Move.DELETE): State.REMOVED,
    (State.READY, Move.CLAIM): State.CLAIMED,
    (State.READY, Move.HOLD): State.HELD,
    (State.CLAIMED, Move.FINISH): State.DONE,
    (State.CLAIMED, Move.RELEASE): State.READY,
    (State.CLAIMED, Move.DEFER): State.DEFERRED,
    (State.CLAIMED, Move.REJECT): State.DEAD,
    (State.DEFERRED, Move.FALL_DUE): State.READY,
    (State.DEFERRED, Move.HOLD): State.HELD,
    (State.DEFERRED, Move.REQUEUE): State.READY,
    (State.DEFERRED, Move.DELETE): State.REMOVED,
    (State.DEFERRED, Move.ABANDON): State.ORPHAN,
    (State.HELD, Move.RELEASE): State.READY,
    (State.HELD, Move.DELETE): State.REMOVED,
    (State.DEAD, Move.REQUEUE): State.READY,
    (State.DEAD, Move.DELETE): State.REMOVED,
}


def after(state: State, move: Move) -> State:
    """Return the state `move` leads to from `state`; raise IllegalMove where the table has none."""
    try:
        return TABLE[state, move]
    except KeyError:
        raise IllegalMove(f"an entry that is {state.value} cannot {move.value}") from None


class Transition(NamedTuple):
    """What listeners (log, status, demo) are told of one entry; never read back by a stage."""

    queue: str
    name: bytes
    move: Move
    state: State
    detail: str = ""
    seconds: float = 0.0
