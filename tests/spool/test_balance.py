"""What the audit adds up to when inode numbers, names and places are used again.

A model of a queue: files that have a number and a moment of birth, a program that puts down a line
before each step and may die between the two, and other programs that take files away. What the
audit names as missing is compared with what the model knows to be lost.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

import pytest
from hypothesis import example, given, settings, strategies as st

from watcher.inspect import journal_replay
from watcher.inspect.balance import Balance, match_files
from watcher.inspect.files_there import Disk
from watcher.rules.lifecycle import Move, State
from watcher.rules.names import STATE_DIRECTORIES, Layout
from watcher.rules.stamp import Schedule, parse, stamped
from watcher.spool import journal_line
from watcher.spool.journal import MOVED
from watcher.spool.journal_files import COPIED, FIRST, GOES_ON, Place
from watcher.spool.journal_line import line_of
from watcher.spool.journal_past import Past, before_lines

RAW = Layout(b".csv", raw=True)
PUT_AWAY = tuple(STATE_DIRECTORIES)
SECOND = 10**9


@dataclass(eq=False)
class Entry:
    """A file: its names and places, and whether the journal has it as open."""

    name: bytes
    place: State
    inode: int
    birth: int
    file: bytes = b""
    there: bool = True
    told: bool = False  # it has a line, and none that it ended


class File(NamedTuple):
    place: bytes
    name: bytes
    born: int | None

    def birth(self):
        return self.born

    def written(self):
        return None  # as in a copy without times


PLACE = Place(1, 1)


@dataclass
class World:
    """One queue directory, and its journal."""

    tells: bool = True  # the file system has times of birth
    now: int = 1_700_000_000 * SECOND
    pid: int = 1
    entries: list[Entry] = field(default_factory=list)
    journal: list[bytes] = field(default_factory=list)
    place: Place = PLACE
    taken: set[str] = field(default_factory=set)

    def tick(self):
        self.now += SECOND
        return self.now

    def here(self, *places):
        return [each for each in self.entries if each.there and each.place in (places or State)]

    def free_inode(self):
        used = {each.inode for each in self.here()}
        return next(number for number in range(10, 1000) if number not in used)

    def commit(self, name):
        if any(each.name == name for each in self.here(State.READY)):
            return
        new = Entry(name, State.READY, self.free_inode(), self.tick(), name)
        self.entries.append(new)

    def tell(self, entry, state, move, *, ends=False):
        birth = entry.birth if self.tells else 0
        journal_line._process[0] = self.pid
        self.journal.append(line_of(self.tick(), state, move, entry.inode, entry.file, "", birth))
        entry.told = not ends

    def go(self, entry, place):
        entry.place = place
        entry.file = entry.name
        if place is State.DEFERRED:
            entry.file = stamped(Schedule(self.now // 10**6), entry.name[:-4], b".csv")

    def die(self):
        self.pid += 1

    def attempt(self, entry, move, dies):
        if entry.place is State.READY and any(
            other is not entry and other.name == entry.name for other in self.here(State.READY)
        ):
            return
        self.tell(entry, State.CLAIMED, move, ends=move is Move.FINISH)
        if dies:
            self.die()
        elif move is Move.FINISH:
            entry.there = False
        else:
            self.go(entry, State.DEFERRED if move is Move.DEFER else State.DEAD)

    def operate(self, entry, dies):
        moves = {
            State.READY: Move.HOLD,
            State.DEFERRED: Move.HOLD,
            State.HELD: Move.RELEASE,
            State.DEAD: Move.REQUEUE,
        }
        move = moves[entry.place]
        blocked = any(each.name == entry.name for each in self.here(State.READY))
        if move is not Move.HOLD and blocked:
            return
        self.tell(entry, entry.place, move)
        if dies:
            self.die()
        else:
            self.go(entry, State.HELD if move is Move.HOLD else State.READY)

    def delete(self, entry):
        if entry.place is not State.READY:
            self.tell(entry, entry.place, Move.DELETE, ends=True)
            entry.there = False

    def begin(self, why):
        inode, birth = self.place
        detail = f"2 ours={inode}@{birth} queue=1@1 {why}"
        self.journal.append(line_of(self.tick(), State.READY, "begin", 0, b"-", detail))

    def carry(self):
        """What a file of the journal ends with."""
        for each in self.here(*PUT_AWAY):
            birth = each.birth if self.tells else 0
            line = line_of(self.tick(), each.place, "carried", each.inode, each.file, "", birth)
            self.journal.append(line)
            each.told = True
        self.begin(GOES_ON)

    def copy(self, early=None):
        """All of it is copied to another disk, where every number is another."""
        born, told = self.tick(), len(self.journal)
        for number, each in enumerate(reversed(self.here())):
            each.inode, each.birth = 10 + number, born + number
        self.place = Place(self.place.inode + 1, born)
        self.die()
        if early is not None:
            play(self, [early])  # recorded before another process writes the first line
        held = self.journal[told:]
        del self.journal[told:]
        self.begin(COPIED)
        self.journal += held

    def take_away(self, directory):
        """All that was put away is removed, the journal with it, while a process works here."""
        self.write(directory)
        ours, past = os.open(directory, os.O_RDONLY), Past()
        past.hold(ours)
        os.close(ours)
        for each in self.here(*PUT_AWAY):
            each.there = False
        self.place, self.journal = Place(self.place.inode + 1, self.tick()), []
        self.begin(MOVED)
        self.journal.append(before_lines(past.open_entries(), self.tick()))

    def write(self, directory):
        (directory / "journal").unlink(missing_ok=True)
        (directory / "journal").write_bytes(b"%\n" + b"".join(self.journal))

    def audit(self, directory):
        self.write(directory)
        ours = os.open(directory, os.O_RDONLY)
        try:
            audit = journal_replay.replay(ours, RAW)
        finally:
            os.close(ours)
        files = {
            each.inode: File(
                STATE_DIRECTORIES.get(each.place, b""),
                each.file,
                each.birth if self.tells else None,
            )
            for each in self.here()
        }
        disk = Disk(files, {audit.stem(file.name) for file in files.values()})
        return match_files(Balance(audit), disk, disk)

    def lost(self):
        return Counter(each.name for each in self.entries if each.told and not each.there)


STEPS = st.tuples(
    st.sampled_from(
        ["commit", "finish", "defer", "reject", "operate", "delete", "steal", "carry", "copy"]
    ),
    st.integers(0, 5),
    st.booleans(),
)
NAMES = [b"X.csv", b"Y.csv"]


def play(world, steps, *, theft=True, copies=False, names=None):
    for what, which, dies in steps:
        if what == "commit":
            world.commit(names[which % len(names)] if names else b"%d.csv" % len(world.entries))
        elif what == "carry":
            world.carry()
        elif what == "copy":
            if copies:
                world.copy(("operate", which, False) if dies else None)
        elif what != "steal" or theft:
            step(world, what, which, dies)


def step(world, what, which, dies):
    by_any = what in {"operate", "delete", "steal"}
    among = world.here() if by_any else world.here(State.READY, State.DEFERRED)
    if not among:
        return
    entry = among[which % len(among)]
    if what == "steal":
        entry.there = False
    elif what == "operate":
        world.operate(entry, dies)
    elif what == "delete":
        world.delete(entry)
    else:
        world.attempt(entry, Move[what.upper()], dies)


def missing(found):
    return Counter(each.name for each in found.missing)


@pytest.fixture
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("ours")


@pytest.fixture(autouse=True)
def _own_number(monkeypatch):
    monkeypatch.setattr(journal_line, "_process", [1])


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    return tmp_path_factory.mktemp("ours")


def begun(**options):
    world = World(**options)
    world.begin(FIRST)
    return world


ORDERS = settings(max_examples=200, derandomize=True)  # the same orders each time


# A file is stolen, and a new one gets its name and its inode number.
STOLEN_AND_REUSED = [
    *(("commit", 0, False), ("defer", 0, True), ("steal", 0, False)),
    *(("commit", 0, False), ("finish", 0, False)),
]


@given(st.lists(STEPS, max_size=40))
@example(STOLEN_AND_REUSED)
@ORDERS
def test_with_reused_numbers_and_names_each_loss_is_named_and_no_other(ours, steps):
    world = begun()
    play(world, steps, names=NAMES)
    found = world.audit(ours)
    assert missing(found) == world.lost()
    assert found.balanced == (not world.lost())


@given(st.lists(STEPS, max_size=40))
@ORDERS
def test_without_times_of_birth_no_false_loss_is_named(ours, steps):
    world = begun(tells=False)
    play(world, steps, theft=False, names=NAMES)
    assert world.audit(ours).balanced


@given(st.lists(STEPS, max_size=40))
@ORDERS
def test_without_times_of_birth_each_loss_is_named(ours, steps):
    world = begun(tells=False)
    play(world, steps)
    assert missing(world.audit(ours)) == world.lost()


@given(st.lists(STEPS, max_size=40))
@ORDERS
def test_in_a_copy_each_loss_is_named_and_no_other(ours, steps):
    world = begun()
    play(world, steps, copies=True)
    found = world.audit(ours)
    assert missing(found) == world.lost()


@given(st.lists(STEPS, max_size=40))
@ORDERS
def test_in_a_copy_a_name_that_came_again_is_no_loss(ours, steps):
    world = begun()
    play(world, steps, theft=False, copies=True, names=NAMES)
    assert world.audit(ours).balanced


@given(st.lists(STEPS, max_size=20), st.lists(STEPS, max_size=20), st.booleans())
@ORDERS
def test_a_journal_that_begins_again_names_what_was_known_before(ours, before, after, tells):
    world = begun(tells=tells)
    play(world, before, theft=tells)
    world.take_away(ours)
    assert missing(world.audit(ours)) == world.lost()
    play(world, after, theft=tells)
    assert missing(world.audit(ours)) == world.lost()


def test_a_new_file_of_the_name_and_the_number_does_not_stand_for_one_that_was_lost(directory):
    for tells in (True, False):
        world = begun(tells=tells)
        world.commit(b"report.csv")
        world.attempt(world.entries[0], Move.DEFER, dies=False)
        world.entries[0].there = False
        world.commit(b"report.csv")
        assert world.entries[0].inode == world.entries[1].inode
        if tells:  # else it may be the same entry, whose process died before the move
            assert missing(world.audit(directory)) == {b"report.csv": 1}
        world.attempt(world.entries[1], Move.FINISH, dies=False)
        assert missing(world.audit(directory)) == {b"report.csv": 1}


def test_a_stamp_is_of_the_model_too():
    world = World()
    world.commit(b"X.csv")
    world.attempt(world.entries[0], Move.DEFER, dies=False)
    assert parse(world.entries[0].file)[1] == b"X.csv"
