"""Which thread reads events: the leader, a worker between two entries, or the daemon's thread."""

from __future__ import annotations

import select
import threading
import types

import pytest

from watcher.arrive.source import Event, EventKind
from watcher.daemon import alarm, event_reader
from watcher.daemon.ready import Ready


class Given:
    """A source that has one event for each time it is read."""

    def __init__(self, descriptor):
        self.descriptor = descriptor
        self.count = 0

    def filenos(self):
        return [self.descriptor]

    def reader(self, fd):
        assert fd == self.descriptor
        return self.read

    def read(self):
        self.count += 1
        return [Event(1, EventKind.RENAMED, b"%d" % self.count)]


@pytest.fixture
def clock(monkeypatch):
    moved = types.SimpleNamespace(now=100.0)
    monkeypatch.setattr(event_reader.time, "monotonic", lambda: moved.now)
    return moved


@pytest.fixture
def woken():
    """Return a list that grows when the daemon's thread is woken."""
    return []


@pytest.fixture
def at_work(clock, woken):
    """Return a reader that a worker has just left for work, and the events that were read."""
    with open("/dev/null", "rb") as always_readable:
        source, events = Given(always_readable.fileno()), []
        reader = event_reader.EventReader(source, lambda: woken.append(True))
        reader.routes = {1: [events.extend]}
        reader.wait(Ready())
        assert [event.name for event in events] == [b"1"]
        yield reader, events


def test_between_two_entries_a_worker_reads_what_came_if_no_thread_did_for_long(clock, at_work):
    reader, events = at_work
    for moment, count in [(0.001, 1), (0.004, 1), (0.006, 2), (0.009, 2), (0.012, 3)]:
        clock.now = 100.0 + moment
        reader.begin_work()
        assert len(events) == count


def test_a_worker_does_not_wait_for_the_leader(clock, at_work):
    reader, events = at_work
    clock.now += 1
    with reader._leader:
        reader.begin_work()
    assert len(events) == 1


def test_an_idle_worker_becomes_the_leader_instead(clock, at_work):
    reader, events = at_work
    idle = Ready()
    reader._idle[idle] = 1
    clock.now += 1
    reader.begin_work()
    assert (len(events), idle._nudged) == (1, True)


def test_the_daemons_thread_leads_if_no_worker_began_an_entry_until_one_is_idle(at_work):
    reader, _events = at_work
    reader.begin_work()
    descriptors, seconds = reader.arrange()
    assert (reader._sources.descriptor in descriptors, seconds) == (False, event_reader.SOON)
    descriptors, seconds = reader.arrange()
    assert (reader._sources.descriptor in descriptors, seconds) == (True, None)
    assert reader._leader.locked()
    idle = Ready()
    reader._idle[idle] = 1
    descriptors, seconds = reader.arrange()
    assert (reader._sources.descriptor in descriptors, seconds) == (False, None)
    assert (reader._leader.locked(), idle._nudged) == (False, True)


def test_a_worker_that_finds_the_daemons_thread_leading_wakes_it(at_work, woken):
    reader, _events = at_work
    reader._daemon_leads = reader._leader.acquire()
    closed = Ready()
    closed.close()
    reader.wait(closed)
    assert woken == [True]


@pytest.fixture
def asleep(at_work):
    """Return a reader that the daemon's thread sleeps beside, because a worker was idle."""
    reader, _events = at_work
    idle = Ready()
    reader._idle[idle] = 1
    assert reader.arrange()[1] is None
    del reader._idle[idle]
    return reader


def test_the_daemons_thread_looks_after_a_while_and_not_at_once(asleep, woken):
    timer = asleep._alarm.fd
    poll = select.poll()
    poll.register(timer, select.POLLIN)
    assert not poll.poll(0)
    asleep.begin_work()
    asleep.begin_work()
    assert not woken
    assert poll.poll(10_000), "within SOON, on a machine that is not loaded"
    asleep.read(timer)
    assert not poll.poll(0)


def test_without_a_timer_the_daemons_thread_is_woken_once(asleep, woken):
    asleep._alarm.set = alarm._no_timer
    asleep.begin_work()
    asleep.begin_work()
    assert woken == [True]


def test_a_worker_that_works_alone_when_the_time_is_over_has_the_daemons_thread_lead(asleep):
    asleep.begin_work()
    asleep.arrange()
    assert asleep._daemon_leads


def test_an_event_that_was_read_is_passed_on_before_its_route_goes(woken):
    """The queue worker of that route was drained meanwhile, and its heir is told by it."""
    reading, read_on, told, ended = (threading.Event() for _ in range(4))

    class Slow(Given):
        def read_all(self):
            reading.set()
            assert read_on.wait(30)
            return self.read()

    reader = event_reader.EventReader(Slow(0), lambda: woken.append(1))
    reader.routes = {1: (lambda _events: told.set(),)}
    threading.Thread(target=reader.read_all).start()
    assert reading.wait(30)
    threading.Thread(target=lambda: (reader.replace_routes({}), ended.set())).start()
    assert not ended.wait(0.05)
    read_on.set()
    assert ended.wait(30)
    assert told.is_set()
