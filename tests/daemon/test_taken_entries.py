"""When entries that another program took are reported, by a clock that stands still."""

from __future__ import annotations

import math

import pytest

from watcher.daemon.custody import EACH, EXPLAINED, QUIET, TAKEN, Custody
from watcher.observe import log
from watcher.observe.health import Health
from watcher.rules.lifecycle import Move, State
from watcher.rules.names import Layout
from watcher.spool.spool import Spool


@pytest.fixture
def told(monkeypatch):
    """What the log was told of taken entries."""
    words = []

    def event(_queue, what, text, *_level):
        if what == "vanished":
            words.append(text)

    monkeypatch.setattr(log, "event", event)
    return words


@pytest.fixture
def spool(tmp_path):
    return Spool(bytes(tmp_path), Layout(raw=True))


def test_entries_that_were_taken_are_told_soon_and_further_ones_together(spool, told):
    health = Health("q")
    custody = Custody("q", health)
    assert custody.report_due(spool, 100.0) == math.inf
    spool.journal.vanish(b"a", 1)
    due = custody.report_due(spool, 100.0)
    assert due == 100.0 + EXPLAINED, "until then another process may say that it handled it"
    assert custody.reports_soon
    assert not told
    assert custody.report_due(spool, due) == math.inf
    assert len(told) == 1
    assert custody.last_taken == "a"
    for name in (b"b", b"c"):
        spool.journal.vanish(name, 2)
        assert custody.report_due(spool, due + 1.0) == due + EACH
    custody.report_due(spool, due + EACH)
    assert len(told) == 2
    assert ": b, c:" in told[1]
    assert custody.vanished == 3
    custody.sweep(due + EACH + QUIET - 1)
    assert "3 entries, last c at " in health.troubles[TAKEN]
    custody.sweep(due + EACH + QUIET)
    assert not health.troubles, "an hour without another one"


def test_an_entry_that_is_there_again_or_that_a_process_of_ours_took_is_none(spool, told, tmp_path):
    custody = Custody("q", Health("q"))
    (tmp_path / "back").touch()
    for name in (b"back", b"handled"):
        spool.journal.vanish(name, 1)
    other = Spool(bytes(tmp_path), Layout(raw=True))
    other.journal.record(State.CLAIMED, Move.FINISH, 1, b"handled", "", 0)
    other.journal.flush()
    due = custody.report_due(spool, 100.0)
    custody.report_due(spool, due)
    assert not told
    assert custody.vanished == 0
    spool.journal.vanish(b"again", 1)
    assert custody.report_due(spool, due) == due + EACH, "the journal is read once a minute at most"
