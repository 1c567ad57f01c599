"""Several entries in one call of a handler: what is called, and what becomes of each."""

from __future__ import annotations

import errno
import faulthandler
import os
from collections import Counter

import pytest

from watcher.attempt import Attempt, Begun
from watcher.batch import Batch
from watcher.handle.batch_handler import BatchResult
from watcher.handle.function import FunctionBatch
from watcher.handle.handler import Reject, Retry
from watcher.recovery import recover
from watcher.rules.age import Ages, SystemClock
from watcher.rules.batch_split import MOST_FAILURES
from watcher.rules.evidence import Proof
from watcher.rules.lifecycle import State
from watcher.rules.names import DEFERRED, Layout
from watcher.rules.results import AttemptEnd, HandlerResult, Verdict
from watcher.rules.retry import Policy
from watcher.rules.stamp import parse
from watcher.settle.finish import Finisher
from watcher.settle.refused import DiskRetry
from watcher.spool import abort_request, last_words, ledger
from watcher.spool.abort_request import AbortRequest
from watcher.spool.claimed import ClaimOptions
from watcher.sweep import Limits, Sweep, SweepOptions

RAW = Layout(b"", raw=True)
HUNDRED = [b"%03d" % number for number in range(100)]


@pytest.fixture
def spool(open_spool):
    return open_spool(RAW)


def settle_by():
    policy, clock = Policy(initial=0.001), SystemClock()
    patience = DiskRetry(lambda _seconds: False, lambda _text: None)
    terms = ClaimOptions(0.0, Ages(clock))
    return Finisher("q", terms, policy, clock, lambda _record: None, patience)


class Function:
    """A function that fails for bad entries; it keeps what it was called with."""

    def __init__(self, *bad, error=ValueError):
        self.bad, self.error = set(bad), error
        self.calls = []
        self.handled = Counter()

    def __call__(self, entries):
        names = [entry.name for entry in entries]
        self.calls.append(names)
        if self.bad.intersection(names):
            raise self.error("bad")
        self.handled.update(names)


def run(spool, names, handler, **more):
    """Attempt these entries in one batch; return the reports by name, and the attempts."""
    attempt = Attempt(handler, settle_by())
    reports = {}

    def settled(begun, report):
        assert begun.claim.name not in reports, "settled twice"
        reports[begun.claim.name] = report

    batch = Batch(attempt, handler, settled, **more)
    for name in names:
        begun = attempt.begin(spool, name, Proof.NONE, number=batch.number)
        assert isinstance(begun, Begun), begun
        batch.add(begun)
    try:
        batch.run()
    finally:
        batch.let_go()
    assert attempt.in_hand == {}
    return reports, attempt


def function(called, **more):
    return FunctionBatch(called, None, 1000, **more)


def deferred(files):
    """Return the schedules of the deferred entries by their names."""
    found = [parse(name) for name in files(State.DEFERRED) if b".json" not in name]
    return {name: schedule for schedule, name in filter(None, found)}


def test_one_bad_entry_of_a_hundred_is_alone_in_the_end(spool, put, files):
    for name in HUNDRED:
        put(name, b"the " + name)
    called = Function("037")
    reports, _ = run(spool, HUNDRED, function(called))
    assert len(called.calls) <= 15
    assert ["037"] in called.calls
    assert called.handled == Counter(os.fsdecode(name) for name in HUNDRED if name != b"037")
    assert files() == {}
    ((name, schedule),) = deferred(files).items()
    assert (name, schedule.attempts, schedule.crashes) == (b"037", 1, 0)
    ends = Counter(report.result for report in reports.values())
    assert ends == {AttemptEnd.DONE: 99, AttemptEnd.DEFERRED: 1}


@pytest.mark.parametrize("error", [ValueError, Reject, Retry])
def test_if_everything_fails_few_calls_are_made_and_each_entry_counts_one_attempt(
    spool, put, files, error
):
    for name in HUNDRED[:20]:
        put(name, name)
    called = Function(*map(os.fsdecode, HUNDRED[:20]), error=error)
    run(spool, HUNDRED[:20], function(called))
    assert len(called.calls) == MOST_FAILURES
    assert {s.attempts for s in deferred(files).values()} == {1}
    assert len(deferred(files)) == 20


def test_only_an_entry_that_was_alone_is_rejected(spool, put, files):
    """Four bad entries, one in each quarter: the good ones were rejected with them."""
    twenty = HUNDRED[:20]
    for name in twenty:
        put(name, name)
    bad = ("003", "008", "012", "017")
    called = Function(*bad, error=Reject)
    run(spool, twenty, function(called))
    assert len(called.calls) == MOST_FAILURES
    again = sorted(name for name in files(State.DEFERRED) if b".json" not in name)
    assert len(again) == 20
    run(spool, [DEFERRED + name for name in again], function(called))
    assert called.handled == Counter(os.fsdecode(name) for name in twenty) - Counter(bad)
    dead = {os.fsdecode(name) for name in files(State.DEAD) if b".json" not in name}
    assert dead == set(bad)


def test_entries_keep_their_order_and_a_second_attempt_has_few_others(spool, put, files):
    for name in HUNDRED[:6]:
        put(name, name)
    run(spool, HUNDRED[:6], function(Function(*map(os.fsdecode, HUNDRED[:6]))))
    again = sorted(name for name in files(State.DEFERRED) if b".json" not in name)
    for name in HUNDRED[6:9]:
        put(name, name)
    called = Function()
    names = [HUNDRED[6], *(DEFERRED + name for name in again), HUNDRED[7], HUNDRED[8]]
    run(spool, names, function(called))
    assert called.calls[0] == ["006", "007", "008"]
    assert [len(call) for call in called.calls[1:]] == [4, 2]
    assert set(called.handled.values()) == {1}
    assert files() == deferred(files) == {}


def test_each_entry_is_settled_by_the_word_that_was_returned_for_it(spool, put, files):
    for name in (b"a", b"b", b"c", b"d"):
        put(name, name)
    handler = function(lambda _entries: [None, Retry("later", after=60), Reject("never"), 5])
    reports, _ = run(spool, [b"a", b"b", b"c", b"d"], handler)
    assert [reports[name].result for name in (b"a", b"b", b"c", b"d")] == [
        AttemptEnd.DONE,
        AttemptEnd.DEFERRED,
        AttemptEnd.REJECTED,
        AttemptEnd.DEFERRED,
    ]
    assert deferred(files)[b"b"].delay == 60
    assert "returned int for it" in reports[b"d"].why


@pytest.mark.parametrize("returned", [[None], (None, None), 2, True, "ab", {}])
def test_what_is_no_list_of_results_settles_nothing_as_done(spool, put, returned):
    put(b"a")
    put(b"b")
    calls = []
    reports, _ = run(spool, [b"a", b"b"], function(lambda _: calls.append(1) or returned))
    assert {report.result for report in reports.values()} == {AttemptEnd.DEFERRED}
    assert calls == [1], "no other call would return anything else"


def test_an_entry_that_was_in_hand_when_a_process_died_is_called_alone(spool, put, files):
    names = HUNDRED[:5]
    for name in names:
        put(name, name)
    pid = os.fork()
    if pid == 0:
        faulthandler.disable()  # pytest's
        last_words._armed.clear()  # its parent's
        run(spool_of(spool), names, function(lambda _entries: os._exit(1)))
    os.waitpid(pid, 0)
    found = recover(spool, settle_by())
    assert found.entries == 5
    assert {(s.attempts, s.crashes) for s in deferred(files).values()} == {(1, 1)}
    put(b"new", b"new")
    called = Function()
    again = [DEFERRED + name for name in files(State.DEFERRED) if b".json" not in name]
    run(spool, [*sorted(again), b"new"], function(called))
    assert called.calls == [["new"], *([os.fsdecode(name)] for name in names)]


def test_of_entries_that_were_in_hand_at_a_death_the_next_one_counts_one_alone(spool, put, files):
    """Killed three times in an outage, a daemon made poison of all that it had in hand."""
    for name in HUNDRED[:5]:
        put(name, name)
    for _death in range(2):
        pid = os.fork()
        if pid == 0:
            faulthandler.disable()
            last_words._armed.clear()
            sweep(spool_of(spool), function(lambda _entries: os._exit(1)))
        os.waitpid(pid, 0)
        recover(spool, settle_by())
    assert sorted(s.crashes for s in deferred(files).values()) == [1, 1, 1, 1, 2]


def spool_of(spool):
    """Open the same queue in a process of its own."""
    return type(spool)(spool.path, spool.layout)


class Answering:
    """A handler that answers each call with the next of some results."""

    def __init__(self, *results, within=None):
        self.most, self.wait = 100, 0.0
        self.results = list(results)
        self.calls = []
        self.within = within

    def run(self, entry):
        return self.run_batch([entry]).whole

    def run_batch(self, entries):
        self.calls.append([entry.name for entry in entries])
        if self.within is not None:
            self.within(entries)
        result = self.results.pop(0)
        return result if isinstance(result, BatchResult) else BatchResult(result, {})

    def terminate(self):
        pass


FAILED = HandlerResult(Verdict.RETRY, "exit status 1")
DONE = HandlerResult(Verdict.DONE)


def test_what_all_have_to_wait_for_is_not_split(spool, put, files):
    short = HandlerResult(Verdict.RETRY, "no process to be had", attempted=False)
    for result in (
        BatchResult(short, {}, unsplit=True),
        BatchResult(HandlerResult(Verdict.STOPPED, "stopped at once", ran=False), {}, unsplit=True),
    ):
        put(b"a")
        put(b"b")
        handler = Answering(result)
        run(spool, [b"a", b"b"], handler)
        assert len(handler.calls) == 1
        assert set(files()) == {b"a", b"b"}
        assert deferred(files) == {}


def test_words_count_although_the_call_failed_and_only_the_rest_is_called_again(spool, put, files):
    for name in HUNDRED[:6]:
        put(name, name)
    handler = Answering(BatchResult(FAILED, dict.fromkeys(range(4), DONE)), DONE, FAILED)
    reports, _ = run(spool, HUNDRED[:6], handler)
    assert handler.calls[1:] == [["004"], ["005"]]
    assert reports[b"005"].result is AttemptEnd.DEFERRED
    assert files() == {}


def test_an_aborted_entry_is_settled_at_once_and_the_others_are_called_again(spool, put, files):
    for name in HUNDRED[:4]:
        put(name, name)

    def abort(entries):
        if len(handler.calls) == 1:
            part = entries[1].parts[0]
            abort_request.write(spool.process_dir.fd, part.ino, part.ctime_ns, AbortRequest("root"))

    handler = Answering(FAILED, DONE, within=abort)
    reports, attempt = run(spool, HUNDRED[:4], handler)
    assert handler.calls[1:] == [["000", "002", "003"]]
    assert "root" in reports[b"001"].why
    assert attempt.breaker.in_a_row == 0
    assert set(deferred(files)) == {b"001"}


def test_after_the_end_was_asked_for_no_other_call_begins(spool, put, files):
    for name in HUNDRED[:4]:
        put(name, name)
    ending = []
    handler = Answering(FAILED, within=lambda _entries: ending.append(True))
    reports, _ = run(spool, HUNDRED[:4], handler, ending=lambda: bool(ending))
    assert len(handler.calls) == 1
    assert {report.result for report in reports.values()} == {AttemptEnd.STOPPED}
    assert set(files()) == set(HUNDRED[:4])
    assert deferred(files) == {}


def test_a_file_that_went_or_was_replaced_meanwhile_is_no_loss(spool, put, files, queue):
    for name in HUNDRED[:3]:
        put(name, name)

    def meddle(_entries):
        (queue / "000").unlink()
        (queue / ".new").write_bytes(b"replaced")
        (queue / ".new").rename(queue / "001")

    reports, _ = run(spool, HUNDRED[:3], Answering(DONE, within=meddle))
    assert files() == {b"001": b"replaced"}
    assert reports[b"002"].result is AttemptEnd.DONE


def test_whatever_is_raised_every_claim_is_given_up(spool, put, files):
    for name in HUNDRED[:3]:
        put(name, name)
    with pytest.raises(ZeroDivisionError):
        run(spool, HUNDRED[:3], Answering(within=lambda _entries: 1 // 0))
    reports, _ = run(spool, HUNDRED[:3], Answering(DONE))
    assert {report.result for report in reports.values()} == {AttemptEnd.DONE}
    assert files() == {}


def test_the_ledger_names_every_entry_in_hand_and_none_that_was_let_go(spool, put):
    many = [b"%04d" % number for number in range(ledger.SLOTS + 2)]
    for name in many:
        put(name, name)
    seen = []

    def look(_entries):
        seen.append({slot.name for slot in ledger.read(spool.process_dir.fd)})

    failed = BatchResult(FAILED, {}, unsplit=True)
    run(spool, many, Answering(failed, within=look))
    assert seen == [set(many)]
    assert ledger.read(spool.process_dir.fd) == []
    assert spool.ledger.trouble == ""


def sweep(spool, handler, **limits):
    """Sweep; return what became of each entry, in order, and the summary."""
    orders = SweepOptions("q", ClaimOptions(0.0, Ages(SystemClock())), Policy(initial=1000.0))
    swept = Sweep(spool, orders, handler, Limits(**limits))
    lines = [(line.name, line.report.result) for line in swept.lines(lambda _told: None)]
    return lines, swept.summary


def test_a_sweep_by_hand_calls_in_batches_up_to_its_limit(spool, put, files):
    for name in HUNDRED[:25]:
        put(name, name)
    called = Function("003")
    handler = FunctionBatch(called, None, 10)
    lines, summary = sweep(spool, handler, entries=14)
    assert len(lines) == 14
    assert not summary.complete
    assert max(len(call) for call in called.calls) == 10
    assert set(files()) == set(HUNDRED[14:25])
    lines, summary = sweep(spool, handler)
    assert [name for name, _ in lines] == HUNDRED[14:25]
    assert summary.complete
    assert called.handled == Counter(os.fsdecode(n) for n in HUNDRED[:25] if n != b"003")
    assert set(deferred(files)) == {b"003"}


def test_a_sweep_that_is_to_end_begins_no_other_call_of_a_split(spool, put, files):
    for name in HUNDRED[:4]:
        put(name, name)
    orders = SweepOptions("q", ClaimOptions(0.0, Ages(SystemClock())), Policy())
    handler = Answering(FAILED, within=lambda _entries: swept.end_early())
    swept = Sweep(spool, orders, handler, Limits())
    assert {line.report.result for line in swept.lines(lambda _told: None)} == {AttemptEnd.STOPPED}
    assert len(handler.calls) == 1
    assert set(files()) == set(HUNDRED[:4])


def test_a_sweep_with_a_handler_that_is_not_there_ends_and_counts_nothing(spool, put, files):
    for name in HUNDRED[:5]:
        put(name, name)
    missing = HandlerResult(Verdict.MISCONFIGURED, "no such command", ran=False)
    handler = Answering(BatchResult(missing, {}, unsplit=True))
    lines, _ = sweep(spool, handler)
    assert {result for _, result in lines} == {AttemptEnd.MISCONFIGURED}
    assert set(files()) == set(HUNDRED[:5])


def test_a_full_disk_keeps_the_ledger_short_for_as_long_as_it_is_full(spool, put, monkeypatch):
    many = [b"%04d" % number for number in range(2 * ledger.SLOTS + 2)]
    for name in many:
        put(name, name)
    attempt = Attempt(Answering(), settle_by())
    begun = [attempt.begin(spool, many[0], Proof.NONE)]

    def full(*_arguments):
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patched:
        patched.setattr(ledger.os, "posix_fallocate", full)
        for number, name in enumerate(many[1:-1], 1):
            begun.append(attempt.begin(spool, name, Proof.NONE, number=number))
        assert "full" in spool.ledger.trouble
        assert len(ledger.read(spool.process_dir.fd)) == ledger.SLOTS
    begun.append(attempt.begin(spool, many[-1], Proof.NONE, number=len(begun)))
    assert spool.ledger.trouble == ""
    assert many[-1] in {slot.name for slot in ledger.read(spool.process_dir.fd)}
    for one in begun:
        attempt.let_go(one)
