"""When a queue's attempts fail alike for so many entries that one at a time is tried: the table."""

from __future__ import annotations

import pytest

from watcher.rules.breaker import SLOWEST, Breaker, pace
from watcher.rules.results import HANDLED, HandlerResult, Verdict

DOWN = HandlerResult(Verdict.RETRY, "exit status 75: connect to 10.0.0.7:25: refused after 12 ms")
ALIKE = HandlerResult(Verdict.RETRY, "exit status 75: connect to 10.0.0.8:25: refused after 3 ms")
OTHER = HandlerResult(Verdict.RETRY, "exit status 75: no route to host")
BAD = HandlerResult(Verdict.REJECT, "exit status 65: KeyError")
CRASHED = HandlerResult(Verdict.CRASHED, "killed by signal 11 (SIGSEGV)")
NOT_READ = HandlerResult(Verdict.REJECT, "exit status 65: KeyError", ran=False)
SHORT = HandlerResult(Verdict.RETRY, DOWN.reason, attempted=False)
STOPPED = HandlerResult(Verdict.STOPPED, DOWN.reason)
MISSING = HandlerResult(Verdict.MISCONFIGURED, "exit status 127")
LIMIT = 3


def told(*story, limit=LIMIT):
    """Return a breaker that learned what came of attempts at so many different entries."""
    breaker = Breaker(limit)
    for number, outcome in enumerate(story):
        breaker.learn(b"%d" % number, breaker.ticket, outcome)
    return breaker


@pytest.mark.parametrize(
    ("story", "tripped"),
    [
        ([DOWN, DOWN], False),
        ([DOWN, DOWN, DOWN], True),
        ([DOWN, ALIKE, DOWN], True),
        ([BAD, BAD, BAD], True),
        ([CRASHED, CRASHED, CRASHED], True),
        ([DOWN, DOWN, HANDLED, DOWN, DOWN], False),
        ([DOWN, DOWN, OTHER, DOWN], False),
        ([DOWN, DOWN, OTHER, OTHER, OTHER], True),
        ([DOWN, DOWN, HandlerResult(Verdict.REJECT, DOWN.reason)], False),
        ([DOWN, DOWN, NOT_READ, SHORT, STOPPED, MISSING], False),
        ([DOWN, DOWN, NOT_READ, SHORT, STOPPED, MISSING, DOWN], True),
        ([NOT_READ] * 9, False),
        ([DOWN, DOWN, DOWN, OTHER, BAD], True),
        ([DOWN, DOWN, DOWN, MISSING, STOPPED], True),
        ([DOWN, DOWN, DOWN, HANDLED], False),
        ([DOWN, DOWN, DOWN, HANDLED, DOWN, DOWN], False),
        ([DOWN, DOWN, DOWN, HANDLED, DOWN, DOWN, DOWN], True),
    ],
)
def test_after_so_many_entries_in_a_row_that_fail_alike_one_at_a_time_is_tried(story, tripped):
    assert told(*story).tripped is tripped


def test_one_entry_that_fails_again_and_again_is_no_sign_that_others_do():
    breaker = Breaker(LIMIT)
    for _ in range(LIMIT * 5):
        breaker.learn(b"bad", breaker.ticket, DOWN)
        breaker.learn(b"bad too", breaker.ticket, DOWN)
    assert not breaker.tripped
    breaker.learn(b"a third", breaker.ticket, DOWN)
    assert breaker.tripped
    assert breaker.in_a_row == LIMIT * 5 * 2 + 1


def test_what_began_before_says_nothing_of_now():
    breaker = told(DOWN, DOWN, DOWN)
    breaker.learn(b"slow", 0, HANDLED)
    assert breaker.tripped
    first = breaker.ticket
    breaker.learn(b"slow too", 0, DOWN)
    assert breaker.trials == 0
    breaker.learn(b"good", first, HANDLED)
    assert not breaker.tripped
    for name in (b"a", b"b", b"c"):
        breaker.learn(name, breaker.ticket, DOWN)
    breaker.learn(b"slower", first, HANDLED)
    assert breaker.tripped, "nor what began in an earlier trip"


def test_it_can_be_turned_off():
    assert not told(*[DOWN] * 100, limit=0).tripped


def test_trials_become_rarer_and_stay_frequent_enough_to_find_the_cure():
    breaker = told(DOWN, DOWN, DOWN)
    waits = []
    for number in range(8):
        waits.append(pace(breaker.trials, 30.0, 3600.0))
        breaker.learn(b"t%d" % number, breaker.ticket, OTHER)
    assert waits[:4] == [30.0, 60.0, 120.0, 240.0]
    assert set(waits[4:]) == {30.0 * SLOWEST}
    assert pace(5, 30.0, 45.0) == 45.0, "no longer than the policy's longest delay"
    assert pace(10**6, 0.01, 3600.0) == 0.01 * SLOWEST


def test_it_says_how_many_failed_and_of_what():
    assert told(DOWN, ALIKE, ALIKE, OTHER).why == (
        f"the last 3 attempts failed alike: {ALIKE.reason}"
    )
    assert told(BAD, BAD, BAD).why.startswith("the last 3 attempts were rejected alike: exit")
    silent = HandlerResult(Verdict.CRASHED, "")
    assert told(silent, silent, silent).why == "the last 3 attempts crashed alike"
