"""Pairs: both halves were seen complete, in either order, in bounded memory."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from watcher.daemon.pairs import Pairs
from watcher.rules.names import Layout

LEGACY = Layout(legacy=True)


def mark(marks, name):
    return marks.mark(name, LEGACY.kind(name))


@pytest.mark.parametrize(
    ("seen", "whole"),
    [
        ([b"x.db", b"x.msg"], [None, b"x.msg"]),
        ([b"x.msg", b"x.db"], [None, b"x.msg"]),
        ([b"x.pck", b"x.db"], [None, b"x.pck"]),
        ([b"x.db", b"x.pck"], [None, b"x.pck"]),
        ([b"x.db", b"x.db"], [None, None]),
        ([b"x.msg", b"x.msg"], [None, None]),
        ([b"x.pck", b"x.msg"], [None, None]),
        ([b"x.db", b"y.msg"], [None, None]),
        ([b"x.db", b"x.msg", b"x.db"], [None, b"x.msg", b"x.msg"]),
    ],
)
def test_a_pair_is_whole_when_both_its_halves_were_seen(seen, whole):
    marks = Pairs(LEGACY)
    assert [mark(marks, name) for name in seen] == whole


HALVES = st.sampled_from([b"x.db", b"x.msg", b"x.pck", b"y.db", b"y.msg", b"y.pck"])


@given(st.lists(st.one_of(HALVES, HALVES.map(lambda name: b"-" + name)), max_size=30))
def test_complete_says_what_the_marks_say_in_any_order(moves):
    marks, seen = Pairs(LEGACY), set()
    for move in moves:
        name = move.lstrip(b"-")
        if move.startswith(b"-"):
            marks.forget(name)
            seen = {other for other in seen if LEGACY.stem(other) != LEGACY.stem(name)}
        else:
            mark(marks, name)
            seen.add(name)
        for stem in (b"x", b"y"):
            for message in (stem + b".msg", stem + b".pck"):
                both = {message, stem + b".db"} <= seen
                assert marks.complete(message, LEGACY.kind(message)) == both


@given(st.lists(st.integers(0, 40), max_size=200), st.integers(1, 8))
def test_memory_is_bounded_and_the_latest_are_kept(numbers, limit):
    marks = Pairs(LEGACY, limit)
    for number in numbers:
        mark(marks, b"%d.db" % number)
        assert len(marks) <= limit
    latest = list(dict.fromkeys(reversed(numbers)))[:limit]
    for number in latest:
        assert mark(marks, b"%d.msg" % number) == b"%d.msg" % number


def test_what_is_settled_is_forgotten():
    marks = Pairs(LEGACY)
    mark(marks, b"x.db")
    marks.forget(b"x.msg")
    assert mark(marks, b"x.msg") is None
    marks.forget(b"never-seen.msg")
    assert len(marks) == 1
