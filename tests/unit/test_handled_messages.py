"""When handled messages are removed from a stream, and how many."""

from __future__ import annotations

import bisect
import itertools

import pytest

from watcher.rules.handled_messages import Keeping, Search, kept_for, next_look, pace, why_not

HOUR = 3600.0
KEEPING = Keeping(removes=True, consumers=1, every_message=True, window=2 * HOUR, first=5, floor=9)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, ""),
        ({"consumers": 0}, ""),
        ({"removes": False}, "not marked"),
        ({"consumers": 2}, "other consumers"),
        ({"every_message": False}, "a part of"),
    ],
)
def test_nothing_goes_that_another_program_may_not_have_read(changes, why):
    found = why_not(KEEPING._replace(**changes))
    assert why in found
    assert bool(why) == bool(found)


@pytest.mark.parametrize(
    ("changes", "age", "wait"),
    [
        ({}, 0.0, 2 * HOUR + 60),
        ({}, 2 * HOUR, 60),  # the clocks of servers may differ
        ({}, 2 * HOUR + 60, 0.0),
        ({}, 900 * HOUR, 0.0),
        ({"first": 9}, 900 * HOUR, 0.0),
        ({"first": 10}, 900 * HOUR, None),  # what is first is not handled
        ({"floor": 0}, 900 * HOUR, None),  # the consumer was made anew
        ({"removes": False}, 900 * HOUR, None),
        ({"window": 10.0}, 0.0, 11.0),
    ],
)
def test_a_look_is_due_when_the_first_handled_message_is_old_enough(changes, age, wait):
    assert next_look(KEEPING._replace(**changes), age) == wait


@pytest.mark.parametrize(
    ("window", "seconds"), [(0.1, 1.0), (100.0, 10.0), (2 * HOUR, 600.0), (100 * HOUR, 600.0)]
)
def test_looks_are_far_from_each_other(window, seconds):
    assert pace(window) == seconds


def messages(count, gaps):
    """Return numbers of messages; their times are their numbers."""
    return [number for number in range(1, count + 1) if number == 1 or number not in gaps]


def looked_for(there, last, old):
    """Return what a search finds among messages, and how many looks it took."""
    search, looks = Search(1, last), 0
    while (asked := search.middle()) is not None:
        place = bisect.bisect_left(there, asked)
        number = there[place] if place < len(there) else 1 << 63
        search.learn(asked, number, is_old=number <= old)
        looks += 1
    return search.found, looks


@pytest.mark.parametrize("gaps", [set(), {2, 3}, set(range(2, 40)), set(range(10, 64, 3))])
def test_the_search_finds_the_last_message_that_is_old_enough(gaps):
    there = messages(64, gaps)
    for last, old in itertools.product((1, 2, 3, 17, 63, 64), range(1, 66)):
        found, looks = looked_for(there, last, old)
        assert looks <= 7
        assert [n for n in there if n <= found] == [n for n in there if n <= min(old, last)]


def test_a_message_is_kept_for_longer_than_the_window():
    assert kept_for(2 * HOUR) == 2 * HOUR + 60
    assert kept_for(1.0) == 1.1
