"""Whether a queue keeps events, and which catch-up scan it wants: modes and their changes. PURE.

    events      | no scan | one is wanted | one is under way | and another one will follow
    ------------|---------|---------------|------------------|----------------------------
    are kept    | CURRENT | WANTED        | SCANNING         | AGAIN
    are dropped |         | BEHIND        | SCANNING_BEHIND  | AGAIN_BEHIND

    FALL_BEHIND   one down; from CURRENT to BEHIND
    WANT          CURRENT to WANTED; a scan that is under way will be followed by another
    BEGIN         WANTED to SCANNING, BEHIND to SCANNING_BEHIND
    READ          one up
    END           SCANNING to CURRENT, AGAIN to WANTED; to BEHIND where events are dropped
    GIVE_UP       SCANNING and AGAIN to WANTED; to BEHIND where events are dropped

The scan here is the catch-up scan. A sweep reads batches and ends, too, and leaves a wanted
catch-up scan wanted.
Guarantees: while events are dropped, a scan is under way or wanted. What is not known at WANT (an
event was dropped, say) is found by a scan that begins later: until BEGIN, each mode wants one.
Fails: never.
"""

from __future__ import annotations

from enum import Enum


class Mode(Enum):
    """What a queue does with events, and which catch-up scan is under way or wanted."""

    CURRENT = (False, False, False)
    WANTED = (False, False, True)
    BEHIND = (True, False, True)
    SCANNING = (False, True, False)
    SCANNING_BEHIND = (True, True, False)
    AGAIN = (False, True, True)
    AGAIN_BEHIND = (True, True, True)

    def __init__(self, drops: bool, scanning: bool, wanted: bool) -> None:
        self.drops = drops  # events are dropped
        self.scanning = scanning  # a catch-up scan is under way
        self.wanted = wanted  # one is wanted that begins later


class Cause(Enum):
    """What changes the mode."""

    FALL_BEHIND = "from now on events are dropped: some were lost, or there is no room"
    WANT = "something is not known that only a scan that begins later finds"
    BEGIN = "the wanted scan begins"
    READ = "the next batch is about to be read: it finds what dropped events told of"
    END = "a scan is over"
    GIVE_UP = "a scan is given up"


# A mode that is not named stays as it is.
CHANGES: dict[Cause, dict[Mode, Mode]] = {
    Cause.FALL_BEHIND: {
        Mode.CURRENT: Mode.BEHIND,
        Mode.WANTED: Mode.BEHIND,
        Mode.SCANNING: Mode.SCANNING_BEHIND,
        Mode.AGAIN: Mode.AGAIN_BEHIND,
    },
    Cause.WANT: {
        Mode.CURRENT: Mode.WANTED,
        Mode.SCANNING: Mode.AGAIN,
        Mode.SCANNING_BEHIND: Mode.AGAIN_BEHIND,
    },
    Cause.BEGIN: {
        Mode.WANTED: Mode.SCANNING,
        Mode.BEHIND: Mode.SCANNING_BEHIND,
    },
    Cause.READ: {
        Mode.BEHIND: Mode.WANTED,
        Mode.SCANNING_BEHIND: Mode.SCANNING,
        Mode.AGAIN_BEHIND: Mode.AGAIN,
    },
    Cause.END: {
        Mode.SCANNING: Mode.CURRENT,
        Mode.SCANNING_BEHIND: Mode.BEHIND,
        Mode.AGAIN: Mode.WANTED,
        Mode.AGAIN_BEHIND: Mode.BEHIND,
    },
    Cause.GIVE_UP: {
        Mode.SCANNING: Mode.WANTED,
        Mode.SCANNING_BEHIND: Mode.BEHIND,
        Mode.AGAIN: Mode.WANTED,
        Mode.AGAIN_BEHIND: Mode.BEHIND,
    },
}


def after(mode: Mode, cause: Cause) -> Mode:
    """Return the mode after something happened."""
    return CHANGES[cause].get(mode, mode)
