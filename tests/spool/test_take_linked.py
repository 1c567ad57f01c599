"""What IN_CREATE told of is taken only if it was linked in: `claim.linked`, on real files."""

from __future__ import annotations

import os

import pytest

from watcher.claim.take import take
from watcher.rules.evidence import Proof, Writer
from watcher.rules.names import Layout
from watcher.rules.results import NotClaimed, Reason
from watcher.settle import moves
from watcher.spool import lease
from watcher.spool.claimed import Claim

RAW, MANY = Layout(b"", raw=True), Layout(b"", raw=True, hard_links=True)
NAME = b"a.csv"


@pytest.fixture
def attempt(open_spool, terms):
    """Take the file by IN_CREATE; `closed` is what the events tell."""
    claims = []

    def make(closed=False, layout=RAW, grace=300.0):
        options = terms(grace)._replace(closed=lambda _name: closed)
        if claims and isinstance(claims[-1], Claim):
            claims.pop().release()
        claims.append(take(open_spool(layout), NAME, Proof.LINKED, options))
        return claims[-1]

    yield make
    for claim in claims:
        if isinstance(claim, Claim):
            claim.release()


def test_a_whole_file_that_no_writer_closed_is_taken_at_any_age(put, attempt):
    put(NAME)
    claim = attempt(closed=False)
    assert isinstance(claim, Claim)
    assert claim.terms.grace - claim.age() > 200


def test_a_file_that_a_writer_closed_under_this_name_proves_nothing(put, attempt):
    put(NAME)
    refused = attempt(closed=True)
    assert (refused.refusal, refused.proof) == (Reason.UNPROVEN, Proof.NONE)


def test_where_events_were_lost_it_is_judged_as_by_a_scan(queue, put, attempt):
    put(NAME)  # its ctime is its rename's, which may be within one tick of its write
    os.utime(queue / "a.csv", (1, 1))
    assert isinstance(attempt(closed=None), Claim)
    (queue / "a.csv").write_bytes(b"written in place")
    assert attempt(closed=None).refusal is Reason.YOUNG


def test_an_empty_file_proves_nothing_for_its_writer_may_open_it_this_moment(put, attempt):
    put(NAME, b"")
    assert attempt().refusal is Reason.UNPROVEN


def test_with_a_writer_it_is_looked_at_again_and_is_not_locked(queue, put, attempt, monkeypatch):
    put(NAME)
    with open(queue / "a.csv", "ab"):
        monkeypatch.setattr("fcntl.flock", lambda *_call: pytest.fail("locked"))
        refused = attempt()
    assert (refused.refusal, refused.proof) == (Reason.WRITER, Proof.LINKED)


def test_while_it_has_its_other_name_it_is_looked_at_again(queue, put, attempt):
    put(NAME)
    os.link(queue / "a.csv", queue.parent / "other")
    refused = attempt()
    assert (refused.refusal, refused.proof) == (Reason.FOREIGN, Proof.LINKED)
    assert isinstance(attempt(layout=MANY), Claim)
    (queue.parent / "other").unlink()
    assert isinstance(attempt(), Claim)


def test_the_events_are_read_after_the_lease_was_granted(put, open_spool, terms, monkeypatch):
    put(NAME)
    steps = []
    granted = lease.take

    def told(fd):
        steps.append("lease")
        return granted(fd)

    def closed(_name):
        steps.append("events")
        return False

    monkeypatch.setattr(lease, "take", told)
    claim = take(open_spool(RAW), NAME, Proof.LINKED, terms()._replace(closed=closed))
    claim.release()
    assert steps[-1] == "events"
    assert steps.count("events") == 1


@pytest.mark.parametrize("grace", [300.0, 0.0])
def test_without_a_lease_nothing_is_proved(put, attempt, monkeypatch, grace):
    put(NAME)
    monkeypatch.setattr(lease, "take", lambda _fd: Writer.UNKNOWN)
    refused = attempt(grace=grace)
    assert isinstance(refused, NotClaimed)
    assert refused.refusal is Reason.UNPROVEN


def test_a_sweep_hears_no_events_and_so_knows_of_no_link(put, open_spool, terms):
    put(NAME)
    assert take(open_spool(RAW), NAME, Proof.LINKED, terms()).refusal is Reason.UNPROVEN


def test_its_other_name_may_go_after_the_event_was_read(put, open_spool, terms):
    put(NAME)  # its ctime is later than the event: the last change was the other name's end
    options = terms()._replace(closed=lambda _name: False, settle=200.0)
    claim = take(open_spool(RAW), NAME, Proof.LINKED, options, 1)
    assert isinstance(claim, Claim)
    claim.release()


def test_a_file_that_watcher_puts_back_is_not_called_linked_in(
    queue, put, open_spool, terms, attempt
):
    """It was written to while it was handled, and may be written to again after a pause."""
    put(NAME)
    spool = open_spool(RAW)
    claim = take(spool, NAME, Proof.RENAMED, terms())
    with (queue / "a.csv").open("ab") as writer:
        writer.write(b" and more")
    assert not moves.remove(spool, claim.parts)
    claim.release()
    refused = attempt(closed=False)  # the kernel tells of the link that `moves` made
    assert refused.refusal is Reason.YOUNG
    assert refused.wait > 200.0  # seconds
