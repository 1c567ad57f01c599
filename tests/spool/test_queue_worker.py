"""What a worker does about a bug of ours, and about an entry that is too large."""

from __future__ import annotations

import fcntl
import os
import types

import pytest

from watcher.arrive.source import Event, EventKind
from watcher.arrive.sources import Sources
from watcher.attempt import Attempt
from watcher.config.queue_settings import Queue
from watcher.daemon.canary import EventDelivery
from watcher.daemon.event_reader import EventReader
from watcher.daemon.queue_worker import QueueWorker
from watcher.daemon.ready import Item
from watcher.daemon.worker_loop import Context, WorkerLoop
from watcher.handle.function import Function
from watcher.recovery import Deaths
from watcher.rules.age import Ages, SystemClock
from watcher.rules.evidence import Proof
from watcher.rules.lifecycle import State
from watcher.rules.names import Layout
from watcher.rules.results import AttemptEnd
from watcher.rules.retry import Policy
from watcher.rules.sight import Sight
from watcher.settle.finish import Finisher
from watcher.settle.refused import DiskRetry
from watcher.spool import ledger
from watcher.spool.claimed import ClaimOptions


def test_a_bug_of_ours_costs_one_attempt_and_not_the_worker(caplog):
    def broken(*_arguments):
        raise RuntimeError("ours")

    worker = types.SimpleNamespace(
        detector=types.SimpleNamespace(watch=types.SimpleNamespace(spool=object())),
        returning=types.SimpleNamespace(names={}),
        _deaths=Deaths(),
        follow_up=types.SimpleNamespace(looks={}),
        trigger=None,
    )
    report = WorkerLoop.attempt_safely(worker, Item(b"x.pck", Proof.NONE), broken)
    assert (report.result, report.why) == (AttemptEnd.STUCK, "x.pck: RuntimeError: ours")


@pytest.mark.parametrize("size", [10, 11])
def test_an_entry_beyond_the_largest_size_is_out_of_the_way_with_its_reason(
    open_spool, put, files, size
):
    put(b"X.pck", b"x" * size)
    clock, given = SystemClock(), []
    patience = DiskRetry(lambda _seconds: False, lambda _text: None)
    terms = ClaimOptions(0.0, Ages(clock), 10)
    settlement = Finisher("q", terms, Policy(), clock, lambda _told: None, patience)
    attempt = Attempt(Function(lambda entry: given.append(entry.message)), settlement)
    report = attempt(open_spool(), b"X.pck", Proof.RENAMED)
    assert report.result is AttemptEnd.REJECTED
    assert ("more than the 10 allowed" in report.why) == (size > 10)
    assert files(State.DEAD)[b"X.pck"] == b"x" * size
    assert given == []


@pytest.mark.parametrize(
    ("grace", "result"), [(300.0, AttemptEnd.YOUNG), (0.0, AttemptEnd.REJECTED)]
)
def test_what_no_rename_was_seen_of_is_not_called_damaged_before_its_age(
    open_spool, put, files, grace, result
):
    """A writer that writes in place may have closed it for a moment: the rest is still to come."""
    put(b"X.pck", b"the first half")
    clock, patience = SystemClock(), DiskRetry(lambda _seconds: False, lambda _text: None)
    terms = ClaimOptions(grace, Ages(clock))
    settlement = Finisher("q", terms, Policy(), clock, lambda _told: None, patience)
    attempt = Attempt(Function(lambda entry: entry.message), settlement)
    report = attempt(open_spool(), b"X.pck", Proof.NO_WRITER)
    assert report.result is result
    place = None if result is AttemptEnd.YOUNG else State.DEAD
    assert files(place)[b"X.pck"] == b"the first half"


@pytest.fixture
def runners(queue):
    """Make a runner of the queue with settings of its own; all end before the sources close."""
    sources, made = Sources(), []
    reader = EventReader(sources, lambda: None)
    delivery = EventDelivery(sources, reader)
    context = Context(sources, reader, SystemClock(), lambda _tag: None, delivery)

    def make(tag, grace_age):
        settings = Queue(name="q", path=str(queue), format="raw", suffix="", grace_age=grace_age)
        made.append(QueueWorker(tag, settings, Function(lambda _entry: None), context))
        return made[-1]

    yield make
    for worker in made:
        worker.drain()
        while not worker.wait_drained(1.0):  # its threads may be reading events
            pass
    sources.close()


def test_a_hint_that_was_read_before_a_reload_goes_to_the_settings_after(runners):
    before, after = runners(1, 60.0), runners(2, 61.0)
    after.take_over(before)
    before.on_events([Event(1, EventKind.RENAMED, b"report")])
    assert len(after.pending) == 1
    assert after.pending.pop()[:2] == (b"report", Proof.RENAMED)


def test_a_death_is_counted_before_a_worker_takes_what_its_handler_let_go_of(
    runners, open_spool, queue
):
    """The handler of a process that was killed works on, with the claim; a sweep comes later."""
    (queue / "report").write_bytes(b"x")
    status = (queue / "report").stat()
    left = queue / ".watcher/inflight/1.dead"
    left.mkdir(parents=True)
    (queue / ".watcher").chmod(0o700)
    line = b"%d %d queue/report\n" % (status.st_ino, status.st_ctime_ns)
    (left / ".ledger").write_bytes(line.ljust(ledger.SLOT, b"\0"))
    runner = runners(1, 60.0)
    spool = runner.detector.watch.spool = open_spool(Layout(b"", raw=True))
    with open(queue / "report", "rb") as claimed:
        fcntl.flock(claimed, fcntl.LOCK_EX)
        assert runner._recover(spool).uncounted == {b"report"}
    runner.pending.push(b"report", Proof.RENAMED)
    item, attempt = runner.pending.pop(), runner._attempt
    assert runner.loop.attempt_safely(item, attempt).result is AttemptEnd.GONE
    (name,) = [name for name in os.listdir(queue / ".watcher/deferred") if name[:1] != "."]
    assert "-a1-c1-" in name
    assert not left.exists()


def test_a_blind_queue_stays_blind_through_a_reload(runners):
    before, after = runners(1, 300.0), runners(2, 200.0)
    before.detector.tick()
    before._canary._begin(Sight.DEAF, before.detector.now())
    after.take_over(before)
    assert after.health.has("blind watch")
    assert after.detector.blind


def test_a_blind_queue_finds_by_a_scan_what_no_event_told_of(runners, queue):
    worker = runners(1, 300.0)
    worker._workers.stop()  # no thread of it reads the event, nor takes the entry
    for _ in range(2):
        worker.tick()
    (queue / "new.tmp").write_bytes(b"x")
    (queue / "new.tmp").rename(queue / "stolen.csv")
    os.read(worker.detector.watch._sources.instance.fileno(), 1 << 16)
    worker.tick()
    assert not worker.pending.known(b"stolen.csv")
    delivery, canary = worker._canary._delivery, worker._canary
    delivery.deaf, delivery._in_a_row, canary._with_sweep, canary._due = True, 1, False, 0.0
    worker.tick()
    worker.tick()
    assert worker.health.has("blind watch")
    assert worker.pending.known(b"stolen.csv")


def test_an_entry_that_is_slow_to_be_claimed_is_published_when_it_is_in_hand(runners, queue):
    """Its worker wakes the daemon's thread once, before the claim; on a loaded machine too soon."""
    worker = runners(1, 300.0)
    worker._workers.stop()
    for _ in range(2):
        worker.tick()
    now = worker.detector.now()
    assert worker.tick() > now + 10
    worker.pending.push(b"report", Proof.RENAMED)
    item = worker.pending.pop()
    now = worker.detector.now()
    assert worker.tick() < now + 2
    worker.pending.finish(item.name)
    assert worker.tick() > now + 10
