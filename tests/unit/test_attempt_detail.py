"""The detail of a line about an attempt: what is written is read, and older lines are all text."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from watcher.spool.attempt_detail import ATTEMPT, AttemptDetail, format_detail, parse_detail

SECONDS = st.none() | st.integers(0, 10**12).map(lambda milliseconds: milliseconds / 1000)


@given(
    st.builds(
        AttemptDetail,
        st.integers(1, 10**9),
        SECONDS,
        SECONDS,
        st.none() | st.integers(-64, 255).filter(bool),
        SECONDS,
        st.text(),
    )
)
def test_what_is_written_comes_back(detail):
    raw = format_detail(detail).encode("utf-8", "backslashreplace")
    expected = detail.text.encode("utf-8", "backslashreplace").decode()
    assert parse_detail(raw) == detail._replace(text=expected)


def test_the_form_of_the_hot_path_is_read():
    assert parse_detail(ATTEMPT % (2, 1500, 30)) == AttemptDetail(2, 1.5, 0.03)


@pytest.mark.parametrize(
    "older",
    ["", "to archive", "by root (uid 0)", "exit status 1: attempt=3", "attempt=x", "attempt=1 foo"],
)
def test_an_older_line_is_all_text(older):
    assert parse_detail(older.encode()) == AttemptDetail(text=older)


@given(st.binary(max_size=100))
def test_no_bytes_are_a_traceback(raw):
    parse_detail(raw)
    parse_detail(b"attempt=1: " + raw)


def test_odd_durations_are_written_within_bounds():
    odd = AttemptDetail(1, -5.0, 1e300, None, 1e300)
    found = parse_detail(format_detail(odd).encode())
    assert found.took == 0
    assert found.wait == found.next_in
    assert found.wait is not None
