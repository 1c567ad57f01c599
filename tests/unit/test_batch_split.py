"""How a batch that failed is split: exhaustively for one bad entry, at random for several."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from watcher.rules.batch_split import MOST_FAILURES, TOGETHER_AGAIN, Split, groups


def split(count, bad):
    """Call `count` entries until nothing is left; return the calls, the handled, the failed."""
    parts = Split(range(count))
    calls, handled, failed = [], [], []
    while called := parts.next():
        calls.append(called)
        if bad.intersection(called):
            failed += parts.failed(called)
        else:
            handled += called
            parts.succeeded()
    return calls, handled, failed


@pytest.mark.parametrize("count", [*range(2, 40), 64, 100, 128])
def test_one_bad_entry_is_found_and_every_other_is_handled_once(count):
    for bad in range(count):
        calls, handled, failed = split(count, {bad})
        assert failed == [bad]
        assert sorted(handled) == [number for number in range(count) if number != bad]
        assert (bad,) in calls


def test_one_bad_entry_in_a_hundred_costs_what_the_page_says():
    counts, most = set(), 0
    for bad in range(100):
        calls, _, _ = split(100, {bad})
        counts.add(len(calls))
        most = max(most, *(sum(n in called for called in calls) for n in range(100)))
    assert (min(counts), max(counts), most) == (8, 15, 8)


def test_if_every_call_fails_there_are_few_and_every_entry_fails_once():
    for count in (5, 100, 1000):
        calls, handled, failed = split(count, set(range(count)))
        assert len(calls) == MOST_FAILURES
        assert handled == []
        assert sorted(failed) == list(range(count))


@given(st.integers(1, 200), st.data())
def test_whatever_is_bad_each_entry_ends_once_and_no_bad_one_is_handled(count, data):
    bad = data.draw(st.sets(st.integers(0, count - 1)))
    calls, handled, failed = split(count, bad)
    assert sorted(handled + failed) == list(range(count))
    assert bad <= set(failed)
    assert len(calls) <= 2 * count
    if len(bad) <= 3:  # the seven calls of a whole, halves and quarters cannot all fail
        assert set(failed) == bad


@given(st.integers(1, TOGETHER_AGAIN), st.data())
def test_so_few_are_always_split_to_the_end(count, data):
    bad = data.draw(st.sets(st.integers(0, count - 1)))
    _, handled, failed = split(count, bad)
    assert set(failed) == bad
    assert len(handled) == count - len(bad)


def test_what_a_call_said_of_its_entries_is_not_called_again():
    parts = Split(range(10))
    assert parts.next() == tuple(range(10))
    assert parts.failed((6, 7, 8)) == ()  # of the others there was a word
    assert parts.next() == (6, 7)
    parts.succeeded()
    assert parts.next() == (8,)
    assert parts.failed((8,)) == (8,)
    assert parts.next() == ()


def test_an_interrupted_call_is_made_again_before_the_others():
    parts = Split(range(4))
    parts.next()
    parts.failed((0, 1, 2, 3))
    assert parts.next() == (0, 1)
    parts.interrupted((1,))
    assert parts.next() == (1,)
    assert parts.rest() == (2, 3)
    assert parts.next() == ()


def test_suspects_are_called_alone_and_what_failed_before_with_few_others():
    entries = [(1, 0), (2, 0), (1, 0), (2, 1), *[(3, 0)] * TOGETHER_AGAIN, (1, 0)]
    assert groups(entries) == [(0, 2, 8), (1, 4, 5, 6), (7,), (3,)]
    assert groups([]) == []
