"""Durations are read as people write them, and nothing else is taken for one."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from watcher.durations import LONGEST, parse, show

READ = [
    ("0", 0.0),
    ("0s", 0.0),
    ("30s", 30.0),
    ("5m", 300.0),
    ("2h", 7200.0),
    ("5d", 432_000.0),
    ("250ms", 0.25),
    ("1h30m", 5400.0),
    ("1d2h3m4s5ms", 93_784.005),
    ("1m5ms", 60.005),
    ("1.5h", 5400.0),
    ("90", 90.0),
    ("0.5", 0.5),
    (" 30s\n", 30.0),
    ("10000d", LONGEST),
]


@pytest.mark.parametrize(("text", "seconds"), READ)
def test_what_people_write_is_read(text, seconds):
    assert parse(text) == pytest.approx(seconds)


WRONG = [
    *("", " ", "s", "5 m", "m5", "5x", "5mm", "1h30", "30s!", "-5s", "+5s", "1e3", "1e3s", ".5s"),
    *("5m5m", "30s1h", "1h2h", "5ms1s", "1m1"),
    *("5.s", "1,5s", "5M", "inf", "nan", "infs", "0x10", "1_000", "5m 30s", "five minutes", "5m\0"),
    *("٣s", "10001d", "9" * 400, "9" * 400 + "d", "1" * 5000 + "s"),
]


@pytest.mark.parametrize("text", WRONG, ids=lambda text: ascii(text)[:20])
def test_anything_else_is_refused_and_the_text_says_what_was_expected(text):
    with pytest.raises(ValueError, match=r"^expected "):
        parse(text)


@given(st.text())
def test_no_text_does_anything_but_read_or_raise_value_error(text):
    try:
        seconds = parse(text)
    except ValueError:
        return
    assert 0 <= seconds <= LONGEST


@given(st.floats(0, LONGEST))
def test_what_is_shown_is_read_back_to_within_its_second_unit(seconds):
    """Two units are shown: the rest is less than one of the smaller."""
    back = parse(show(seconds))
    if seconds < 1:
        assert abs(back - seconds) <= 0.0005001
    else:
        unit = 3600 if seconds >= 86_400 else 60 if seconds >= 3600 else 1
        assert abs(back - seconds) <= unit


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((0, "0ms"), (0.0501, "50ms"), (1, "1s"), (59.6, "1m"), (60, "1m"), (61, "1m1s")),
        *((3600, "1h"), (5400, "1h30m"), (86_400, "1d"), (90_061, "1d1h"), (300, "5m")),
    ],
)
def test_show_writes_the_two_largest_units(seconds, text):
    assert show(seconds) == text
