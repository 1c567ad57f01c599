"""`settle`, to the nanosecond: closes begin its time, changes of the file begin the rest anew."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, strategies as st

from watcher.arrive.scan import ScanPosition
from watcher.arrive.source import Event, EventKind
from watcher.claim.take import take
from watcher.daemon.pending import Pending
from watcher.rules.age import SECOND, Ages
from watcher.rules.behind import Mode
from watcher.rules.evidence import Action, AgeLimits, Proof, Shape, Writer, rule
from watcher.rules.names import Layout
from watcher.rules.results import NotClaimed, Reason
from watcher.spool import lease
from watcher.spool.claimed import Claim, ClaimOptions

RAW = Layout(b"", raw=True)
NAME = b"a.csv"
SETTLE, GRACE = 10.0, 300.0
CLOSED = Event(1, EventKind.CLOSED, NAME)


class Clock:
    """Both clocks, which the test sets (nanoseconds)."""

    def __init__(self):
        self.now = 1_000 * SECOND

    def real(self):
        return self.now

    def mono(self):
        return self.now


# -- the claim ----------------------------------------------------------------------------------


@pytest.fixture
def after(queue, open_spool):
    """Take the file so many seconds after its last change; release the claim."""

    def attempt(seconds, proof=Proof.CLOSED, grace=GRACE):
        clock = Clock()
        clock.now = os.stat(queue / "a.csv").st_ctime_ns + round(seconds * SECOND)
        result = take(open_spool(RAW), NAME, proof, ClaimOptions(grace, Ages(clock), settle=SETTLE))
        if isinstance(result, Claim):
            result.release()
        return result

    return attempt


@pytest.mark.parametrize("proof", [Proof.CLOSED, Proof.NONE, Proof.NO_WRITER])
def test_a_file_is_taken_when_it_was_unchanged_for_so_long_and_not_before(queue, after, proof):
    (queue / "a.csv").write_bytes(b"data")
    os.utime(queue / "a.csv", (1, 1))  # a scan without `settle` would call it finished
    early = after(SETTLE - 0.001, proof)
    assert early.refusal is Reason.YOUNG
    assert early.wait == pytest.approx(0.001)
    assert isinstance(after(SETTLE, proof), Claim)


def test_a_time_that_is_set_afterwards_begins_the_rest_anew(queue, after):
    (queue / "a.csv").write_bytes(b"data")
    before = os.stat(queue / "a.csv").st_ctime_ns
    while os.stat(queue / "a.csv").st_ctime_ns == before:
        os.utime(queue / "a.csv", (1, 1))
    assert after(SETTLE - 1).wait == pytest.approx(1)


def test_while_it_is_open_it_is_left_and_its_next_close_brings_it_back(queue, after):
    (queue / "a.csv").write_bytes(b"data")
    with open(queue / "a.csv", "ab"):
        refused = after(1e6)
    assert (refused.refusal, refused.proof) == (Reason.WRITER, Proof.NONE)


@pytest.mark.parametrize("grace", [GRACE, SETTLE / 2])
def test_without_a_lease_it_waits_for_its_grace_age_too(queue, after, monkeypatch, grace):
    (queue / "a.csv").write_bytes(b"data")
    monkeypatch.setattr(lease, "take", lambda _fd: Writer.UNKNOWN)
    until = max(SETTLE, grace)
    early = after(until - 1, grace=grace)
    assert isinstance(early, NotClaimed)
    assert (early.refusal, early.wait) == (Reason.YOUNG, pytest.approx(1))
    assert isinstance(after(until, grace=grace), Claim)


# -- the events ---------------------------------------------------------------------------------


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def pending(clock):
    made = Pending(RAW, Ages(clock), GRACE, lambda: clock.now / SECOND, SETTLE)
    made.mode = Mode.CURRENT
    return made


def due_after(pending, clock):
    """Return in how many seconds the next name is given out."""
    return pending.timers.next() - clock.now / SECOND


def test_each_close_begins_the_time_anew(pending, clock):
    pending.on_raw_events([CLOSED], 1)
    assert pending.tick_due
    for _ in range(3):
        clock.now += 9 * SECOND
        pending.add_due(clock.now / SECOND)
        assert not len(pending)
        pending.on_raw_events([CLOSED], 1)
        assert due_after(pending, clock) == SETTLE
    clock.now += 10 * SECOND
    pending.add_due(clock.now / SECOND)
    assert pending.pop() == (NAME, Proof.CLOSED, 0)
    assert not len(pending.timers)


def test_a_file_that_is_renamed_over_it_is_not_waited_for(pending):
    pending.on_raw_events([CLOSED, Event(1, EventKind.RENAMED, NAME)], 1)
    assert pending.pop().proof is Proof.RENAMED
    assert not len(pending.timers)


def test_a_renamed_file_that_was_open_still_waits_for_its_next_look(pending):
    pending.timers.set(NAME, 1_001.0, Proof.RENAMED, 7)
    pending.on_raw_events([CLOSED], 1)
    assert pending.timers.next() == 1_001.0
    pending.add_due(1_001.0)
    assert pending.pop() == (NAME, Proof.RENAMED, 7)


def test_a_temporary_file_has_no_time_of_its_own(pending):
    pending.on_raw_events([CLOSED._replace(name=b".a.csv"), CLOSED._replace(name=b"a.tmp")], 1)
    assert not len(pending.timers)


def test_a_sweep_waits_for_settle_and_not_for_the_grace_age(pending, clock):
    assert pending.found(ScanPosition(clock.now - 3 * SECOND, NAME), Proof.NONE) == 7.0
    assert due_after(pending, clock) == 7.0
    assert pending.found(ScanPosition(clock.now - 10 * SECOND, b"old"), Proof.NONE) == 0.0
    assert pending.pop().name == b"old"


def test_without_the_option_a_close_is_no_reason_to_look(clock):
    pending = Pending(RAW, Ages(clock), GRACE, lambda: 0.0)
    pending.mode = Mode.CURRENT
    pending.on_raw_events([CLOSED], 1)
    assert not len(pending.timers)
    assert not len(pending)


def test_new_settings_judge_a_file_that_waits_by_their_own_settle(pending, clock):
    pending.on_raw_events([CLOSED], 1)
    heir = Pending(RAW, Ages(clock), GRACE, lambda: clock.now / SECOND, 2.0)
    heir.take_over(pending)
    assert not heir.in_order(NAME)  # so the scan of the new settings finds it


# -- every order --------------------------------------------------------------------------------

STEPS = st.sampled_from(["open", "write", "close", "chmod", "sweep"])
PAUSES = st.sampled_from([0.0, 1.0, SETTLE / 2, SETTLE - 0.5, SETTLE, SETTLE + 1])


class Play:
    """One file, its writer, and a daemon with a clock that the test moves on."""

    def __init__(self):
        self.clock = Clock()
        self.pending = Pending(
            RAW, Ages(self.clock), GRACE, lambda: self.clock.now / SECOND, SETTLE
        )
        self.pending.mode = Mode.CURRENT
        self.open = self.made = self.taken = False
        self.changed = self.closed = -1e9

    @property
    def now(self):
        return self.clock.now / SECOND

    def step(self, what):
        """Let the writer, or a sweep, do its next step if it can be."""
        if what == "open" and not self.open:
            self.open = True
            if not self.made:
                self.made, self.changed = True, self.now
                self.pending.on_raw_events([Event(1, EventKind.CREATED, NAME)], 1)
                self.pending.pop()  # its writer has it open: nothing is proved
                self.pending.finish(NAME)
        elif what == "close" and self.open:
            self.open, self.closed = False, self.now
            self.pending.on_raw_events([CLOSED], 1)
        elif (what == "write" and self.open) or (what == "chmod" and self.made):
            self.changed = self.now
        elif what == "sweep" and self.made and not self.pending.known(NAME):
            self.pending.found(ScanPosition(round(self.changed * SECOND), NAME), Proof.NONE)
        self.work()

    def wait(self, seconds):
        """Move the clock on, and stop at each moment at which something is due."""
        until = self.clock.now + round(seconds * SECOND)
        while (due := self.pending.timers.next()) is not None and due * SECOND <= until:
            self.clock.now = max(self.clock.now, round(due * SECOND))
            self.pending.add_due(self.now)
            self.work()
        self.clock.now = until

    def work(self):
        """Do what a worker does with each name that is given out."""
        while len(self.pending) and not self.taken:
            proof = self.pending.pop().proof
            writer = Writer.SOME if self.open else Writer.NONE
            age = self.now - self.changed
            decided = rule(Shape.WHOLE, proof, writer, age, AgeLimits(GRACE, SETTLE))
            self.pending.finish(NAME)
            if decided.action is Action.TAKE:
                assert not self.open
                assert self.now - self.closed >= SETTLE - 1e-6
                assert self.now - self.changed >= SETTLE - 1e-6
                self.taken = True
            elif decided.action is Action.WAIT:
                self.pending.timers.set(NAME, self.now + decided.wait, proof, young=True)


@given(st.lists(st.tuples(STEPS, PAUSES), max_size=14))
def test_in_no_order_is_a_file_taken_before_its_time_or_forgotten(steps):
    play = Play()
    for what, pause in steps:
        if play.taken:
            return
        play.step(what)
        play.wait(pause)
    if play.made and not play.taken:
        play.step("close")
        play.wait(3 * SETTLE)
        assert play.taken
