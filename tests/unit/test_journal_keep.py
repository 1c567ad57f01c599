"""Which full files of the journal go: by size, by age, and never the newest full one."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from watcher.rules.journal_keep import DEFAULT, Full, Keep, parse, surplus

DAY, MB = 86_400.0, 1 << 20
READ = [
    ("128M", Keep(None, 128 * MB)),
    ("90d", Keep(90 * DAY, None)),
    ("90d 2G", Keep(90 * DAY, 2048 * MB)),
    (" 2G  36h ", Keep(36 * 3600, 2048 * MB)),
]


@pytest.mark.parametrize(("text", "keep"), READ)
def test_a_time_a_size_or_both(text, keep):
    assert parse(text) == keep


@given(st.text("0123456789dhmsKMG .", max_size=12))
def test_any_other_text_is_a_value_error(text):
    try:
        keep = parse(text)
    except (ValueError, KeyError):
        return
    assert keep.seconds or keep.size


def full(*days):
    """Return files of 16 MB that were last written so many days ago, the newest first."""
    return [Full(number, 16 * MB, -day * DAY) for number, day in enumerate(days)]


TABLE = [
    (DEFAULT, full(*range(8)), []),
    (DEFAULT, full(*range(9)), [8]),
    (DEFAULT, full(*range(11)), [8, 9, 10]),
    (parse("90d"), full(0, 89, 91, 100), [2, 3]),
    (parse("1h"), full(1, 2), [1]),
    (parse("90d 16M"), full(0, 1, 91), [1, 2]),
    (parse("1d 1G"), full(0, 0.5, 2), [2]),
    (parse("1h"), full(1), []),
]


@pytest.mark.parametrize(("keep", "files", "removed"), TABLE)
def test_what_is_beyond_either_limit_is_removed(keep, files, removed):
    assert surplus(files, keep, 0.0) == removed
    assert surplus(files[::-1], keep, 0.0) == removed
