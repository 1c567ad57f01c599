"""What lies in the directories of ours costs an entry nothing, and every search for a name ends."""

from __future__ import annotations

import os
import time

import pytest
from hypothesis import example, given, strategies as st

from watcher.claim.take import take
from watcher.errors import CannotCreate
from watcher.rules.evidence import Proof
from watcher.rules.lifecycle import State
from watcher.rules.names import Layout, free_number
from watcher.rules.stamp import Schedule, beside, parse, stamped
from watcher.settle import interrupted, moves
from watcher.spool import namesakes
from watcher.spool.claimed import Claim
from watcher.spool.namesakes import namesakes as find

LEGACY, RAW = Layout(legacy=True), Layout(b".csv", raw=True)
LATEST = 253_402_300_799_999


@pytest.fixture
def lay(queue):
    """Put empty files into the directory of a state."""

    def make(state, names):
        directory = os.path.join(os.fsencode(queue), b".watcher", state)
        os.makedirs(directory, 0o700, exist_ok=True)
        os.chmod(os.path.dirname(directory), 0o700)
        for name in names:
            os.close(os.open(os.path.join(directory, name), os.O_CREAT | os.O_WRONLY, 0o600))

    return make


@pytest.fixture
def listings(monkeypatch):
    """Count how often a directory of ours is read through for the names of an entry."""
    counted = []
    read = namesakes._names

    def names(directory):
        counted.append(directory)
        return read(directory)

    monkeypatch.setattr(namesakes, "_names", names)
    return counted


# -- numbers ----------------------------------------------------------------------------------


@given(st.integers(0, 10_000_000), st.integers(0, 50))
@example(8, 0)
def test_a_free_number_is_found_in_a_few_looks_however_many_are_taken(count, first):
    looks = []

    def taken(number):
        looks.append(number)
        return number < count

    assert free_number(taken, first) == max(first, count)
    assert len(looks) < 80


@given(st.sets(st.integers(0, 200)))
def test_a_free_number_is_free_whatever_gaps_there_are(numbers):
    assert free_number(numbers.__contains__) not in numbers


def test_where_every_number_is_taken_the_search_ends_with_an_error():
    with pytest.raises(CannotCreate, match="remove some of them"):
        free_number(lambda _number: True)


@given(st.integers(LATEST - 500, LATEST + 500), st.integers(2, 1_000))
def test_namesakes_at_the_end_of_time_get_stamps_that_differ(due_ms, count):
    stamps = {stamped(beside(Schedule(due_ms), number), b"x", b".csv") for number in range(count)}
    assert len(stamps) == count
    assert all(parse(stamp) is not None for stamp in stamps)


def test_an_entry_is_deferred_beside_namesakes_that_fall_due_in_the_year_9999(
    open_spool, put, terms, lay, files
):
    schedule = Schedule(LATEST, attempts=1, delay=1.0)
    lay(b"deferred", [stamped(beside(schedule, number), b"x", b".csv") for number in range(5)])
    put(b"x.csv")
    spool = open_spool(RAW)
    claim = take(spool, b"x.csv", Proof.RENAMED, terms())
    assert isinstance(claim, Claim)
    name = moves.defer(spool, claim.parts, schedule, "because", {})
    claim.release()
    assert name in files(State.DEFERRED)
    assert parse(name)[1] == b"x.csv"


# -- the cost of what is put away -------------------------------------------------------------


def test_an_entry_with_thousands_of_namesakes_is_put_away_in_a_few_looks(
    open_spool, put, terms, lay, files, monkeypatch
):
    lay(b"dead", [b"x.csv", *(b"x~%d.csv" % number for number in range(1, 3_000))])
    put(b"x.csv", b"new")
    spool = open_spool(RAW)
    claim = take(spool, b"x.csv", Proof.RENAMED, terms())
    looks, look = [], os.stat
    monkeypatch.setattr(os, "stat", lambda *a, **k: looks.append(a) or look(*a, **k))
    name = moves.put_away(spool, State.DEAD, claim.parts, "because", {})
    monkeypatch.undo()
    claim.release()
    assert name == b"x~3000.csv"
    assert files(State.DEAD)[name] == b"new"
    assert len(looks) < 200


def test_halves_that_nothing_was_put_away_for_cost_one_listing_in_all(
    open_spool, put, lay, listings
):
    lay(b"orphans", [b"%040d.msg" % number for number in range(100)])
    spool = open_spool(LEGACY)
    time.sleep(namesakes._TICK * 2)  # so that the directory's time tells of a later change
    for number in range(50):
        assert interrupted.reunite(spool, put(b"%040d.db" % (10**6 + number))) is None
    assert len(listings) == 1


def test_a_half_that_came_to_orphans_since_the_listing_is_found(open_spool, put, lay, files):
    lay(b"orphans", [b"a~3.msg"])
    spool = open_spool(LEGACY)
    assert interrupted.reunite(spool, put(b"b.db")) is None
    lay(b"orphans", [b"b~7.msg"])
    assert interrupted.reunite(spool, b"b.db") == b"b.msg"
    assert set(files()) == {b"b.db", b"b.msg"}


def test_a_large_directory_that_changes_all_the_time_is_listed_now_and_then_only(
    open_spool, lay, listings
):
    lay(b"deferred", [stamped(Schedule(n), b"%d" % n, b".msg") for n in range(namesakes.SMALL + 1)])
    spool = open_spool(LEGACY)
    directory = spool.state_dir(State.DEFERRED)
    began = time.monotonic()
    for number in range(200):
        lay(b"deferred", [stamped(Schedule(number), b"new%d" % number, b".msg")])
        find(spool, directory, b"5.msg")
    seconds = time.monotonic() - began
    assert len(listings) < 200
    deadline = time.monotonic() + 30
    while find(spool, directory, b"new199.msg") == [] and time.monotonic() < deadline:
        time.sleep(0.01)
    assert time.monotonic() < deadline, seconds
