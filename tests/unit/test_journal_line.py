"""A line of the journal: parsing returns what was written, and refuses any other bytes."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from watcher.rules.lifecycle import TABLE, Move, State
from watcher.spool.journal_line import (
    LONGEST,
    MARK,
    Line,
    is_mark,
    line_of,
    parse_line,
)

LINES = st.builds(
    line_of,
    st.integers(0, 4 * 10**18),
    st.just(State.CLAIMED),
    st.sampled_from([Move.FINISH, Move.DEFER, Move.REJECT]),
    st.integers(1, 2**64 - 1),
    st.binary(min_size=1, max_size=255),
    st.text(max_size=40),
    st.none() | st.integers(0, 2**63),
)


@given(
    st.sampled_from(sorted(TABLE, key=str)),
    st.integers(1, 2**64 - 1),
    st.binary(min_size=1, max_size=255),
    st.text(max_size=40),
    st.none() | st.integers(0, 2**63),
)
def test_what_is_written_comes_back(words, inode, name, detail, birth):
    raw = line_of(1763895193250113000, *words, inode, name, detail, birth)
    line = parse_line(raw)
    assert raw.count(b"\n") == 1
    assert len(raw) < LONGEST
    assert (line.inode, line.name, line.birth) == (inode, name, birth)
    assert line.detail == detail.encode("utf-8", "backslashreplace")
    assert line.time == pytest.approx(1763895193.250113)


@given(LINES, LINES, st.data())
def test_a_line_that_was_cut_short_costs_itself_only(one, other, data):
    """Wherever it was cut, no part of it is a valid line; the next line is read."""
    kept = one[: data.draw(st.integers(0, len(one) - 1))]
    rest = (kept + MARK + other).splitlines(keepends=True)
    assert parse_line(rest[-1]) is not None
    assert all(parse_line(raw) is None for raw in rest[:-1])


@given(st.binary(max_size=300))
def test_no_bytes_are_a_traceback(data):
    line = parse_line(data)
    assert line is None or str(line)


@pytest.mark.parametrize(
    "raw",
    [
        b"1.0 1 ready lost 0 - 1x lines\n",
        b"1e300 1 ready claim 77 gone.csv\n",
        b"nan 1 claimed defer 77 gone.csv\n",
        b"inf 1 claimed defer 77 gone.csv\n",
        b"1.0 1 \xff\xfe\xff hold 77 gone.csv\n",
        b"1.0 1 held hold -5 gone.csv\n",
        b"-1.0 1 claimed defer 77 gone.csv\n",
        b"999999999999.0 1 claimed defer 77 gone.csv\n",
        b"1.0 1 claimed defer 99999999999999999999 gone.csv\n",
        b"1.0 99999999999 claimed defer 77 gone.csv\n",
        b"1.0 1 done finish 77 gone.csv\n",
        b"1.0 1 claimed defer 77 a%b.csv\n",
        b"1.0 1 claimed defer 77 gone.csv",
        b"1.0 1 claimed defer 77 gone.csv%\n",
        b"1.0 1 claimed defer 7_7 gone.csv\n",
        "1.0 1 claimed defer \u0667\u0667 gone.csv\n".encode(),
    ],
)
def test_an_invalid_line_is_refused(raw):
    line = parse_line(raw)
    assert line is None or (line.move, line.inode) == (b"lost", 0)


def test_lines_of_the_version_before_are_read():
    line = parse_line(b"1763895193.250113 4711 claimed finish 1315862 NAME.pck\n")
    assert line == Line(1763895193.250113, 4711, b"claimed", b"finish", 1315862, b"NAME.pck", b"")


def test_a_moment_is_shown_as_a_date():
    line = parse_line(
        b"1763895193.250113 4711 ready vanish 0 X.csv heard of at 1763895190.100000\n"
    )
    shown = "2025-11-23 10:53:13+00:00: ready vanish, by process 4711"
    assert str(line) == f"{shown}: its event was read at 2025-11-23 10:53:10+00:00"


def test_a_mark_is_no_line():
    assert is_mark(MARK)
    assert is_mark(b"%%\n")
    assert not is_mark(b"x%\n")
