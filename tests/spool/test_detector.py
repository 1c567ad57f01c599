"""What one queue knows of its directory: nothing falls between the watch and the scan."""

from __future__ import annotations

import os

import pytest

from watcher.arrive.source import Event, EventKind
from watcher.config.queue_settings import Queue
from watcher.daemon.canary import EventDelivery
from watcher.daemon.event_reader import EventReader
from watcher.daemon.queue_worker import QueueWorker
from watcher.daemon.timers import Timers
from watcher.daemon.worker_loop import Context
from watcher.errors import WatchFailed
from watcher.handle.function import Function
from watcher.rules.age import SECOND, SystemClock
from watcher.rules.evidence import Proof


class Scene:
    """A source whose watch begins when we say so, and writers that commit around that moment."""

    def __init__(self, directory):
        self.directory = directory
        self.armed = False
        self.refuse = 0  # how often no watch can be had
        self.commits = []  # names to commit at the very moment before the watch begins

    def commit(self, name):
        """Rename an entry in; return the hint that the watch gives of it, if there is one."""
        (self.directory / "x.tmp").write_bytes(b"data")
        os.rename(self.directory / "x.tmp", os.path.join(os.fsencode(self.directory), name))
        return (EventKind.RENAMED, name) if self.armed else None

    def arm(self, _tag, _spool, _wanted, **_renames):
        if self.refuse:
            self.refuse -= 1
            raise WatchFailed("no watch to be had")
        for name in self.commits:
            self.commit(name)
        self.armed = True
        return "inotify"

    def arm_deferred(self, _tag, _spool, _directory):
        return True

    def arm_ours(self, _tag, _spool, _directory):
        pass

    def disarm(self, _tag):
        self.armed = False


@pytest.fixture
def scene(tmp_path):
    directory = tmp_path / "queue"
    directory.mkdir()
    return Scene(directory)


class Moved(SystemClock):
    """The kernel's clocks: the wall clock stepped, and both further on, by so many seconds."""

    stepped = lived = 0

    def real(self):
        return super().real() + (self.stepped + self.lived) * SECOND

    def mono(self):
        return super().mono() + self.lived * SECOND


@pytest.fixture
def clock():
    return Moved()


@pytest.fixture
def worker(scene, clock):
    settings = Queue(name="q", path=str(scene.directory), sweep_every=3600.0)
    reader = EventReader(scene, lambda: None)
    context = Context(scene, reader, clock, lambda _tag: None, EventDelivery(scene, reader))
    return QueueWorker(1, settings, Function(lambda _entry: None), context)


@pytest.fixture
def notice(worker):
    return worker.detector


def given_out(notice):
    """Let it do what is due at once; return what it gives to the workers."""
    while notice.tick() <= notice.now():
        pass
    found = []
    while len(notice.pending):
        name, proof, _time = notice.pending.pop()
        found.append((name, proof))
        notice.pending.finish(name)
    return found


def test_what_is_committed_just_before_the_watch_begins_is_found_by_the_scan(scene, worker, notice):
    scene.commits = [b"last.pck"]
    assert given_out(notice) == [(b"last.pck", Proof.NO_WRITER)]
    worker.on_events([Event(1, *scene.commit(b"first.pck"))])
    assert given_out(notice) == [(b"first.pck", Proof.RENAMED)]


def test_without_a_watch_it_scans_and_when_there_is_one_it_scans_again(scene, notice):
    scene.refuse, scene.commits = 1, [b"between.pck"]
    scene.commit(b"waits.pck")
    notice.tick()
    assert notice.pending.pop()[:2] == (b"waits.pck", Proof.NO_WRITER)
    os.unlink(scene.directory / "waits.pck")
    notice.pending.finish(b"waits.pck")
    notice.watch.next_try = 0.0  # a moment later
    assert given_out(notice) == [(b"between.pck", Proof.NO_WRITER)]


@pytest.mark.parametrize("why", [EventKind.EVERYTHING, EventKind.GONE])
def test_what_an_overflow_or_a_lost_watch_kept_from_us_is_found_at_once(scene, worker, notice, why):
    assert given_out(notice) == []
    scene.commit(b"unheard.pck")
    worker.on_events([Event(None, why)])
    assert given_out(notice) == [(b"unheard.pck", Proof.NO_WRITER)]
    assert scene.armed


def test_what_there_is_no_room_for_is_found_when_there_is_some(scene, worker, notice):
    notice.pending.limit = 4
    assert given_out(notice) == []
    names = [b"%d.pck" % number for number in range(10)]
    for name in names:
        worker.on_events([Event(1, *scene.commit(name))])
    assert len(notice.pending) == 4
    order = []
    while len(notice.pending):
        name = notice.pending.pop().name
        os.unlink(os.path.join(os.fsencode(scene.directory), name))
        notice.pending.finish(name)
        order.append(name)
        notice.tick()
    assert order == names


@pytest.mark.parametrize("seconds", [-3600, 3600])
def test_after_a_step_of_the_clock_everything_is_looked_at_again(scene, notice, clock, seconds):
    """A scan that was under way may have passed by what now is older than where it stands."""
    assert given_out(notice) == []
    scene.commit(b"unheard.pck")
    clock.stepped = seconds
    assert given_out(notice) == [(b"unheard.pck", Proof.NO_WRITER)]


def test_a_directory_replaced_without_a_word_is_missed_long_before_the_next_sweep(
    scene, notice, clock
):
    assert given_out(notice) == []
    scene.directory.rename(scene.directory.with_name("old"))  # or its parent: no event tells
    scene.directory.mkdir()
    scene.commit(b"unheard.pck")
    clock.lived = 2
    assert given_out(notice) == [(b"unheard.pck", Proof.NO_WRITER)]


@pytest.mark.parametrize("there", [True, False])
def test_deferred_entries_that_there_was_no_room_for_are_not_asked_for_all_the_time(
    scene, notice, clock, there
):
    """There are more than are held, these have been handled, and `deferred/` cannot be listed."""
    ours = scene.directory / ".watcher"
    names = [b"20200101T000000.%03dZ-a1-c0-d60-w1-e%d.pck" % (i, i) for i in range(20)]
    for place in (ours, ours / "deferred"):
        place.mkdir(mode=0o700)
    for name in names:
        (ours / "deferred" / os.fsdecode(name)).touch()
    notice.deferred._limit = 8
    notice.tick()
    (ours / "deferred").rename(ours / "elsewhere")
    if there:
        (ours / "deferred").touch()
    found = [name for name, _ in given_out(notice)]
    assert notice.tick() > notice.now()
    assert bool(notice._health) is not there
    (ours / "deferred").unlink(missing_ok=True)
    (ours / "elsewhere").rename(ours / "deferred")
    clock.lived += 15  # longer than any wait between two tries
    if not there:  # it is not known that there was more: a sweep sees it
        notice.watch.lose("the directory was moved away and back")
    found += [name for name, _ in given_out(notice) if name not in found]
    assert sorted(found) == [b"deferred/" + name for name in names]
    assert notice._health


def test_what_finds_no_room_among_the_timers_is_scanned_for_when_there_is_some(scene, notice):
    timers = Timers(limit=2)
    notice.pending.timers = timers
    assert given_out(notice) == []
    names = [scene.commit(b"%d.pck" % number)[1] for number in range(3)]
    for name in names:  # what the workers said of each: younger than its grace age
        timers.set(name, notice.now() + 3600.0, Proof.NONE, young=True)
    assert given_out(notice) == []
    timers.cancel(names[0])
    os.unlink(os.path.join(os.fsencode(scene.directory), names[0]))
    assert given_out(notice) == [(name, Proof.NO_WRITER) for name in names[1:]]
    assert given_out(notice) == []
