"""The lives of the entries of one name: which line belongs to which, and what each of them says."""

from __future__ import annotations

import pytest

from watcher.inspect.entry_lines import Written, taken
from watcher.inspect.entry_lives import lives_of
from watcher.inspect.history_text import ordinal, outcome, step_text
from watcher.rules.lifecycle import Move, State
from watcher.rules.names import Layout
from watcher.spool.journal_line import Line, line_of, parse_line

STAMPED = b"20261123T105313.250Z-a1-c0-d30-w0-X.pck"
FIRST = "attempt=1 took=20ms wait=1000ms"
FAILED = FIRST + " exit=75 next=30000ms: exit status 75: no connection"
CLAIMED = State.CLAIMED


def line(second, state, move, detail="", *, inode=7, birth=1, name=b"X.pck"):
    found = parse_line(line_of(second * 10**9, state, move, inode, name, detail, birth))
    assert found is not None
    return found


def begin(second, directory):
    detail = f"2 ours={directory}@5 queue=1@1 first start"
    return line(second, State.READY, "begin", detail, inode=0, birth=None, name=b"-")


def lives(*lines: Line):
    return lives_of([Written(each, b"host") for each in lines], Layout())


def moves(*lines):
    return [[step.line.move.decode() for step in life.steps] for life in lives(*lines)]


def test_an_entry_that_is_retried_has_one_life():
    done = "attempt=2 took=20ms wait=30000ms"
    first = line(10, CLAIMED, Move.DEFER, FAILED)
    (life,) = lives(first, line(40, CLAIMED, Move.FINISH, done, name=STAMPED))
    assert (life.committed, life.attempts, life.ended) == (pytest.approx(8.98), 2, True)
    assert " at the 2nd attempt, 31s after its commit" in outcome(life, None)


def test_the_next_file_of_the_name_and_the_number_is_another_entry():
    assert moves(
        line(10, CLAIMED, Move.FINISH, FIRST, birth=1), line(20, CLAIMED, Move.FINISH, birth=2)
    ) == [["finish"], ["finish"]]
    # The first was lost: it does not end.
    assert moves(
        line(10, CLAIMED, Move.REJECT, FIRST, birth=1), line(20, CLAIMED, Move.FINISH, birth=2)
    ) == [["reject"], ["finish"]]


def test_a_file_that_outlived_its_process_goes_on():
    """A process wrote that the entry is done, and died before it removed the file."""
    assert moves(line(10, CLAIMED, Move.FINISH, FIRST), line(20, CLAIMED, Move.FINISH, FIRST)) == [
        ["finish", "finish"]
    ]


def test_in_a_copy_a_life_goes_on_by_its_name_and_place():
    before = begin(1, 3), line(10, CLAIMED, Move.REJECT, FIRST)
    requeue = line(30, State.DEAD, Move.REQUEUE, "by a", inode=8, birth=2)
    assert moves(*before, begin(20, 4), requeue) == [["reject", "requeue"]]
    assert moves(*before, requeue) == [["reject"], ["requeue"]]  # not copied: another file
    other = line(40, State.DEAD, Move.REQUEUE, "by a", inode=9, birth=3)
    assert moves(*before, begin(20, 4), requeue, other) == [["reject", "requeue"], ["requeue"]]


@pytest.mark.parametrize(
    ("lines", "attempts", "committed"),
    [
        ([line(10, CLAIMED, Move.FINISH)], None, None),  # of an older version
        ([line(10, CLAIMED, Move.FINISH, "attempt=3 took=1ms wait=1ms")], 3, None),
        (
            [
                line(9, State.DEFERRED, "carried"),
                line(10, CLAIMED, Move.FINISH, "attempt=2 took=1ms wait=1ms", name=STAMPED),
            ],
            2,
            None,
        ),
        ([line(10, CLAIMED, Move.DEFER, "attempt=1 next=0ms: process 5 died")], 1, None),
        ([line(10, State.READY, Move.HOLD, "by a")], 0, None),
    ],
)
def test_what_the_lines_do_not_say_is_not_guessed(lines, attempts, committed):
    (life,) = lives(*lines)
    assert (life.attempts, life.committed) == (attempts, committed)


def test_an_entry_without_a_file_or_an_end_is_gone():
    (life,) = lives(line(10, CLAIMED, Move.DEFER, FAILED))
    assert outcome(life, None).startswith("gone: no line since ")


def test_a_step_is_a_sentence():
    assert step_text(line(10, CLAIMED, Move.DEFER, FAILED)) == (
        "attempt 1: failed (took 20ms, waited 1s): exit status 75: no connection;"
        " next attempt in 30s"
    )
    assert step_text(line(10, CLAIMED, Move.FINISH)) == "handled"
    assert step_text(line(10, State.DEAD, Move.DELETE, "by a (uid 1)")) == "deleted by a (uid 1)"
    assert [ordinal(n) for n in (1, 2, 3, 4, 11, 12, 21, 113)] == [
        *("1st", "2nd", "3rd", "4th", "11th", "12th", "21st", "113th")
    ]


def test_a_name_that_vanished_is_taken_unless_a_line_explains_it():
    gone = line(100, State.READY, "vanish", "heard of at 99.0", inode=0, birth=None)
    other = line(101, CLAIMED, Move.FINISH)
    assert [each.line for each in taken([Written(gone, None)])] == [gone]
    assert taken([Written(gone, None), Written(other, None)]) == []
