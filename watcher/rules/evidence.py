"""Is this entry complete, and what to do with it now? PURE: docs/design.md, "Evidence".

| shape | found by             | writer  | finish     | settle | age       | decision |
|-------|----------------------|---------|------------|--------|-----------|----------|
| any   | anything             | some    | any        | any    | any       | leave    |
| whole | its rename           | not some| any        | any    | any       | take     |
| whole | its link             | none    | any        | any    | any       | take     |
| whole | catch-up scan        | none    | committed  | any    | any       | take     |
| whole | catch-up scan        | none    | moved      | off    | any       | take     |
| whole | catch-up scan        | none    | at once    | off    | >= quiet  | take     |
| whole | anything             | none    | any        | set    | >= settle | take     |
| whole | anything             | unknown | any        | set    | >= both   | take     |
| whole | anything             | not some| any        | off    | >= grace  | take     |
| pair  | both halves' closing | none    | any        | any    | any       | take     |
| pair  | anything             | not some| any        | any    | >= grace  | take     |
| half  | anything             | not some| any        | any    | >= grace  | orphan   |
| any   | anything             | any     | any        | any    | any       | wait     |

The first row that fits decides. A file with a writer is left alone at any age: the writer may be
slow. An orphan goes to orphans/, and is never deleted. A pair is as old as its younger half. A
lease that cannot be had (another's file without CAP_LEASE, a file system without leases) makes the
writer unknown, and then the grace age decides, unless the rename was seen. `finish` is what is
known of its writer's last step (`Finish`): a scan cannot see whether a file was renamed in. Quiet
is 10 seconds, never longer than the grace age.

With the option `settle` (raw format) a whole file is complete when it was closed and unchanged for
that long; the daemon begins the time anew at each close. The times of the file then say nothing of
its last step: its writers write in place, and may set them at any moment. Where the writer is
unknown, it waits for `settle` and for the grace age (`both`).

A *link* is IN_CREATE of a file that had its contents already (`came_by_link`). A program that opens
a new file for writing causes IN_CREATE too, and IN_CLOSE_WRITE under the same name at its last
close. The kernel queues the close before it counts the writer out. So if a read lease is granted,
and no close is among the events that were queued by then, no process wrote to the file under this
name. The size matters because open(2) causes IN_CREATE before it counts the new writer: for an
instant a new file has no writer, but then it is empty.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

QUIET = 10.0  # seconds: a scanner that reopens its file between two pages does so sooner
# Nanoseconds between two moments of one tick. The kernel stamps files by a clock that moves at
# each tick: every 10 ms with CONFIG_HZ=100, which is the longest there is. What is written in no
# time may begin in one tick and end in the next; and slewing (adjtime) stretches a tick a little.
TICK = 12_000_000


class Proof(enum.IntEnum):
    """What is known of the end of an entry's writing, the stronger proof the higher.

    It is a rank, and says nothing of the origin: an event that proves nothing ranks with a sweep.
    """

    NONE = 0  # found by a sweep or a timer, or by an event that proves nothing
    NO_WRITER = 1  # found by the scan after start, overflow or a re-armed watch
    CLOSED = 2  # events told that both halves of a pair were closed or renamed in
    LINKED = 3  # IN_CREATE, and no IN_CLOSE_WRITE under the name since (`came_by_link`)
    RENAMED = 4  # IN_MOVED_TO


class Writer(enum.Enum):
    """Whether a process has the file open for writing, by read lease (fcntl(2), F_SETLEASE)."""

    NONE = "none"
    SOME = "open for writing"
    UNKNOWN = "unknown"


class Finish(enum.Enum):
    """What is known of the last step of a file's writer, when only a scan found the file."""

    COMMITTED = "every writer of such names renames"  # Mailman's; writers = "rename"
    MOVED = "renamed, linked or finished since it was last written to"
    AT_ONCE = "made and written to within one tick of the clock"
    OVER_TIME = "written to over some time"


class Shape(enum.Enum):
    """What is there of the entry."""

    WHOLE = "whole"
    PAIR = "pair"
    HALF = "half"
    __hash__ = object.__hash__  # there is one of each; Enum's own is Python code, on the hot path


class Action(enum.Enum):
    """What to do with an entry now."""

    TAKE = "take"
    WAIT = "wait"
    LEAVE = "leave"
    ORPHAN = "orphan"


class AgeLimits(NamedTuple):
    """How old a file must be, in seconds, where its age decides."""

    grace: float
    settle: float = 0.0  # 0: the option is off


class Decision(NamedTuple):
    """What to do, how many seconds to wait where it is WAIT, and why, for people."""

    action: Action
    wait: float
    why: str


_NO_WRITER = "no process has it open for writing"
_LEAVE = Decision(Action.LEAVE, 0.0, "a process has it open for writing")
_TAKE_RENAMED = Decision(Action.TAKE, 0.0, "its writer renamed it into place")
_TAKE_LINKED = Decision(
    Action.TAKE, 0.0, f"linked into place: no writer closed it here, {_NO_WRITER}"
)
_TAKE_WHOLE = Decision(Action.TAKE, 0.0, _NO_WRITER)
_TAKE_MOVED = Decision(Action.TAKE, 0.0, f"{Finish.MOVED.value}, {_NO_WRITER}")
_TAKE_PAIR = Decision(Action.TAKE, 0.0, "both halves are closed, and no process writes to them")


def finish_of(birth_ns: int | None, mtime_ns: int, ctime_ns: int) -> Finish:
    """Return what the times of a file that any program may have written tell of its last step.

    A write sets mtime and ctime to one moment; a rename, a link, a new owner or mode and a time set
    by hand move the ctime alone. A file renamed within the tick of its last write looks like one
    that was written in place at once: nothing tells these two apart. Where the file system keeps no
    birth time (`None`) neither is told from a file that is still written to now and then.
    """
    if ctime_ns > mtime_ns:
        return Finish.MOVED
    if birth_ns is not None:
        moments = (birth_ns, mtime_ns, ctime_ns)
        if max(moments) - min(moments) <= TICK:
            return Finish.AT_ONCE
    return Finish.OVER_TIME


def came_by_link(size: int, closed: bool | None) -> Proof:
    """Return what IN_CREATE proves of a file without a writer.

    `closed` is whether IN_CLOSE_WRITE of its name followed, as far as the events tell that were
    queued when the lease was granted; None if events were lost since.

    | size | closed | proof     |
    |------|--------|-----------|
    | 0    | any    | NONE      |
    | > 0  | yes    | NONE      |
    | > 0  | lost   | NO_WRITER |
    | > 0  | no     | LINKED    |
    """
    if size == 0 or closed:
        return Proof.NONE
    return Proof.NO_WRITER if closed is None else Proof.LINKED


def at_any_age(
    shape: Shape, proof: Proof, writer: Writer, finish: Finish = Finish.COMMITTED
) -> Decision | None:
    """Rule where the age does not matter; None where it does."""
    if writer is Writer.SOME:
        return _LEAVE
    if shape is Shape.WHOLE:
        if proof is Proof.RENAMED:
            return _TAKE_RENAMED
        if proof is Proof.LINKED and writer is Writer.NONE:
            return _TAKE_LINKED
        if proof is Proof.NO_WRITER and writer is Writer.NONE:
            return _after_last_step(finish)
    elif shape is Shape.PAIR and proof is Proof.CLOSED and writer is Writer.NONE:
        return _TAKE_PAIR
    return None


def _after_last_step(finish: Finish) -> Decision | None:
    """Decide on a whole entry without a writer, found by a catch-up scan."""
    match finish:
        case Finish.COMMITTED:
            return _TAKE_WHOLE
        case Finish.MOVED:
            return _TAKE_MOVED
        case Finish.AT_ONCE | Finish.OVER_TIME:
            return None


def rule(
    shape: Shape,
    proof: Proof,
    writer: Writer,
    age: float,
    limits: AgeLimits,
    finish: Finish = Finish.COMMITTED,
) -> Decision:
    """Rule on one entry. `age` in seconds; a pair's age is its younger half's."""
    if limits.settle and finish is not Finish.COMMITTED:
        finish = Finish.OVER_TIME
    if (ruling := at_any_age(shape, proof, writer, finish)) is not None:
        return ruling
    known = _NO_WRITER if writer is Writer.NONE else "the kernel grants no lease"
    limit, name = _limit(shape, proof, writer, finish, limits)
    if age < limit:
        return Decision(Action.WAIT, limit - age, _WAITS[name])
    if shape is Shape.HALF:
        return Decision(Action.ORPHAN, 0.0, f"half of a pair, past the grace age, {known}")
    past = {"settle": f"closed and unchanged for {limit:g} s", "quiet": f"quiet for {limit:g} s"}
    return Decision(Action.TAKE, 0.0, f"{past.get(name, 'past the grace age')}, {known}")


def _limit(
    shape: Shape, proof: Proof, writer: Writer, finish: Finish, limits: AgeLimits
) -> tuple[float, str]:
    """Return how old a file without a writer must be, and by which of the limits."""
    grace, settle = limits
    if shape is not Shape.WHOLE:
        return grace, "half" if shape is Shape.HALF else "grace"
    if settle:
        if writer is Writer.NONE or settle > grace:
            return settle, "settle"
    elif (proof, writer, finish) == (Proof.NO_WRITER, Writer.NONE, Finish.AT_ONCE):
        return min((QUIET, "quiet"), (grace, "grace"))
    return grace, "grace"


_WAITS = {
    "settle": "closed or changed a moment ago",
    "quiet": f"{Finish.AT_ONCE.value}, by a rename or in place",
    "grace": "younger than the grace age",
    "half": "half of a pair, younger than the grace age",
}
