"""`Ready` and `Timers` know what `Detector` and `take` ask of them since the review."""

from __future__ import annotations

import os
import time

import pytest

from watcher.claim.take import take
from watcher.daemon.ready import Ready
from watcher.daemon.timers import Due, Timers
from watcher.rules.age import Ages, SystemClock
from watcher.rules.evidence import Proof
from watcher.rules.names import Layout
from watcher.rules.results import NotClaimed, Reason
from watcher.spool.claimed import Claim, ClaimOptions
from watcher.spool.spool import Spool

TERMS = ClaimOptions(3600.0, Ages(SystemClock()))


def test_a_name_in_hand_knows_when_its_rename_was_heard_of():
    ready = Ready()
    ready.push(b"a", Proof.RENAMED, 7)
    ready.push(b"a", Proof.RENAMED, 9)  # of two renames the later one
    ready.push(b"a", Proof.NONE, 0)
    item = ready.pop()
    assert item == (b"a", Proof.RENAMED, 9)
    ready.put_back(item)
    assert ready.pop() == item
    ready.push(b"a", Proof.RENAMED, 11)
    ready.finish(b"a")
    assert ready.pop() == (b"a", Proof.RENAMED, 11)
    ready.finish(b"a")
    ready.push(b"a", Proof.NONE)
    assert ready.pop() == (b"a", Proof.NONE, 0), "nothing is left of its namesake"


def test_a_timer_says_whether_it_waits_for_age_alone():
    timers = Timers()
    timers.set(b"young", 1.0, Proof.NONE, young=True)
    timers.set(b"retry", 1.0, Proof.RENAMED, 5)
    assert timers.young(b"young")
    assert not timers.young(b"retry")
    assert not timers.young(b"unknown")
    assert timers.due(2.0) == [
        Due(b"retry", Proof.RENAMED, 5),
        Due(b"young", Proof.NONE, young=True),
    ]


def test_a_rename_proves_nothing_of_a_file_that_changed_after_it_was_heard_of(queue):
    spool = Spool(bytes(queue), Layout(b".csv", raw=True))
    with open(queue / "a.csv", "wb") as slow:
        slow.write(b"half")
        slow.flush()
        before = int((time.time() - 60) * 1e9)
        refused = take(spool, b"a.csv", Proof.RENAMED, TERMS, before)
        assert isinstance(refused, NotClaimed)
        assert refused.refusal is Reason.WRITER
    refused = take(spool, b"a.csv", Proof.RENAMED, TERMS, before)
    assert isinstance(refused, NotClaimed)  # no writer: the same as found by a catch-up scan
    assert refused.refusal is Reason.YOUNG
    os.utime(queue / "a.csv", (1, 1))
    claim = take(spool, b"a.csv", Proof.RENAMED, TERMS, before)
    assert isinstance(claim, Claim)  # finished since it was last written to, as that scan knows
    claim.release()


@pytest.mark.parametrize("name", [b"a.csv", b"odd.pck"])
def test_a_file_renamed_in_while_its_writer_has_it_open_is_taken_when_the_writer_is_gone(
    queue, name
):
    """However late that is: its rename stays known of it, and of no other file under its name."""
    layout = Layout() if name.endswith(b".pck") else Layout(b".csv", raw=True)
    spool = Spool(bytes(queue), layout)
    path = queue / os.fsdecode(name)
    with open(path, "wb") as slow:
        event_time_ns = time.time_ns() + 1
        first = take(spool, name, Proof.RENAMED, TERMS, event_time_ns)
        assert isinstance(first, NotClaimed)
        assert (first.refusal, first.proof) == (Reason.WRITER, Proof.RENAMED)
        assert first.renamed is not None
        while path.stat().st_ctime_ns <= event_time_ns:
            slow.write(b"more")
            slow.flush()
        again = take(spool, name, Proof.RENAMED, TERMS, event_time_ns, first.renamed)
        assert again == first
    claim = take(spool, name, Proof.RENAMED, TERMS, event_time_ns, first.renamed)
    assert isinstance(claim, Claim)
    claim.release()
    for other in (first.renamed._replace(ino=1), first.renamed._replace(birth_ns=1), None):
        claim = take(spool, name, Proof.RENAMED, TERMS, event_time_ns, other)
        if layout.raw:
            assert isinstance(claim, NotClaimed)
            assert claim.refusal is Reason.YOUNG
        else:  # a catch-up scan takes it as well
            claim.release()
