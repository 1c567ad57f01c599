"""Is this entry complete? Given what was seen, what now? PURE: the table of design section 5.

| shape | what drew our eye    | writer  | age        | ruling                                  |
|-------|----------------------|---------|------------|-----------------------------------------|
| whole | its rename           | any     | any        | take: the writer renamed it             |
| whole | catch-up scan        | none    | any        | take: nobody has it open for writing    |
| whole | catch-up scan        | unknown | >= grace   | take                                    |
| whole | sweep, a hint        | not some| >= grace   | take                                    |
| pair  | both halves' closing | none    | any        | take                                    |
| pair  | anything else        | not some| >= grace   | take (the younger half's age)           |
| half  | anything             | not some| >= grace   | orphan: to orphans/, never deleted      |
| any   | anything             | some    | any        | leave: a slow writer is not a dead one  |
| any   | anything else        |         | < grace    | wait until it is of age                 |

A lease that cannot be had (another's file without CAP_LEASE, a file system without leases) makes
the writer unknown, and then the grace age decides.
"""

from __future__ import annotations

import enum
from typing import NamedTuple


class How(enum.IntEnum):
    """What drew our eye to an entry, the stronger proof the higher."""

    SWEEP = 0  # a sweep, a timer, or a hint that proves nothing
    CATCH_UP = 1  # the scan after start, overflow, or a re-armed watch
    CLOSED = 2  # both halves of a pair were seen closed or renamed in
    RENAMED = 3  # IN_MOVED_TO


class Writer(enum.Enum):
    """Whether a process has the file open for writing, by read lease (fcntl(2), F_SETLEASE)."""

    NONE = "none"
    SOME = "open for writing"
    UNKNOWN = "unknown"


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


class Ruling(NamedTuple):
    """What to do, how many seconds to wait where it is WAIT, and why, for people."""

    action: Action
    wait: float
    why: str


TAKE_RENAMED = Ruling(Action.TAKE, 0.0, "its writer renamed it into place")
_TAKE_WHOLE = Ruling(Action.TAKE, 0.0, "nobody has it open for writing")
_TAKE_PAIR = Ruling(Action.TAKE, 0.0, "both halves are closed, and nobody writes to them")
_PROVEN = {(Shape.WHOLE, How.CATCH_UP): _TAKE_WHOLE, (Shape.PAIR, How.CLOSED): _TAKE_PAIR}


def at_any_age(shape: Shape, how: How, writer: Writer) -> Ruling | None:
    """Rule where the age does not matter; None where it does."""
    if writer is Writer.NONE and (proven := _PROVEN.get((shape, how))) is not None:
        return proven
    if shape is Shape.WHOLE and how is How.RENAMED:
        return TAKE_RENAMED
    if writer is Writer.SOME:
        return Ruling(Action.LEAVE, 0.0, "a process has it open for writing")
    return None


def rule(shape: Shape, how: How, writer: Writer, age: float, grace: float) -> Ruling:
    """Rule on one entry. `age` and `grace` in seconds; a pair's age is its younger half's."""
    if (ruling := at_any_age(shape, how, writer)) is not None:
        return ruling
    if age >= grace:
        known = "nobody has it open for writing" if writer is Writer.NONE else "no lease to be had"
        if shape is Shape.HALF:
            return Ruling(Action.ORPHAN, 0.0, f"half of a pair, past the grace age, {known}")
        return Ruling(Action.TAKE, 0.0, f"past the grace age, {known}")
    what = "half of a pair, " if shape is Shape.HALF else ""
    return Ruling(Action.WAIT, grace - age, f"{what}younger than the grace age")
