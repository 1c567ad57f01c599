"""No legal state of a disk after a power failure loses what was acknowledged, nor tears it."""

from __future__ import annotations

import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from power_loss.losses import Disk, states
from power_loss.recording import Op
from power_loss.scenarios import scenarios
from power_loss.trial import try_all

ALL = {scenario.name: scenario for scenario in scenarios()}
QUICK = [
    *("enqueue", "enqueue, raw", "enqueue_many", "enqueue_many, syncfs", "recover"),
    *("done: plain name", "done: pair", "reject: drawn name", "reject: pair", "orphan"),
    *("hold, release: drawn name", "requeue a dead: pair", "requeue a deferred: pair"),
]
KINDS = pytest.mark.parametrize("weak", [False, True], ids=["ordered", "weak"])


def tried(name, base, *, weak, blind=()):
    result = try_all(ALL[name], str(base), weak=weak, blind=blind)
    assert result.states > 3
    return result.broken


@KINDS
@pytest.mark.parametrize("name", QUICK)
def test_nothing_is_lost_or_torn(tmp_path, name, weak):
    assert tried(name, tmp_path, weak=weak) == []


@pytest.mark.slow
@pytest.mark.timeout(600)
@KINDS
@pytest.mark.parametrize("name", sorted(ALL.keys() - set(QUICK)))
def test_nothing_is_lost_or_torn_by_any_transition(tmp_path, name, weak):
    assert tried(name, tmp_path, weak=weak) == []


@pytest.mark.parametrize(
    ("name", "blind", "broken"),
    [
        ("enqueue", "sync names", "LOST"),
        ("enqueue", "sync", "LOST"),
        ("enqueue, raw", "sync", "a handler was given"),
        ("enqueue_many, syncfs", "sync all", "LOST"),
        ("recover", "sync names", "LOST"),
    ],
)
def test_of_the_test_a_sync_that_is_left_out_is_found(tmp_path, name, blind, broken):
    found = tried(name, tmp_path, weak=True, blind=(blind,))
    assert any(broken in line for line in found), found


def test_the_states_of_two_changes_without_a_sync():
    """By hand: a file is made, written and renamed, and nothing is synced."""
    start = Disk(frozenset({"."}), frozenset(), frozenset())
    ops = [Op("create", 7, "a"), Op("write", 7, "a", data=b"data"), Op("rename", 7, "a", "b")]
    found = {
        (tuple(path for path, _ in state.files), *(data for _, data in state.contents))
        for issued, state in states(start, ops, weak=True)
        if issued == len(ops)
    }
    contents = [b"", b"da", b"da\0\0", b"data"]
    assert found == {((),)} | {((name,), data) for name in "ab" for data in contents}
    synced = [*ops, Op("sync", 7, "b"), Op("sync names", 0, ".")]
    last = [state for issued, state in states(start, synced, weak=True) if issued == len(synced)]
    assert [(dict(state.files), dict(state.contents)) for state in last] == [
        ({"b": 7}, {7: b"data"})
    ]
