"""A canary that gives no event makes its inotify instance deaf, and nothing else does."""

from __future__ import annotations

import errno
import os

import pytest

from watcher.arrive.source import EventKind
from watcher.arrive.sources import Sources
from watcher.daemon.canary import ENOUGH, SOON, EventDelivery
from watcher.daemon.event_reader import EventReader
from watcher.rules.names import Layout
from watcher.spool import canary_file
from watcher.spool.process_dir import process_dir_for
from watcher.spool.spool import Spool

TAG = 3


class Stage:
    """One watched queue, and the events that reach it."""

    def __init__(self, queue):
        self.queue = queue
        self.spool = Spool(os.fsencode(queue), Layout())
        self.sources = Sources()
        self.sources.arm(TAG, self.spool, "inotify")
        self.events = []
        self.reader = EventReader(self.sources, lambda: None)
        self.reader.routes = {TAG: [self.events.extend], None: [self.events.extend]}
        self.delivery = EventDelivery(self.sources, self.reader)
        self.now = 100.0

    def send(self):
        return self.delivery.send(self.spool, self.now)

    def look(self):
        self.now += SOON
        self.delivery.look(self.now)
        return self.delivery.deaf

    def steal(self):
        """Take the events away, as a process that has the descriptor too."""
        return os.read(self.sources.instance.fileno(), 1 << 16)

    def names(self):
        """Return the names of which events told."""
        self.reader.read_all()
        return {event.name for event in self.events if event.seen is EventKind.RENAMED}

    def commit(self, name):
        (self.queue / "new.tmp").write_bytes(b"x")
        (self.queue / "new.tmp").rename(self.queue / name)


@pytest.fixture
def stage(queue):
    staged = Stage(queue)
    yield staged
    staged.sources.close()


def test_a_canary_comes_back_each_time(stage):
    for _ in range(3):
        assert stage.send() == ""
        assert not stage.look()
        assert stage.delivery.heard_at == pytest.approx(stage.now - SOON)
    assert stage.events == []  # no queue is told


def test_a_canary_that_another_thread_read_has_come(stage):
    stage.send()
    stage.reader.read_all()
    assert not stage.look()


def test_one_canary_is_on_its_way_at_a_time(stage):
    for _ in range(10):  # as many queues, looked at in one wake-up
        stage.send()
    stage.reader.read_all()
    assert stage.sources.instance.canaries == 1
    left = os.listdir(process_dir_for(stage.spool).fd)
    assert os.fsdecode(canary_file.NAMES[0]) in left  # the kernel makes one event of more renames


def test_a_canary_that_was_stolen_is_missed(stage):
    stage.send()
    assert stage.steal()
    assert stage.look()


def test_a_process_that_was_stopped_for_an_hour_is_not_deaf(stage):
    stage.send()
    stage.now += 3600.0  # no thread read the event until now
    assert not stage.look()


def test_another_event_beside_a_stolen_canary_does_not_make_up_for_it(stage):
    stage.send()
    stage.steal()
    stage.commit("1.pck")
    assert stage.names() == {b"1.pck"}
    assert stage.look()


def test_a_canary_that_an_overflow_may_have_dropped_proves_nothing(stage, monkeypatch):
    stage.send()
    stage.steal()
    stage.sources.instance.overflows += 1
    assert not stage.look()
    stage.send()
    assert not stage.look()


def test_another_instance_has_the_watches_and_the_canary_comes_back(stage):
    stage.send()
    before = os.dup(stage.sources.instance.fileno())  # of the process that steals
    stage.steal()
    assert stage.look()
    fd = stage.sources.instance.fileno()
    stage.delivery.renew(stage.now)
    assert stage.sources.instance.fileno() == fd  # what poll(2) is given stays the same
    assert not os.get_inheritable(fd)
    assert [event.seen for event in stage.events] == [EventKind.EVERYTHING]
    assert stage.delivery.deaf  # until it is proved
    stage.commit("1.pck")
    assert os.read(before, 1 << 16)  # the old instance lives in that process alone
    assert stage.names() == {b"1.pck"}
    looks = []
    for _ in range(ENOUGH):
        stage.send()
        looks.append(stage.look())
    assert looks == [True] * (ENOUGH - 1) + [False]
    assert stage.sources.instance.is_listed(TAG)
    os.close(before)


def test_many_new_instances_leave_no_descriptor_open(stage, descriptors):
    stage.delivery.renew(stage.now)  # the first one needs a second number
    before = descriptors()
    for _ in range(5):
        stage.now += 1000.0
        stage.delivery.renew(stage.now)
    assert stage.delivery.renewals == 6
    assert descriptors() == before


def test_a_watch_that_was_removed_unseen_is_not_listed(stage):
    inotify = stage.sources.instance
    assert stage.delivery.is_listed(TAG)
    (watch,) = inotify._tags
    inotify._manager.rm_watch(watch)
    stage.steal()  # its IN_IGNORED
    inotify._kernel.forget()  # a tenth of a second goes by
    assert stage.delivery.is_listed(TAG) is False
    assert stage.events == []


def test_a_watch_that_ended_with_its_event_is_no_blind_one(stage):
    inotify = stage.sources.instance
    assert stage.delivery.is_listed(TAG)
    (watch,) = inotify._tags
    inotify._manager.rm_watch(watch)
    inotify._kernel.forget()
    assert stage.delivery.is_listed(TAG) is not True
    assert [event.seen for event in stage.events] == [EventKind.GONE]


def test_no_canary_can_be_sent_and_nothing_is_deaf(stage, monkeypatch):
    process = process_dir_for(stage.spool).fd
    os.mkdir(canary_file.NAMES[0], dir_fd=process)  # what another program may do
    assert "not a regular file" in stage.send()
    assert not stage.look()
    os.rmdir(canary_file.NAMES[0], dir_fd=process)

    def full(*_arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(canary_file.state_files, "create", full)
        assert "No space left" in stage.send()
        assert not stage.look()
    assert stage.send() == ""
    assert not stage.look()


def test_one_file_is_left_at_any_step_and_it_goes_with_the_process_directory(stage):
    process = process_dir_for(stage.spool).fd
    for _ in range(3):
        stage.send()
        stage.look()
        assert len([name for name in os.listdir(process) if name.startswith(".canary")]) == 1
    for name in canary_file.NAMES:  # one in the way of the rename is replaced: it is the daemon's
        os.close(os.open(name, os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=process))
    stage.send()
    assert not stage.look()
