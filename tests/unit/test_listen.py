"""Who listens: a worker that has one entry after the other hears what comes meanwhile, in time."""

from __future__ import annotations

import types

import pytest

from watcher import listen
from watcher.arrive.ready import Ready
from watcher.arrive.source import Hint, Seen


class Given:
    """A source that has one hint for each time it is read."""

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
        return [Hint(1, Seen.RENAMED, b"%d" % self.count)]


@pytest.fixture
def clock(monkeypatch):
    moved = types.SimpleNamespace(now=100.0)
    monkeypatch.setattr(listen.time, "monotonic", lambda: moved.now)
    return moved


@pytest.fixture
def at_work(clock):
    """Return a listener that a worker has just left for work, and what it has heard."""
    with open("/dev/null", "rb") as always_readable:
        source, heard = Given(always_readable.fileno()), []
        listener = listen.Listener(source, heard.extend, lambda: None)
        listener.wait(Ready())
        assert [hint.name for hint in heard] == [b"1"]
        yield listener, heard


def test_between_two_entries_it_hears_what_came_if_nobody_did_for_long(clock, at_work):
    listener, heard = at_work
    for moment, count in [(0.001, 1), (0.004, 1), (0.006, 2), (0.009, 2), (0.012, 3)]:
        clock.now = 100.0 + moment
        listener.go_to_work()
        assert len(heard) == count


def test_it_does_not_wait_for_whoever_listens(clock, at_work):
    listener, heard = at_work
    clock.now += 1
    with listener._turn:
        listener.go_to_work()
    assert len(heard) == 1


def test_an_idle_worker_is_asked_instead(clock, at_work):
    listener, heard = at_work
    idle = Ready()
    listener._count(idle, 1)
    clock.now += 1
    listener.go_to_work()
    assert (len(heard), idle._nudged) == (1, True)
