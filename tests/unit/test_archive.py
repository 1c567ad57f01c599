"""The names and ages of an archive, as tables."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given, strategies as st

from watcher.rules.age import SECOND
from watcher.rules.archived_names import (
    DAY,
    ArchiveOptions,
    archived_name,
    day_begin,
    day_name,
    is_expired,
    queue_name,
    target_options,
)

NAMES = {
    (b"report.csv", 0): b"report.csv",
    (b"report.csv", 1): b"report~1.csv",
    (b"report.csv", 12): b"report~12.csv",
    (b"report", 1): b"report~1",
    (b"a.tar.gz", 1): b"a.tar~1.gz",
    (b"x." + b"y" * 40, 1): b"x." + b"y" * 40 + b"~1",
    (b"-rf", 2): b"-rf~2",
    (b"\xff\n.csv", 1): b"\xff\n~1.csv",
    (b"n" * 255, 0): b"n" * 255,
    (b"n" * 255, 1): b"n" * 253 + b"~1",
    (b"n" * 251 + b".csv", 3): b"n" * 249 + b"~3.csv",
}


@pytest.mark.parametrize(("name", "number"), NAMES, ids=lambda value: ascii(value)[:12])
def test_a_number_comes_before_the_ending_and_the_name_stays_within_its_length(name, number):
    assert archived_name(name, number) == NAMES[name, number]


file_names = st.binary(min_size=1, max_size=255).filter(
    lambda name: b"/" not in name and b"\0" not in name
)


@given(file_names, st.integers(0, 10**8), st.integers(0, 10**8))
def test_no_two_numbers_of_a_name_give_the_same_name(name, one, other):
    assert len(archived_name(name, one)) <= 255
    assert (archived_name(name, one) == archived_name(name, other)) is (one == other)


ARCHIVE = ArchiveOptions(b"archive")
FILES = {
    (b"report.csv", 0): b"report.csv",
    (b"report.csv", 2): b"report~2.csv",
    (b"report~2.csv", 0): b"report~2~0.csv",  # else it would be the second report.csv
    (b"report~2.csv", 1): b"report~2~1.csv",
    (b"report~02.csv", 0): b"report~02.csv",  # no number that is ever given
    (b"PROGRA~1", 0): b"PROGRA~1~0",
    (b"a.b~1", 0): b"a.b~1",
}


@pytest.mark.parametrize(("name", "number"), FILES, ids=lambda value: ascii(value)[:12])
def test_an_archive_keeps_which_name_an_entry_had(name, number):
    assert ARCHIVE.file_name(name, number) == FILES[name, number]
    assert queue_name(FILES[name, number]) == name
    assert target_options(b"/t").file_name(name, 0) == name, "files for others keep their name"


numbered = st.text("a~01.", min_size=1, max_size=255).map(str.encode)


@given(file_names | numbered, st.integers(0, 10**8))
def test_every_name_is_found_again_unless_it_was_cut(name, number):
    file = ARCHIVE.file_name(name, number)
    assert len(file) <= 255
    assert queue_name(file) == name or (queue_name(file) is None and len(file) == 255)


DAYS = {
    0: b"1970-01-01",
    DAY - 1: b"1970-01-01",
    DAY: b"1970-01-02",
    -1: b"1969-12-31",
    1_795_801_876 * SECOND: b"2026-11-27",
}


@pytest.mark.parametrize("moment", DAYS)
def test_a_days_folder_is_that_of_the_day_in_utc(moment):
    assert day_name(moment) == DAYS[moment]
    begin = day_begin(DAYS[moment])
    assert begin is not None
    assert begin <= moment < begin + DAY


@given(st.dates())
def test_each_day_begins_at_its_midnight(day):
    assert day_begin(day.isoformat().encode()) == (day - dt.date(1970, 1, 1)).days * DAY


@pytest.mark.parametrize(
    "name",
    [b"", b"2026-13-01", b"2026-02-30", b"2026-1-1", b"20261127", b"2026-11-27x", b"\xb2" * 4],
)
def test_any_other_name_is_no_day(name):
    assert day_begin(name) is None


LIMIT, NOW, TODAY = 30 * DAY, 1000 * DAY + 5, 1000 * DAY
EXPIRED = [  # ctime, the day of its folder, whether it is older than the limit
    (NOW - LIMIT, None, False),
    (NOW - LIMIT - 1, None, True),
    (NOW + DAY, None, False),  # from the future
    (TODAY - LIMIT - 1, TODAY - LIMIT, False),  # before that day: counted from its end
    (0, TODAY - LIMIT - DAY, True),
    (0, TODAY - LIMIT - DAY + 5, False),
    (NOW - LIMIT - 1, TODAY - LIMIT - DAY, True),  # by its ctime, which is of that day
    (NOW - DAY, TODAY - LIMIT - DAY, False),  # its mode was set since: that only postpones
    (0, TODAY, False),
]


@pytest.mark.parametrize(("ctime", "day", "expired"), EXPIRED)
def test_a_file_is_removed_only_when_it_was_archived_longer_ago_than_the_limit(ctime, day, expired):
    assert is_expired(ctime, day, NOW, LIMIT) is expired
