"""Dates are read as people write them, in UTC, and nothing else is taken for one."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given, strategies as st

from watcher.rules.dates import Period, parse, show, start_of

NOW = dt.datetime(2026, 11, 27, 21, 45, 30, tzinfo=dt.UTC).timestamp()
READ = [
    ("2026-11-01", "2026-11-01T00:00:00+00:00"),
    ("2026-11-01T03:00", "2026-11-01T03:00:00+00:00"),
    ("2026-11-01 03:00:01.5", "2026-11-01T03:00:01.500000+00:00"),
    ("2026-11-01T03:00+01:00", "2026-11-01T02:00:00+00:00"),
    ("today", "2026-11-27T00:00:00+00:00"),
    (" yesterday\n", "2026-11-26T00:00:00+00:00"),
    ("now", "2026-11-27T21:45:30+00:00"),
    ("7d", "2026-11-20T21:45:30+00:00"),
    ("1h30m", "2026-11-27T20:15:30+00:00"),
]


@pytest.mark.parametrize(("text", "moment"), READ)
def test_what_people_write_is_read(text, moment):
    assert parse(text, NOW) == dt.datetime.fromisoformat(moment).timestamp()


WRONG = [
    "",
    "20261101",
    "2026",
    "2026-W44",
    "2026-11",
    "1.11.2026",
    "2026-13-01",
    "tomorrow",
    "-7d",
]


@pytest.mark.parametrize("text", [*WRONG, "-7d", "2026-11-01T25:00", "1969-12-31"])
def test_anything_else_is_refused_and_the_text_says_what_was_expected(text):
    with pytest.raises(ValueError, match=r"^expected a date like 2026-11-01"):
        parse(text, NOW)


@given(st.text())
def test_no_text_does_anything_but_read_or_raise_value_error(text):
    try:
        parse(text, NOW)
    except ValueError:
        return


@pytest.mark.parametrize(
    ("period", "name"),
    [
        (Period.HOUR, "2026-11-27 21:00"),
        (Period.DAY, "2026-11-27"),
        (Period.WEEK, "2026-11-23"),
        (Period.MONTH, "2026-11"),
    ],
)
def test_a_period_is_named_after_its_beginning(period, name):
    assert show(period, start_of(period, NOW)) == name
