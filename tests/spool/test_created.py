"""What a queue knows of a file that appeared: every event up to the moment it is asked for."""

from __future__ import annotations

import os

import pytest

from watcher.arrive.source import Event, EventKind
from watcher.arrive.sources import Sources
from watcher.config.queue_settings import Queue
from watcher.daemon.canary import EventDelivery
from watcher.daemon.created import Created
from watcher.daemon.event_reader import EventReader
from watcher.daemon.pending import Pending
from watcher.daemon.queue_worker import QueueWorker
from watcher.daemon.timers import Due
from watcher.daemon.worker_loop import Context
from watcher.handle.function import Function
from watcher.rules.age import Ages, SystemClock
from watcher.rules.behind import Mode
from watcher.rules.evidence import Proof
from watcher.rules.names import Layout

NAME = b"a.csv"


@pytest.fixture
def sources():
    opened = Sources()
    yield opened
    opened.close()


@pytest.fixture
def worker(queue, sources):
    """A queue that is watched, whose threads do not run: events come when the test reads them."""
    settings = Queue(name="q", path=str(queue), format="raw", suffix="", sweep_every=3600.0)
    reader = EventReader(sources, lambda: None)
    context = Context(sources, reader, SystemClock(), print, EventDelivery(sources, reader))
    made = QueueWorker(1, settings, Function(lambda _entry: None), context)
    reader.routes = {1: (made.on_events,), None: (made.on_events,)}
    made.detector.tick()
    made.detector.tick()
    yield made
    made.drain()
    made.detector.close()


def ready(worker):
    names = []
    while len(worker.pending):
        item = worker.pending.pop()
        names.append((item.name, item.proof))
    return names


def test_a_close_that_is_queued_and_not_read_yet_counts(queue, sources, worker):
    writer = open(queue / "a.csv", "wb", buffering=0)  # noqa: SIM115 - closed in the middle
    writer.write(b"half")
    worker.on_events(sources.read_all())
    assert ready(worker) == [(NAME, Proof.LINKED)]
    assert worker._attempt.settlement.terms.closed(NAME) is False
    writer.close()
    assert worker._attempt.settlement.terms.closed(NAME) is True


def test_a_file_that_was_made_and_closed_in_one_batch_is_no_work(queue, sources, worker):
    (queue / "a.csv").write_bytes(b"in place")
    worker.on_events(sources.read_all())
    assert ready(worker) == []


def test_renames_and_links_keep_their_order(queue, sources, worker):
    for name in ("a", "b", "c", "d"):
        (queue / ".tmp").write_bytes(b"data")
        if name in "bc":
            os.link(queue / ".tmp", queue / name)
            (queue / ".tmp").unlink()
        else:
            (queue / ".tmp").rename(queue / name)
    worker.on_events(sources.read_all())
    assert [name for name, _proof in ready(worker)] == [b"a", b"b", b"c", b"d"]


def test_a_name_that_came_by_rename_and_then_anew_is_known_by_the_last(queue, sources, worker):
    (queue / ".tmp").write_bytes(b"data")
    (queue / ".tmp").rename(queue / "a.csv")
    (queue / "a.csv").unlink()
    with open(queue / "a.csv", "wb") as file:
        file.write(b"half")
        worker.on_events(sources.read_all())
        assert ready(worker) == [(NAME, Proof.LINKED)]


@pytest.mark.parametrize("kind", [EventKind.EVERYTHING, EventKind.GONE])
def test_after_events_were_lost_no_file_is_known_to_be_unclosed(worker, kind):
    worker.on_events([Event(1, EventKind.CREATED, NAME)])
    closed = worker.pending.created.closed
    assert closed(NAME) is False
    worker.on_events([Event(1, kind)])
    assert closed(NAME) is None
    worker.on_events([Event(1, EventKind.CLOSED, NAME)])
    assert closed(NAME) is True


def test_what_the_settings_before_heard_holds_unless_events_are_left_out_now():
    before, hears, deaf = Created(), Created(), Created()
    before.on_create(NAME)
    hears.take_over(before, heard=True)
    deaf.take_over(before, heard=False)
    assert (hears.closed(NAME), deaf.closed(NAME)) == (False, None)


def test_a_name_that_finds_no_room_counts_as_closed():
    created = Created(limit=2)
    for name in (b"a", b"b", b"c"):
        created.on_create(name)
    assert [created.closed(name) for name in (b"a", b"b", b"c")] == [True, False, False]
    created.forget(b"b")
    assert len(created) == 1


def test_a_close_ends_the_looks_at_a_linked_file_which_waits_for_its_age_and_no_others():
    """A sweep passes over a name that has a timer, so the close must leave one."""
    pending = Pending(Layout(b"", raw=True), Ages(SystemClock()), 300.0, lambda: 0.0)
    pending.mode = Mode.CURRENT
    for name, proof in ((b"a", Proof.LINKED), (b"b", Proof.RENAMED)):
        pending.created.on_create(name)
        pending.timers.set(name, 5.0, proof)
        pending.on_raw_events([Event(1, EventKind.CLOSED, name)], 1)
    assert pending.timers.waiting(b"a") == Due(b"a", Proof.NONE, young=True)
    assert pending.timers.next() == 5.0  # of b
    assert pending.timers.waiting(b"b") == Due(b"b", Proof.RENAMED)


def test_a_catch_up_scan_passes_over_a_linked_file_that_waits_unless_events_were_lost():
    pending = Pending(Layout(b"", raw=True), Ages(SystemClock()), 300.0, lambda: 0.0)
    pending.created.on_create(NAME)
    pending.timers.set(NAME, 5.0, Proof.LINKED, young=True)
    assert pending.in_order(NAME)
    pending.fall_behind()
    assert not pending.in_order(NAME)


def test_a_file_that_this_process_put_back_was_not_linked_in_by_a_writer(queue, worker):
    (queue.parent / "aside").write_bytes(b"written to while it was handled")
    os.link(queue.parent / "aside", queue / "a.csv")  # its event is queued, and not read yet
    worker.loop._put_back(NAME)
    assert worker._attempt.settlement.terms.closed(NAME) is True


def test_beside_another_process_a_link_may_be_its_own_and_proves_nothing(queue, worker):
    worker.on_events([Event(1, EventKind.CREATED, NAME)])
    closed = worker._attempt.settlement.terms.closed
    assert closed(NAME) is False
    (queue / ".watcher" / "inflight" / "999.another").mkdir(mode=0o700, parents=True)
    assert closed(NAME) is None


@pytest.mark.parametrize("give_up", ["lose", "stop"])
def test_a_worker_that_asks_while_the_watch_ends_is_told_that_events_are_lost(
    worker, monkeypatch, give_up
):
    """The close of a file that a worker has in hand is dropped with the watch."""
    worker.on_events([Event(1, EventKind.CREATED, NAME)])
    closed = worker._attempt.settlement.terms.closed
    assert closed(NAME) is False
    told = []
    asks = lambda _self, _tag: told.append(closed(NAME))  # noqa: E731 - one line
    monkeypatch.setattr(Sources, "disarm", asks)
    if give_up == "lose":
        worker.detector._lost("its directory is gone")
    else:
        worker.drain()
        worker.on_events([Event(1, EventKind.CREATED, NAME)])
    assert told[:1] == [None]
    assert closed(NAME) is None
