"""The life of an entry, as one table: PURE, no I/O, no clock.

    writer commits          claimed by one process
          |                        |
       ARRIVING --COMMIT--> READY --CLAIM--> CLAIMED --FINISH--> DONE (unlinked)
          |                   ^                |  |--RELEASE--> READY      (retry, busy, crash)
          |                   |                |  |--DEFER----> DEFERRED --FALL_DUE--> READY
       ABANDON             REUNITE             |  '--REJECT---> DEAD     --REQUEUE--> READY
          '----> ORPHAN ------'                '
       READY, DEFERRED --HOLD--> HELD --RELEASE--> READY      DEFERRED, ORPHAN --REQUEUE--> READY
       DONE --REQUEUE--> READY   (only if its files are in an archive)
       DEFERRED --ABANDON--> ORPHAN         HELD, DEAD, ORPHAN, DEFERRED --DELETE--> REMOVED

Guarantees: a pair of state and move that is not in `TABLE` raises `IllegalMove`. An entry ends only
in DONE, after its handler reported success, or in REMOVED, by an operator; from DONE an operator
may bring it back.
The words are those of docs/design.md, "Life cycle".
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from watcher.errors import IllegalMove
from watcher.rules.delays import Delays


class State(enum.Enum):
    """Where an entry is; on disk, the directory of its file."""

    ARRIVING = "arriving"
    READY = "ready"
    CLAIMED = "claimed"
    DEFERRED = "deferred"
    HELD = "held"
    DEAD = "dead"
    ORPHAN = "orphan"
    DONE = "done"
    REMOVED = "removed"

    __hash__ = object.__hash__  # Enum's own is Python code, and this is on the hot path


class Move(enum.Enum):
    """The step from one state to the next: one rename, one unlink, or one lock."""

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
    (State.DONE, Move.REQUEUE): State.READY,
}


def after(state: State, move: Move) -> State:
    """Return the state after `move`; raise IllegalMove if the table has no such step."""
    try:
        return TABLE[state, move]
    except KeyError:
        raise IllegalMove(f"an entry that is {state.value} cannot {move.value}") from None


def state_word(state: State) -> str:
    """Return the word for a state where entries are named: a done one is so in an archive alone."""
    return "archived" if state is State.DONE else state.value


class Transition(NamedTuple):
    """One move of one entry, for the log, the status and the demo; no stage reads it back."""

    queue: str
    name: bytes
    move: Move
    state: State
    detail: str = ""
    seconds: float = 0.0  # how long the handler took
    delays: Delays | None = None  # of an attempt that ended
    attempt: int = 0  # which one it was; 0: none was made
    next_try: float | None = None  # seconds since the epoch; of a DEFER after a failed attempt
    key: str = ""  # the entry's, if it was computed
    process: int | None = None  # the handler's command or worker process
    printed: tuple[str, str] | None = None  # what it wrote to standard output and standard error
    place: str = ""  # where a REJECT put it; "": in dead/
