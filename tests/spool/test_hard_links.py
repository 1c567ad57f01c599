"""A file with other names: shown with its reason, and an entry where the queue says so."""

from __future__ import annotations

import os

import pytest

from watcher.attempt import Attempt
from watcher.handle.function import Function
from watcher.inspect.check_directory import check_directory
from watcher.inspect.explanation import explain
from watcher.inspect.list_entries import list_entries
from watcher.rules.age import Ages, SystemClock
from watcher.rules.evidence import Proof
from watcher.rules.lifecycle import State
from watcher.rules.names import Layout
from watcher.rules.results import AttemptEnd
from watcher.rules.retry import Policy
from watcher.settle.finish import Finisher
from watcher.settle.put_back import put_back
from watcher.settle.refused import DiskRetry
from watcher.spool import process_dir
from watcher.spool.claimed import ClaimOptions
from watcher.spool.dirs import exists

ONE, MANY = Layout(b"", raw=True), Layout(b"", raw=True, hard_links=True)


@pytest.fixture
def snapshot(queue):
    """Give a file of the queue another name outside of it, as a snapshot by links does."""

    def link(name):
        other = queue.parent / f"snapshot of {name}"
        os.link(queue / name, other)
        return other

    return link


@pytest.fixture
def attempt():
    """Make attempts; return them and what the handler was given."""
    given = []
    clock = SystemClock()
    patience = DiskRetry(lambda _seconds: False, lambda _text: None)
    terms = ClaimOptions(0.0, Ages(clock))
    settlement = Finisher("q", terms, Policy(), clock, lambda _told: None, patience)
    handler = Function(lambda entry: given.append((entry.name, entry.message)))
    return Attempt(handler, settlement), given


def test_it_is_listed_explained_and_told_of_by_check_with_its_reason(
    queue, open_spool, put, snapshot, terms
):
    put(b"a.csv")
    snapshot("a.csv")
    why = "has 2 hard links, an entry has one name: remove the others, or set hard_links = true"
    spool = open_spool(ONE)
    (listed,) = list_entries(spool)
    assert (listed.state, listed.why) == (State.ARRIVING, why)
    assert why in explain(os.fsencode(queue / "a.csv"), ONE, terms()).verdict
    (odd,) = [check for check in check_directory(spool, 1.0) if check.about == "odd"]
    assert why in odd.what
    assert [listed.state for listed in list_entries(open_spool(MANY))] == [State.READY]


def test_where_the_queue_says_so_it_is_handled_and_the_other_name_stays(
    open_spool, put, files, snapshot, attempt
):
    make, given = attempt
    put(b"a.csv", b"data")
    other = snapshot("a.csv")
    assert make(open_spool(ONE), b"a.csv", Proof.RENAMED).result is AttemptEnd.FOREIGN
    assert make(open_spool(MANY), b"a.csv", Proof.RENAMED).result is AttemptEnd.DONE
    assert given == [("a.csv", b"data")]
    assert files() == {}
    assert other.read_bytes() == b"data"


def test_two_names_of_one_file_in_the_queue_are_two_entries(queue, open_spool, put, files, attempt):
    make, given = attempt
    put(b"a.csv", b"data")
    os.link(queue / "a.csv", queue / "b.csv")
    spool = open_spool(MANY)
    for name in (b"a.csv", b"b.csv"):
        assert make(spool, name, Proof.RENAMED).result is AttemptEnd.DONE
    assert [name for name, _ in given] == ["a.csv", "b.csv"]
    assert files() == {}


def test_a_move_that_a_crash_cut_is_finished_though_the_file_has_yet_another_name(
    queue, open_spool, put, files, snapshot, attempt
):
    make, given = attempt
    put(b"a.csv", b"data")
    other = snapshot("a.csv")
    spool = open_spool(MANY)
    spool.make_state_dir(State.DEAD)
    os.link(queue / "a.csv", queue / ".watcher" / "dead" / "a.csv")
    assert make(spool, b"a.csv", Proof.RENAMED).result is AttemptEnd.FOLLOWED
    assert given == []
    assert (files(), files(State.DEAD)) == ({}, {b"a.csv": b"data"})
    assert other.exists()


def test_what_is_put_back_keeps_its_name_beside_another_of_the_same_file(
    queue, open_spool, put, files
):
    put(b"a.csv", b"data")
    os.link(queue / "a.csv", queue / "b.csv")
    spool = open_spool(MANY)
    directory = process_dir.process_dir_for(spool).fd
    spool.disk.move_aside(b"a.csv", spool.fd, directory)
    put_back(spool, b"a.csv", directory, b"a.csv")
    assert files() == {b"a.csv": b"data", b"b.csv": b"data"}
    os.link(queue / "a.csv", b"a.csv", dst_dir_fd=directory)  # a crash between link and unlink
    put_back(spool, b"a.csv", directory, b"a.csv")
    assert files() == {b"a.csv": b"data", b"b.csv": b"data"}
    assert not exists(b"a.csv", directory)
