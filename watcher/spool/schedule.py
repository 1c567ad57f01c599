"""The stamp: when a deferred entry falls due, and what it has been through, in its file's name.

    20261123T105313.250Z-a3-c0-d30-w95.5-NAME.pck

Everything that scheduling needs is in the name of the one file that moves, so one rename sets it
and no crash tears it; names sort in the order of falling due (docs/spool-format.md). PURE.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import NamedTuple

from watcher.spool.layout import NAME_MAX

_STAMP = re.compile(
    rb"([0-9]{4})([0-9]{2})([0-9]{2})T([0-9]{2})([0-9]{2})([0-9]{2})\.([0-9]{3})Z-a([0-9]{1,9})-c([0-9]{1,9})"
    rb"-d([0-9]{1,10}(?:\.[0-9]{1,3})?)-w([0-9]{1,10}(?:\.[0-9]{1,3})?)-(.+)",
    re.DOTALL,
)
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MILLISECOND = dt.timedelta(milliseconds=1)
_LATEST_MS = 253_402_300_799_999  # the end of the year 9999
_LONGEST = 9_999_999_999.0  # seconds
_MOST = 999_999_999


class Schedule(NamedTuple):
    """What a stamp says."""

    due_ms: int  # milliseconds since the epoch
    attempts: int = 0  # that failed, crashes included
    crashes: int = 0  # attempts that ended with the death of the process that made them
    delay: float = 0.0  # seconds: what the entry was to wait when it was stamped
    waited: float = 0.0  # seconds since the first failure, as they were lived through


def stamped(schedule: Schedule, stem: bytes, suffix: bytes) -> bytes:
    """Return the name of a deferred entry's file; a stem that is too long is cut."""
    stamp = _stamp(schedule)
    room = NAME_MAX - len(stamp) - max(len(suffix), len(b"..json"))
    return stamp + stem[:room] + suffix


def fits(schedule: Schedule, stem: bytes, suffix: bytes) -> bool:
    """Whether the whole stem is in the name."""
    return stamped(schedule, stem, suffix).endswith(stem + suffix)


def parse(name: bytes) -> tuple[Schedule, bytes] | None:
    """Return what the stamp says, and the file's own name; None when there is no stamp."""
    found = _STAMP.fullmatch(name)
    if found is None:
        return None
    year, month, day, hour, minute, second, milliseconds = map(int, found.groups()[:7])
    try:
        due = dt.datetime(year, month, day, hour, minute, second, tzinfo=dt.UTC)
    except ValueError:  # the 31st of February
        return None
    due_ms = (due - _EPOCH) // _MILLISECOND + milliseconds
    schedule = Schedule(due_ms, int(found[8]), int(found[9]), float(found[10]), float(found[11]))
    return schedule, found[12]


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
