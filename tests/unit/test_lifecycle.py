"""The life cycle: the table, its picture, and what can never happen."""

from __future__ import annotations

import itertools

import pytest

from watcher.errors import IllegalMove
from watcher.rules import lifecycle
from watcher.rules.lifecycle import TABLE, Move, State, after

PAIRS = list(itertools.product(State, Move))


@pytest.mark.parametrize(("state", "move"), PAIRS, ids=lambda value: value.value)
def test_a_move_is_in_the_table_or_refused(state, move):
    if (state, move) in TABLE:
        assert after(state, move) is TABLE[state, move]
    else:
        with pytest.raises(IllegalMove, match=f"{state.value} cannot {move.value}"):
            after(state, move)


def test_only_a_handlers_word_ends_an_entry_and_only_an_operators_removes_one():
    ends = {(state, move): end for (state, move), end in TABLE.items()}
    assert [pair for pair, end in ends.items() if end is State.DONE] == [
        (State.CLAIMED, Move.FINISH)
    ]
    assert {move for (_, move), end in ends.items() if end is State.REMOVED} == {Move.DELETE}
    assert {state for state, move in ends if move is Move.DELETE} == {
        State.ORPHAN, State.DEFERRED, State.HELD, State.DEAD
    }  # fmt: skip


def test_an_end_is_an_end_and_every_other_state_leads_on():
    assert {state for state in State if not any(s is state for s, _ in TABLE)} == {
        State.REMOVED
    }  # fmt: skip
    assert [move for state, move in TABLE if state is State.DONE] == [Move.REQUEUE]


def test_every_state_is_reached_and_from_each_an_entry_can_become_ready_again():
    reached, edge = {State.ARRIVING}, {State.ARRIVING}
    while edge:
        edge = {end for (state, _), end in TABLE.items() if state in edge} - reached
        reached |= edge
    assert reached == set(State)
    back = {State.READY}
    while more := {state for (state, _), end in TABLE.items() if end in back} - back:
        back |= more
    assert back == set(State) - {State.REMOVED}


def test_nothing_is_handled_that_is_not_ready_and_claimed():
    assert {state for state, move in TABLE if move is Move.CLAIM} == {State.READY}
    assert {state for (state, _), end in TABLE.items() if end is State.CLAIMED} == {State.READY}


@pytest.mark.parametrize("value", [*State, *Move], ids=lambda value: value.value)
def test_the_picture_shows_every_state_and_move(value):
    assert value.value.upper().replace(" ", "_") in lifecycle.__doc__
