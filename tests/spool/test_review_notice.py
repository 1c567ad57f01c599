"""`Ready` and `Timers` know what `Notice` and `take` ask of them since the review."""

from __future__ import annotations

import time

from watcher.age import Ages, SystemClock
from watcher.arrive.ready import Ready
from watcher.arrive.timers import Due, Timers
from watcher.claim.take import Claim, Refusal, Refused, Terms, take
from watcher.evidence import How
from watcher.spool.layout import Layout
from watcher.spool.spool import Spool

TERMS = Terms(3600.0, Ages(SystemClock()))


def test_a_name_in_hand_knows_when_its_rename_was_heard_of():
    ready = Ready()
    ready.push(b"a", How.RENAMED, 7)
    ready.push(b"a", How.RENAMED, 9)  # of two renames the later one
    ready.push(b"a", How.SWEEP, 0)
    assert ready.pop() == (b"a", How.RENAMED)
    assert ready.heard(b"a") == 9
    ready.put_back(b"a", How.RENAMED)
    assert ready.pop() == (b"a", How.RENAMED)
    assert ready.heard(b"a") == 9
    ready.push(b"a", How.RENAMED, 11)
    ready.finish(b"a")
    assert ready.pop() == (b"a", How.RENAMED)
    assert ready.heard(b"a") == 11
    ready.finish(b"a")
    assert ready.heard(b"a") == 0


def test_a_timer_says_whether_it_waits_for_age_alone():
    timers = Timers()
    timers.set(b"young", 1.0, How.SWEEP, young=True)
    timers.set(b"retry", 1.0, How.RENAMED, 5)
    assert timers.young(b"young")
    assert not timers.young(b"retry")
    assert not timers.young(b"unknown")
    assert timers.due(2.0) == [
        Due(b"retry", How.RENAMED, 5),
        Due(b"young", How.SWEEP, young=True),
    ]


def test_a_rename_proves_nothing_of_a_file_that_changed_after_it_was_heard_of(queue):
    spool = Spool(bytes(queue), Layout(b".csv", raw=True))
    with open(queue / "a.csv", "wb") as slow:
        slow.write(b"half")
        slow.flush()
        before = int((time.time() - 60) * 1e9)
        refused = take(spool, b"a.csv", How.RENAMED, TERMS, before)
        assert isinstance(refused, Refused)
        assert refused.refusal is Refusal.WRITER
        claim = take(spool, b"a.csv", How.RENAMED, TERMS, time.time_ns() + 1)
        assert isinstance(claim, Claim)  # renamed in by a writer that has it open still
        claim.release()
    claim = take(spool, b"a.csv", How.RENAMED, TERMS, before)
    assert isinstance(claim, Claim)  # nobody writes: as good as found by a catch-up scan
    claim.release()
