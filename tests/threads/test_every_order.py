"""For each object that threads share: the steps of two threads, in every order of two switches.

The table of these objects, their owners and their locks is in docs/architecture.md, "Threads".
"""

from __future__ import annotations

import itertools
import os
import sys
import tempfile
from pathlib import Path

import pytest

from watcher.arrive import inotify
from watcher.arrive.inotify import Inotify
from watcher.arrive.source import Event, EventKind
from watcher.daemon import created, deferred, event_reader, pairs, pending, ready, timers
from watcher.daemon.created import Created
from watcher.daemon.deferred import Deferred
from watcher.daemon.event_reader import EventReader
from watcher.daemon.pairs import Pairs
from watcher.daemon.pending import Pending
from watcher.daemon.ready import Ready
from watcher.daemon.timers import Timers
from watcher.errors import EntryEnded
from watcher.handle import entry
from watcher.handle.entry import Entry
from watcher.observe import health
from watcher.observe.health import Health
from watcher.rules import age
from watcher.rules.age import Ages
from watcher.rules.evidence import Proof
from watcher.rules.form import Form
from watcher.rules.kinds import Kind
from watcher.rules.lifecycle import Move, State
from watcher.rules.names import DEFERRED, Layout
from watcher.rules.stamp import Schedule, stamped
from watcher.spool import journal, last_words, ledger, process_dir, spool
from watcher.spool.part import Part
from watcher.spool.spool import Spool

RAW = Layout(b"", raw=True)


class Clock:
    """A clock that stands still."""

    now = 1_000_000_000_000

    def real(self) -> int:
        return self.now

    def mono(self) -> int:
        return self.now


def in_hand(number: int) -> Part:
    return Part(b"e%d" % number, -1, number, 1, 1, 1)


@pytest.fixture
def queues(tmp_path: Path, monkeypatch):
    """Open a queue directory of its own for each order; in memory, and with small files in it."""
    monkeypatch.setattr(ledger, "SLOTS", 4)
    monkeypatch.setattr(journal, "SIZE", 4096)
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else tmp_path
    with tempfile.TemporaryDirectory(dir=memory) as place:
        numbers = itertools.count()

        def make() -> Spool:
            directory = Path(place, str(next(numbers)))
            directory.mkdir()
            return Spool(os.fsencode(directory), RAW)

        yield make


# -- the spool: its directories, its process directory, its ledger, its journal -----------------


@pytest.mark.slow
def test_spool_a_directory_of_ours_is_opened_once(steps, queues):
    stepper = steps(spool)

    def make():
        shared, found = queues(), []

        def one():
            found.append(shared.make_state_dir(State.DEFERRED))

        def check():
            assert len(set(found)) == 1

        return one, one, check

    assert stepper.every_order(make) > 100


def test_process_directory_is_made_once(steps, queues):
    stepper = steps(spool, process_dir)

    def make():
        shared, found = queues(), []
        shared.inflight()

        def one():
            found.append(process_dir.process_dir_for(shared))

        def check():
            assert found[0] is found[1]
            assert len(os.listdir(shared.inflight())) == 1

        return one, one, check

    assert stepper.every_order(make) > 100


def test_process_directory_that_is_being_made_is_not_another_process(steps, queues):
    stepper = steps(process_dir)

    def make():
        shared, found = queues(), []
        shared.inflight()

        def one():
            process_dir.process_dir_for(shared)

        def two():
            found.append(process_dir.has_others(shared))

        def check():
            assert found == [False]

        return one, two, check

    assert stepper.every_order(make) > 100


def test_names_aside_one_thread_has_a_name_at_a_time(steps):
    stepper = steps(
        process_dir, sys.modules[__name__]
    )  # a thread may be stopped while it has the name

    def make():
        names, having, seen = process_dir.NamesAside(), [], []

        def one():
            names.take(b"report")
            having.append(1)
            seen.append(len(having))
            having.pop()
            names.give_back(b"report", left=False)

        def check():
            assert seen == [1, 1]

        return one, one, check

    assert stepper.every_order(make) > 20


def test_ledger_each_thread_writes_to_a_slot_of_its_own(steps, queues):
    stepper = steps(ledger)

    def make():
        shared = queues()
        process_dir.process_dir_for(shared)

        def take(number):
            shared.ledger.take(shared, in_hand(number))

        def check():
            assert {one.inode for one in ledger.read(process_dir.process_dir_for(shared).fd)} == {
                1,
                2,
            }

        return lambda: take(1), lambda: take(2), check

    assert stepper.every_order(make) > 100


def test_ledger_a_thread_that_ends_takes_no_others_entry_with_it(steps, queues):
    stepper = steps(ledger)

    def make():
        shared = queues()
        held = shared.ledger

        def ends():
            held.take(shared, in_hand(1))
            held.leave()

        def check():
            assert [one.inode for one in ledger.read(process_dir.process_dir_for(shared).fd)] == [2]

        return ends, lambda: held.take(shared, in_hand(2)), check

    assert stepper.every_order(make) > 100


def test_last_words_are_written_to_one_file_that_is_closed_once(steps, tmp_path, monkeypatch):
    stepper = steps(last_words)
    monkeypatch.setattr(last_words, "_armed", [])
    number = [0]

    def make():
        monkeypatch.setattr(last_words, "_LOCK", stepper.lock())
        number[0] += 1
        directories = []
        for one in (1, 2):
            (tmp_path / f"{number[0]}-{one}").mkdir()
            directories.append(os.open(tmp_path / f"{number[0]}-{one}", os.O_RDONLY))

        def check():
            (fd,) = last_words._armed
            os.fstat(fd)
            for directory in directories:
                assert os.stat(last_words.FAULT, dir_fd=directory).st_ino == os.fstat(fd).st_ino
                os.close(directory)
            os.close(last_words._armed.pop())

        return lambda: last_words.arm(directories[0]), lambda: last_words.arm(directories[1]), check

    assert stepper.every_order(make) > 20


@pytest.mark.slow
def test_journal_no_line_is_lost_beside_another_or_beside_a_flush(steps, queues):
    stepper = steps(journal)

    def make():
        shared = queues()
        shared.state_root()
        process_dir.process_dir_for(shared)

        def record():
            shared.journal.record(State.CLAIMED, Move.FINISH, 1, b"one")

        def record_and_flush():
            shared.journal.record(State.CLAIMED, Move.FINISH, 2, b"two")
            shared.journal.flush()

        def check():
            shared.journal.flush()
            lines = Path(os.fsdecode(shared.path), ".watcher/journal").read_bytes().splitlines()
            told = sorted(line.split(b" ")[5] for line in lines if b" claimed finish " in line)
            assert told == [b"one", b"two"]

        return record, record_and_flush, check

    assert stepper.every_order(make) > 100


# -- what waits ---------------------------------------------------------------------------------


def test_ready_a_worker_that_waits_is_woken(steps):
    stepper = steps(ready)

    def make():
        waiting, got = Ready(), []

        def check():
            assert got == [(b"a", Proof.RENAMED, 1)]

        return (
            lambda: got.append(waiting.pop()),
            lambda: waiting.push(b"a", Proof.RENAMED, 1),
            check,
        )

    assert stepper.every_order(make) > 50


def test_ready_a_name_pushed_while_it_is_in_hand_is_given_out_once_more(steps):
    stepper = steps(ready)

    def make():
        waiting = Ready()
        waiting.push(b"a", Proof.NONE)
        waiting.pop()

        def check():
            assert len(waiting) == 1
            assert waiting.pop() == (b"a", Proof.RENAMED, 1)

        return (
            lambda: waiting.finish(b"a"),
            lambda: waiting.fill([b"a"], Proof.RENAMED, 1),
            check,
        )

    assert stepper.every_order(make) > 50


def test_ready_two_workers_never_get_one_name(steps):
    stepper = steps(ready)

    def make():
        waiting, got = Ready(), []
        waiting.fill([b"a", b"b"], Proof.NONE)

        def check():
            assert sorted(name for name, *_ in got) == [b"a", b"b"]

        return lambda: got.append(waiting.pop()), lambda: got.append(waiting.pop()), check

    assert stepper.every_order(make) > 50


def test_ready_what_waits_at_a_reload_is_taken_out_or_in_hand(steps):
    stepper = steps(ready)

    def make():
        waiting, got, taken = Ready(), [], []
        waiting.fill([b"a", b"b"], Proof.RENAMED, 1)

        def check():
            names = [name for name, *_ in filter(None, got)] + [name for name, *_ in taken]
            assert sorted(names) == [b"a", b"b"]

        return (
            lambda: got.append(waiting.pop()),
            lambda: taken.extend(waiting.take_all()),
            check,
        )

    assert stepper.every_order(make) > 50


def test_timers_a_moment_is_given_out_once(steps):
    stepper = steps(timers)

    def make():
        kept, got = Timers(), []
        kept.set(b"a", 1.0, Proof.NONE)

        def take():
            got.extend(due.name for due in kept.due(2.0))

        def set_again():
            kept.set(b"a", 0.5, Proof.RENAMED)

        def check():
            got.extend(due.name for due in kept.due(2.0))
            assert got in ([b"a"], [b"a", b"a"])
            assert len(kept) == 0

        return take, set_again, check

    assert stepper.every_order(make) > 50


def test_deferred_what_a_worker_adds_is_not_lost_beside_what_is_taken(steps):
    stepper = steps(deferred)
    names = [DEFERRED + stamped(Schedule(ms, 1), b"n%d" % ms, b"") for ms in (1, 2)]

    def make():
        kept, got = Deferred(RAW, Clock()), []
        kept.add(names[0])

        def take():
            got.extend(kept.take(1e9, 10))

        def check():
            take()
            assert sorted(got) == sorted(names)

        return take, lambda: kept.add(names[1]), check

    assert stepper.every_order(make) > 50


def test_marks_two_halves_make_one_pair(steps):
    layout = Layout(legacy=True)
    stepper = steps(pairs)

    def make():
        marks, got = Pairs(layout), []

        def check():
            assert got.count(b"x.msg") == 1

        return (
            lambda: got.append(marks.mark(b"x.msg", Kind.MESSAGE_HALF)),
            lambda: got.append(marks.mark(b"x.db", Kind.METADATA_HALF)),
            check,
        )

    assert stepper.every_order(make) > 50


def test_events_that_two_threads_read_reach_a_queue_in_the_kernels_order(steps):
    stepper = steps(event_reader)

    def make():
        events = [Event(1, EventKind.CREATED, b"%d" % number) for number in range(4)]
        queued, got = list(events), []

        class Source:
            def read_all(self):
                taken = queued[:2]
                del queued[:2]
                return taken

        reader = EventReader(Source(), lambda: None)
        reader.routes = {1: (got.extend,)}

        def check():
            assert got == events

        return reader.read_all, reader.read_all, check

    assert stepper.every_order(make) > 10


def test_created_a_close_beside_a_worker_that_asks_or_forgets_is_not_lost(steps):
    stepper = steps(created)

    def make():
        known, said = Created(), []
        known.on_create(b"a.csv")
        known.on_create(b"b.csv")

        def read_events():
            known.on_close(b"a.csv")
            known.lose_events()

        def worker():
            said.append(known.closed(b"b.csv"))
            known.forget(b"b.csv")

        def check():
            assert said[0] in {False, None}
            assert known.closed(b"a.csv") is True
            assert len(known) == 0

        return read_events, worker, check

    assert stepper.every_order(make) > 10


def test_intake_a_worker_that_sets_a_timer_during_a_reload_is_heard(steps):
    stepper = steps(pending, timers, ready)

    def make():
        before = Pending(RAW, Ages(Clock()), 60.0, lambda: 0.0)
        after = Pending(RAW, Ages(Clock()), 60.0, lambda: 0.0)
        before.push(b"waits", Proof.RENAMED, 1)
        before.timers.set(b"later", 5.0, Proof.NONE)
        before.push(b"in hand", Proof.RENAMED, 1)
        before.pop()

        def check():
            known = [after.known(name) or before.known(name) for name in (b"waits", b"later")]
            assert all(known)
            assert after.known(b"later")

        return lambda: after.take_over(before), before.pop, check

    assert stepper.every_order(make) > 50


# -- what is told -------------------------------------------------------------------------------


def test_health_a_trouble_of_one_thread_survives_that_of_another(steps):
    stepper = steps(health)

    def make():
        told = Health("q")

        def check():
            assert str(told) in ("disk; watch", "watch; disk")
            told.trouble("disk", None)
            told.trouble("watch", None)
            assert told

        return (
            lambda: told.trouble("disk", "disk"),
            lambda: told.trouble("watch", "watch"),
            check,
        )

    assert stepper.every_order(make) > 20


def test_health_of_two_entries_that_are_well_again_nothing_stays(steps):
    stepper = steps(health)

    def make():
        told = Health("q")
        told.entry(b"a", "bad a")
        told.entry(b"b", "bad b")
        return (
            lambda: told.entry(b"a", None),
            lambda: told.entry(b"b", None),
            lambda: is_well(told),
        )

    def is_well(told):
        assert told, str(told)

    assert stepper.every_order(make) > 20


def test_ages_a_file_from_the_future_keeps_the_moment_it_was_first_seen(steps):
    stepper = steps(age)

    def make():
        clock = Clock()
        ages = Ages(clock)
        ages.age(b"a", clock.now + 10**12)

        def check():
            clock.now = Clock.now + 7 * 10**9
            assert ages.age(b"a", Clock.now + 10**12) == pytest.approx(7.0)

        return (
            lambda: ages.forget_unseen(lambda _name: True),
            lambda: ages.age(b"a", clock.now + 10**12),
            check,
        )

    assert stepper.every_order(make) > 50


def test_inotify_no_event_of_a_new_watch_is_read_before_its_tag_is_known(steps, queues):
    stepper = steps(inotify)

    def make():
        source, directory = Inotify(), queues()
        path = Path(os.fsdecode(directory.path))
        (path / "a.tmp").write_bytes(b"")
        hints: list[Event] = []

        def arm_and_commit():
            source.arm(7, directory)
            (path / "a.tmp").rename(path / "a")

        def check():
            hints.extend(source.read())
            source.close()
            assert hints == [Event(7, EventKind.RENAMED, b"a")]

        return arm_and_commit, lambda: hints.extend(source.read()), check

    assert stepper.every_order(make) > 20


def test_entry_is_never_read_through_another_entrys_descriptor(steps, tmp_path):
    """The claim is closed, and its number is another claim's at once."""
    stepper = steps(entry)
    (tmp_path / "alice").write_bytes(b"for alice")
    (tmp_path / "bob").write_bytes(b"for bob, private")

    def make():
        fd = os.open(tmp_path / "alice", os.O_RDONLY)
        kept = Entry(
            queue="q",
            name=b"alice",
            directory=b"/",
            parts=(Part(b"alice", fd, 1, 9, 1, 1),),
            form=Form.RAW,
        )
        said = []

        def read():
            try:
                said.append(kept.message)
            except EntryEnded:
                said.append(b"ended")

        def close():
            kept.end()
            os.close(fd)
            other = os.open(tmp_path / "bob", os.O_RDONLY)
            assert other == fd

        def check():
            os.close(fd)
            assert said[0] in (b"for alice", b"ended")

        return read, close, check

    assert stepper.every_order(make) > 20
