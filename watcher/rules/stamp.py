"""The stamp in a deferred entry's file name: when it is due, and its earlier attempts. PURE.

    20261123T105313.250Z-a3-c0-d30-w95.5-NAME.pck
    20261123T105313.250Z-a3-c0-d30-w95.5-k18ca3b5f6d2e1a07-NAME.pck     if NAME may be used again

Everything that scheduling needs is in the name of the file that moves, so one rename sets it and
no crash can leave half of it. Names sort by due time. The format is in docs/spool-format.md.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import NamedTuple

from watcher.rules.names import NAME_MAX

_STAMP = re.compile(
    rb"([0-9]{4})([0-9]{2})([0-9]{2})T([0-9]{2})([0-9]{2})([0-9]{2})\.([0-9]{3})Z-a([0-9]{1,9})-c([0-9]{1,9})"
    rb"-d([0-9]{1,10}(?:\.[0-9]{1,3})?)-w([0-9]{1,10}(?:\.[0-9]{1,3})?)-(?:k([0-9a-f]{16})-)?(.+)",
    re.DOTALL,
)
_LIKE_IDENTITY = re.compile(rb"k[0-9a-f]{16}-", re.DOTALL)
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MILLISECOND = dt.timedelta(milliseconds=1)
_LATEST_MS = 253_402_300_799_999  # the end of the year 9999
_LONGEST = 9_999_999_999.0  # seconds
_MOST = 999_999_999


class Schedule(NamedTuple):
    """The contents of a stamp."""

    due_ms: int  # milliseconds since the epoch
    attempts: int = 0  # failed attempts, crashes included
    crashes: int = 0  # attempts during which the worker's process died
    delay: float = 0.0  # seconds from stamping to the due time
    waited: float = 0.0  # seconds since the first failure: delays and attempts, added up
    identity: int = 0  # of the commit (`Entry.identity`); 0: not known


def stamped(schedule: Schedule, stem: bytes, suffix: bytes) -> bytes:
    """Return the name of a deferred entry's file. A stem that is too long is cut."""
    stamp = _stamp(schedule)
    if schedule.identity or _LIKE_IDENTITY.match(stem + suffix):
        stamp += b"k%016x-" % schedule.identity
    room = NAME_MAX - len(stamp) - max(len(suffix), len(b"..json"))
    return stamp + stem[:room] + suffix


def without_stamps(name: bytes) -> bytes:
    """Return a file's name without any stamp."""
    while found := parse(name):
        name = found[1]
    return name


def beside(schedule: Schedule, number: int) -> Schedule:
    """Return the `number`th schedule to try if a namesake has the same stamp.

    Each is due a millisecond later than the one before. After the latest time that a stamp can
    hold, they continue before the first one. No two are the same.
    """
    first = min(max(0, schedule.due_ms), _LATEST_MS)
    later = first + number
    return schedule._replace(due_ms=later if later <= _LATEST_MS else _LATEST_MS - number)


def fits(schedule: Schedule, stem: bytes, suffix: bytes) -> bool:
    """Whether the whole stem is in the name."""
    return stamped(schedule, stem, suffix).endswith(stem + suffix)


def parse(name: bytes) -> tuple[Schedule, bytes] | None:
    """Return the schedule and the file's own name; None if the name has no stamp."""
    found = _STAMP.fullmatch(name)
    if found is None:
        return None
    year, month, day, hour, minute, second, milliseconds = map(int, found.groups()[:7])
    try:
        due = dt.datetime(year, month, day, hour, minute, second, tzinfo=dt.UTC)
    except ValueError:  # the 31st of February
        return None
    due_ms = (due - _EPOCH) // _MILLISECOND + milliseconds
    schedule = Schedule(
        due_ms,
        int(found[8]),
        int(found[9]),
        float(found[10]),
        float(found[11]),
        int(found[12] or b"0", 16),
    )
    return schedule, found[13]


def overdue(schedule: Schedule, now_ms: int) -> bool:
    """Whether an entry is due by the wall clock, which is all that a single sweep knows.

    If the due time is further ahead than the entry's delay, the clock was set back after the entry
    was stamped: the entry is due.
    """
    return not now_ms < schedule.due_ms <= now_ms + schedule.delay * 1000 + 1


def _stamp(schedule: Schedule) -> bytes:
    due_ms = min(max(0, schedule.due_ms), _LATEST_MS)
    due = _EPOCH + due_ms * _MILLISECOND
    moment = due.strftime("%Y%m%dT%H%M%S.") + f"{due_ms % 1000:03d}"
    attempts, crashes = min(schedule.attempts, _MOST), min(schedule.crashes, _MOST)
    delay, waited = _seconds(schedule.delay), _seconds(schedule.waited)
    return f"{moment}Z-a{attempts}-c{crashes}-d{delay}-w{waited}-".encode()


def _seconds(seconds: float) -> str:
    text = f"{min(max(0.0, seconds), _LONGEST):.3f}"
    return text.rstrip("0").rstrip(".")
