"""Dates as people write them: 2026-11-01, 2026-11-01T03:00, yesterday, or 7d (so long ago). PURE.

A date alone is the beginning of that day. A time without an offset is in UTC, as every time that
the commands show.
Fails: ValueError that says what was expected.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import enum
import re

from watcher import durations

EXPECTED = (
    "a date like 2026-11-01 or 2026-11-01T03:00 (UTC), today, yesterday, or a duration like 7d for"
    " so long ago"
)
_DAYS_AGO = {"today": 0, "yesterday": 1}
_EPOCH = dt.datetime.fromtimestamp(0, dt.UTC)
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


class Period(enum.Enum):
    """The length of the periods that a report is divided into."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


def parse(text: str, now: float) -> float:
    """Return the moment in seconds since the epoch; the ValueError says what was expected."""
    text = text.strip()
    if text == "now":
        return now
    if text in _DAYS_AGO:
        today = start_of(Period.DAY, now)
        return (today - dt.timedelta(days=_DAYS_AGO[text])).timestamp()
    with contextlib.suppress(ValueError):
        if not text.isdigit():  # 20261101 would be so many seconds
            return now - durations.parse(text)
    with contextlib.suppress(ValueError, OverflowError):
        found = dt.datetime.fromisoformat(text)
        found = found if found.tzinfo else found.replace(tzinfo=dt.UTC)
        if _DATE.match(text) and found >= _EPOCH:  # 20261101 and 2026-W44 are mistyped easily
            return found.timestamp()
    raise ValueError(f"expected {EXPECTED}; got {text!r}")


def start_of(period: Period, seconds: float) -> dt.datetime:
    """Return when the period begins that a moment is in, in UTC; a week begins on Monday."""
    moment = dt.datetime.fromtimestamp(seconds, dt.UTC).replace(minute=0, second=0, microsecond=0)
    match period:
        case Period.HOUR:
            return moment
        case Period.DAY:
            return moment.replace(hour=0)
        case Period.WEEK:
            return moment.replace(hour=0) - dt.timedelta(days=moment.weekday())
        case Period.MONTH:
            return moment.replace(day=1, hour=0)


def show(period: Period, start: dt.datetime) -> str:
    """Return the name of a period: 2026-11-01 03:00, 2026-11-01, 2026-11."""
    match period:
        case Period.HOUR:
            return start.strftime("%Y-%m-%d %H:%M")
        case Period.DAY | Period.WEEK:
            return start.strftime("%Y-%m-%d")
        case Period.MONTH:
            return start.strftime("%Y-%m")
