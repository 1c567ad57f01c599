"""When a trigger's command runs again, as a table."""

from __future__ import annotations

import pytest

from watcher.rules.evidence import QUIET, TICK, Proof
from watcher.rules.retry import Policy
from watcher.rules.trigger_pace import (
    SPIN_DELAY,
    SPINS,
    Pace,
    Run,
    after_run,
    ready_since,
    wait_for,
)

POLICY = Policy(initial=10.0, max=60.0, jitter=0.0)
NOW = 1000.0  # seconds, when the run of the table ends
SECOND = 1_000_000_000


def chance():
    return 0.0


def run(**facts):
    usual = {
        "began": NOW - 1,
        "ended": NOW,
        "began_ns": 50 * SECOND,
        "ended_ns": 51 * SECOND,
        "ready_ns": 49 * SECOND,
        "failed": False,
        "there": 5,
        "took": True,
        "left_new": False,
        "left": 0,
    }
    return Run(**{**usual, **facts})


NEVER_RAN = Pace()
FAILED_TWICE = Pace(failures=2)
IDLE_TWICE = Pace(idle=2)
WAITING = Pace(idle=2, left_until=NOW + 33)
CASES = {  # before, the run, then the seconds until the next: for a new entry, for one that is left
    "failed, took nothing": (NEVER_RAN, {"failed": True, "took": False, "left": 3}, 10, 10),
    "failed again": (FAILED_TWICE, {"failed": True, "took": False, "left": 3}, 40, 40),
    "failed, took some": (FAILED_TWICE, {"failed": True, "left": 3}, 10, 10),
    "failed often": (Pace(failures=2000), {"failed": True, "took": False, "left": 3}, 60, 60),
    "left nothing": (FAILED_TWICE, {}, 0, 0),
    "took some, left the new one": (NEVER_RAN, {"left": 3, "left_new": True}, 0, 0),
    "took some, when it was due for what is left": (IDLE_TWICE, {"left": 3}, 0, 0),
    "took nothing": (NEVER_RAN, {"took": False, "left": 3, "left_new": True}, 0, 10),
    "took nothing again": (IDLE_TWICE, {"took": False, "left": 3}, 0, 40),
    "took the new, left those before": (WAITING, {"left": 3}, 0, 33),
    "took nothing, and left one more": (
        WAITING,
        {"took": False, "left": 4, "left_new": True},
        *(0, 40),
    ),
}


@pytest.mark.parametrize(("before", "facts", "new", "left"), CASES.values(), ids=CASES)
def test_the_next_run(before, facts, new, left):
    pace = after_run(before, run(**facts), POLICY, chance)
    real = 60 * SECOND
    assert wait_for(pace, 55 * SECOND, real, NOW) == new
    assert wait_for(pace, 49 * SECOND, real, NOW) == left


def test_the_delays_begin_anew_after_a_run_that_left_nothing():
    pace = after_run(Pace(failures=3, idle=3, left_until=NOW - 1), run(), POLICY, chance)
    assert (pace.failures, pace.idle, pace.hold_until, pace.left_until) == (0, 0, 0.0, 0.0)


def test_an_entry_that_came_while_the_command_ran_is_a_new_one():
    pace = after_run(NEVER_RAN, run(took=False, left=1, left_new=True), POLICY, chance)
    assert wait_for(pace, 50 * SECOND, 52 * SECOND, NOW) == 0
    assert wait_for(pace, 50 * SECOND - 1, 52 * SECOND, NOW) == 10


def test_a_clock_that_was_set_back_makes_an_entry_a_new_one():
    pace = after_run(NEVER_RAN, run(took=False, left=1, left_new=True), POLICY, chance)
    assert wait_for(pace, 7 * SECOND, 8 * SECOND, NOW) == 0


def test_a_command_that_puts_back_what_it_takes_is_slowed_down():
    pace, at = NEVER_RAN, 50 * SECOND
    for number in range(SPINS + 1):
        assert pace.hold_until == 0, number
        ended = run(began_ns=at, ended_ns=at + SECOND, ready_ns=at - SECOND // 2)
        pace = after_run(pace, ended, POLICY, chance)
        at += SECOND + 1
    assert pace.hold_until == NOW + SPIN_DELAY
    fewer = run(began_ns=at, ended_ns=at + SECOND, ready_ns=at - SECOND // 2, there=4)
    assert after_run(pace, fewer, POLICY, chance).hold_until == 0


def test_entries_that_come_between_the_runs_slow_nothing_down():
    pace, at = NEVER_RAN, 50 * SECOND
    for _ in range(3 * SPINS):
        pace = after_run(pace, run(began_ns=at, ended_ns=at + SECOND, ready_ns=at), POLICY, chance)
        at += 3 * SECOND
    assert pace.hold_until == 0


@pytest.mark.parametrize(
    ("proof", "event", "limits", "expected"),
    [
        (Proof.RENAMED, 77, (300.0, 0.0, False), 77),
        (Proof.NO_WRITER, 0, (300.0, 0.0, False), 100 * SECOND + TICK),
        (Proof.NO_WRITER, 0, (300.0, 0.0, True), int((100 + QUIET) * SECOND) + TICK),
        (Proof.NONE, 0, (300.0, 0.0, False), 400 * SECOND + TICK),
        (Proof.CLOSED, 0, (300.0, 5.0, True), 105 * SECOND + TICK),
        (Proof.NONE, 0, (900.0, 0.0, False), 500 * SECOND),
    ],
    ids=["its event", "a scan", "a scan of raw files", "a sweep", "settle", "never later than now"],
)
def test_when_an_entry_became_ready(proof, event, limits, expected):
    assert ready_since(proof, event, 100 * SECOND, 500 * SECOND, limits) == expected


def test_a_file_from_the_future_became_ready_at_no_known_moment():
    assert ready_since(Proof.NONE, 0, 501 * SECOND, 500 * SECOND, (300.0, 0.0, False)) == 0
