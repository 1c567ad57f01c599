"""Deferred entries by the moment they fall due: the earliest, bounded, each once."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, strategies as st

from watcher.daemon.deferred import Deferred
from watcher.rules.names import DEFERRED, Layout
from watcher.rules.stamp import Schedule, stamped

BEGAN = 1_795_431_193  # seconds since the epoch
LIMIT = 8


class Hands:
    """Clocks that stand where they were put."""

    def __init__(self):
        self.lived = 0.0
        self.stepped = 0.0

    def real(self):
        return round((BEGAN + self.lived + self.stepped) * 1000) * 1_000_000

    def mono(self):
        return round(self.lived * 1000) * 1_000_000


class Entries:
    """A directory of deferred entries, and a runner that takes each when it is due."""

    def __init__(self, directory):
        self.directory = directory
        self.clock = Hands()
        self.deferred = Deferred(Layout(), self.clock, LIMIT)
        self.fd = os.open(directory, os.O_RDONLY)
        self.listed = 0

    def put(self, due, number=0, delay=3600.0):
        """Put down an entry; return its name."""
        schedule = Schedule((BEGAN + due) * 1000, 1, 0, delay)
        name = stamped(schedule, b"%d" % number, b".pck")
        os.close(os.open(name, os.O_CREAT | os.O_WRONLY, dir_fd=self.fd))
        return DEFERRED + name

    def list(self):
        self.listed += 1
        self.deferred.list_all(self.fd, lambda _name: False)

    def tick(self, room=3):
        """Do as the daemon does at a moment; return what is taken."""
        if self.deferred.wants_listing():
            self.list()
        taken = self.deferred.take(self.clock.lived, room)
        for name in taken:
            os.unlink(name.removeprefix(DEFERRED), dir_fd=self.fd)
        assert len(self.deferred) <= LIMIT
        return taken


@pytest.fixture
def entries(tmp_path):
    made = Entries(tmp_path)
    yield made
    os.close(made.fd)


@given(st.lists(st.tuples(st.integers(0, 99), st.booleans()), max_size=40))
def test_each_is_taken_once_at_its_moment_whatever_the_order(tmp_path_factory, wanted):
    entries = Entries(tmp_path_factory.mktemp("deferred"))
    names = {}
    for number, (due, _told) in enumerate(wanted):
        names[entries.put(due, number)] = due
    entries.list()
    for name, (_due, told) in zip(list(names), wanted, strict=True):
        if told:
            entries.deferred.add(name)  # by an event that comes when it is known already
    ticks = 0
    while (moment := entries.deferred.next()) is not None:
        entries.clock.lived = max(entries.clock.lived, moment)
        for name in entries.tick():
            assert names.pop(name) == entries.clock.lived
        ticks += 1
        assert ticks <= 2 * len(wanted) + 2, "no moment comes again and again"
    assert names == {}
    os.close(entries.fd)


def test_one_that_is_earlier_than_a_full_backlog_comes_at_its_moment(entries):
    for number in range(2 * LIMIT):
        entries.put(1000 + number, number)
    entries.list()
    assert entries.deferred.add(entries.put(30)), "the earliest: a thread must wake for it"
    assert entries.deferred.next() == 30
    entries.clock.lived = 30.0
    assert len(entries.tick()) == 1
    assert entries.deferred.next() > 30


def test_a_backlog_that_is_due_is_not_listed_for_every_few_that_are_taken(entries):
    for number in range(4 * LIMIT):
        entries.put(-10, number)
    taken = 0
    entries.list()
    while entries.deferred.next() is not None:
        taken += len(entries.tick(room=1))
    assert taken == 4 * LIMIT
    assert entries.listed <= 4 * LIMIT // (LIMIT // 2) + 1


def test_a_step_of_the_clock_parks_nothing_and_makes_nothing_due(entries):
    waits = entries.put(100, 1, delay=100.0)
    entries.deferred.add(waits)
    entries.clock.stepped = 10_000.0
    assert entries.tick() == []
    far = entries.put(10_000_000, 2, delay=30.0)  # stamped by a clock far ahead
    entries.deferred.add(far)
    assert entries.deferred.next() == 30
    entries.clock.stepped = -10_000.0
    entries.clock.lived = 100.0
    assert entries.tick() == [far, waits]
