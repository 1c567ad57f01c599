"""Does a queue's watch see? When to look, what was found, when to scan a blind queue. PURE.

The daemon renames a file of its own, the canary, where nothing else proves that events arrive, and
expects an event of it (`daemon.canary`).

    the kernel lists the watch | the canary's event | the queue
    ---------------------------|--------------------|----------
    yes, or it cannot be told  | came               | SEES
    yes, or it cannot be told  | did not come       | DEAF
    no                         | either             | UNWATCHED

Guarantees: what cannot be told makes no queue blind.
Fails: never.
"""

from __future__ import annotations

import enum
import math

SCAN_EVERY = 5.0  # seconds between two scans of a blind queue
ABOUT = 0.9  # part of the time between two looks: a sweep may come a little sooner
SHARE = 10  # a scan of a blind queue may take one part in so many of the time


class Sight(enum.Enum):
    """Whether the events of a queue arrive."""

    SEES = "sees"
    DEAF = "deaf"  # no event of this inotify instance reaches the process
    UNWATCHED = "unwatched"  # the kernel has no watch on the queue directory


def judge(*, watched: bool | None, deaf: bool) -> Sight:
    """Return what a look found; `watched` is None if the kernel does not tell."""
    if watched is False:
        return Sight.UNWATCHED
    return Sight.DEAF if deaf else Sight.SEES


def is_with_sweep(interval: float, sweep_every: float) -> bool:
    """Whether the sweeps come often enough for the looks: then no look wakes a thread."""
    return sweep_every <= interval


def is_due_with_sweep(now: float, last: float, interval: float, sweep_every: float) -> bool:
    """Whether a sweep that begins now is the nearest one to an interval after the last look."""
    return now - last >= interval - sweep_every / 2


def next_look(now: float, interval: float) -> float:
    """Return the moment of the next look: the same one for every queue with this interval."""
    return (now // interval + 1) * interval


def spacing(interval: float, sweep_every: float) -> float:
    """Return the seconds from one look at a queue to the next one."""
    if not is_with_sweep(interval, sweep_every):
        return interval
    return sweep_every * math.ceil((interval - sweep_every / 2) / sweep_every)


def is_silent(now: float, heard_at: float, spaced: float) -> bool:
    """Whether no event came since about the last look at this queue: then a canary is needed.

    A canary that the look at another queue sent meanwhile is such an event, too.
    """
    return now - heard_at >= ABOUT * spaced


def scan_gap(cost: float, interval: float, sweep_every: float) -> float:
    """Return the seconds between two scans of a blind queue whose last scan took `cost` seconds.

    A large directory is scanned less often, but never less often than it is swept.
    """
    return min(sweep_every, max(min(SCAN_EVERY, interval), SHARE * cost))
