"""No legal state of a disk after a power failure loses what was acknowledged, nor tears it."""

from __future__ import annotations

import os
import sys
import tempfile

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from power_loss.losses import Disk, states
from power_loss.recording import Op, Recorder, renaming
from power_loss.scenarios import LEGACY, MAILMAN, MESSAGE, scenarios, settlement
from power_loss.trial import Trial

from watcher import commit_one
from watcher.attempt import Attempt
from watcher.handle.function import Function
from watcher.rules.evidence import Proof
from watcher.rules.lifecycle import State
from watcher.settle import interrupted, put_back as putting_back
from watcher.spool import disk
from watcher.spool.spool import Spool

ALL = {scenario.name: scenario for scenario in scenarios()}
LONG = "retry, retry"  # thousands of states
LONGEST = "recover beside a replacement"  # of those that are tried after a kill
QUICK = [name for name in ALL if not name.startswith((LONG, "retry, reject", "retry, done: pair"))]
TWICE = [
    *("enqueue", "recover", "recover beside a replacement", "done: plain name"),
    *("reject: plain name", "reunite", "recover beside a replacement, by link and unlink"),
    *("reject: pair, by link and unlink", "requeue a dead: pair"),
]
KINDS = pytest.mark.parametrize("weak", [False, True], ids=["ordered", "weak"])
pytestmark = [pytest.mark.promise2, pytest.mark.promise5]


@pytest.fixture
def base():
    """A directory in memory: nothing here asks a real disk for durability."""
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(dir=memory) as directory:
        yield directory


def once(name, base, *, weak, blind=()):
    result = Trial(ALL[name], base, weak=weak).once(blind)
    assert result.states > 3
    return result.broken


@KINDS
@pytest.mark.parametrize("name", QUICK)
def test_nothing_is_lost_or_torn(base, name, weak):
    assert once(name, base, weak=weak) == []


@pytest.mark.slow
@pytest.mark.timeout(600)
@KINDS
@pytest.mark.parametrize("name", sorted(ALL.keys() - set(QUICK)))
def test_nothing_is_lost_or_torn_by_any_transition(base, name, weak):
    assert once(name, base, weak=weak) == []


def marks(name, *, weak):
    """Of the longest `make test` tries the weak disk, which keeps less, CI also the other one."""
    if not name.startswith(LONGEST) or (name == LONGEST and weak):
        return []
    return [pytest.mark.slow] if name == LONGEST else [pytest.mark.slow, pytest.mark.long]


@pytest.mark.parametrize(
    ("name", "weak"),
    [
        pytest.param(
            *(name, weak),
            id=f"{name}-{'weak' if weak else 'ordered'}",
            marks=marks(name, weak=weak),
        )
        for name in TWICE
        for weak in (False, True)
    ],
)
def test_nothing_is_lost_by_recovery_from_a_killed_process(base, name, weak):
    assert Trial(ALL[name], base, weak=weak).killed_before().broken == []


def twice():
    """Return the transitions that a second crash follows; but for each eighth they are long."""
    names = sorted(name for name in ALL if not name.startswith(LONG))
    return [
        pytest.param(name, marks=[pytest.mark.long] if number % 8 else [])
        for number, name in enumerate(names)
    ]


@pytest.mark.slow
@pytest.mark.timeout(600)
@KINDS
@pytest.mark.parametrize("name", twice())
def test_nothing_is_lost_by_a_second_crash(base, name, weak):
    assert Trial(ALL[name], base, weak=weak).killed_before().broken == []
    assert Trial(ALL[name], base, weak=weak).lost_before().broken == []


# -- the test of the test -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "blind", "broken"),
    [
        ("enqueue", "sync names", "LOST"),
        ("enqueue", "sync", "LOST"),
        ("enqueue, raw", "sync", "a handler was given"),
        ("enqueue_many, syncfs", "sync all", "LOST"),
        ("recover", "sync names", "LOST"),
        ("reject: plain name", "sync names", "LOST"),
        ("reject: plain name, by link and unlink", "sync names", "LOST"),
        ("archive: raw", "sync names", "LOST"),
        ("hold: pair", "sync names", "not durable"),
        ("delete a dead: pair", "sync names", "not durable"),
    ],
)
def test_a_sync_that_is_left_out_is_found(base, name, blind, broken):
    found = once(name, base, weak=True, blind=(blind,))
    assert any(broken in line for line in found), found


def test_on_a_disk_that_keeps_the_order_too(base):
    assert any("LOST" in line for line in once("enqueue", base, weak=False, blind=["sync"]))
    assert any("LOST" in line for line in once("enqueue", base, weak=False, blind=["sync names"]))


@KINDS
def test_a_rename_before_the_sync_is_found(base, weak, monkeypatch):
    def commit(directory, path, name, data):
        fd = commit_one.written(directory, name + b".tmp", data)
        commit_one.rename(directory, name + b".tmp", name)
        os.fsync(fd)
        os.close(fd)
        commit_one.sync_names(directory, path, [os.fsdecode(name)])

    monkeypatch.setattr(commit_one, "_commit", commit)
    found = once("enqueue, raw", base, weak=weak)
    assert any("a handler was given" in line for line in found), found


def test_directories_that_no_process_synced_are_found(base, monkeypatch):
    def make_directory(_self, name, directory):
        try:
            os.mkdir(name, 0o700, dir_fd=directory)
        except FileExistsError:
            return
        os.fsync(directory)

    monkeypatch.setattr(disk.Disk, "make_directory", make_directory)
    found = once("reject: plain name, directories not synced", base, weak=True)
    assert any("LOST" in line for line in found), found


def test_the_second_name_of_a_killed_move_is_synced_before_the_first_goes(base, monkeypatch):
    """Without that, what the dead process linked is lost with the power, and so is the entry."""
    finish = interrupted.finish_move

    def unsynced(spool, *more):
        with monkeypatch.context() as patched:
            patched.setattr(disk.Disk, "sync", lambda *_: None)
            return finish(spool, *more)

    monkeypatch.setattr(interrupted, "finish_move", unsynced)
    trial = Trial(ALL["reject: plain name, by link and unlink"], base, weak=True)
    found = trial.killed_before().broken
    assert any("LOST" in line for line in found), found


def test_what_the_recorder_does_not_see_is_found_out(base, monkeypatch):
    monkeypatch.setattr(Recorder, "unlink", lambda self, *a, **k: self._real["unlink"](*a, **k))
    with pytest.raises(AssertionError, match="not all was recorded"):
        once("reject: plain name, by link and unlink", base, weak=True)


# -- what the sync between link and unlink leaves time for -----------------------------------------


def put_back(root):
    """A replacement was moved by mistake; it goes back by link and unlink on every file system."""
    spool = Spool(os.fsencode(root), MAILMAN)
    directory = spool.make_state_dir(State.DEAD)
    with open(f"{root}/.watcher/dead/X.pck", "wb") as file:
        file.write(MESSAGE)
    putting_back.put_back(spool, b"X.pck", directory, b"X.pck")


def reunite(root):
    spool = Spool(os.fsencode(root), LEGACY)
    spool.make_state_dir(State.ORPHAN)
    for path in (".watcher/orphans/X.msg", "X.db"):
        with open(f"{root}/{path}", "wb") as file:
            file.write(MESSAGE)
    assert interrupted.reunite(spool, b"X.db") == b"X.msg"


@pytest.mark.parametrize(
    ("move", "layout", "name"), [(put_back, MAILMAN, "X.pck"), (reunite, LEGACY, "X.msg")]
)
def test_a_sweep_meanwhile_does_not_take_it_for_a_move_cut_short(
    base, monkeypatch, move, layout, name
):
    fsync, met = os.fsync, []

    def sweep_then_sync(fd):
        path = f"{base}/{name}"
        if not met and os.path.exists(path) and os.stat(path).st_nlink > 1:
            met.append(path)
            attempt = Attempt(Function(lambda _entry: None), settlement())
            attempt(Spool(os.fsencode(base), layout), os.fsencode(name), Proof.NONE)
        fsync(fd)

    monkeypatch.setattr(os, "fsync", sweep_then_sync)
    with renaming(noreplace=False):
        move(base)
    assert met
    with open(f"{base}/{name}", "rb") as file:
        assert file.read() == MESSAGE
    assert os.stat(f"{base}/{name}").st_nlink == 1


# -- the states, by hand ---------------------------------------------------------------------------


def test_the_states_of_two_changes_without_a_sync():
    """By hand: a file is made, written and renamed, and nothing is synced."""
    start = Disk(frozenset({"."}), frozenset(), frozenset())
    ops = [Op("create", 7, "a"), Op("write", 7, "a", data=b"data"), Op("rename", 7, "a", "b")]
    found = {
        (tuple(path for path, _ in state.files), *(data for _, data in state.contents))
        for issued, state in states(start, ops, weak=True)
        if issued == len(ops)
    }
    contents = [b"", b"da", b"da\0\0", b"\0\0\0\0", b"data"]
    assert found == {((),)} | {((name,), data) for name in "ab" for data in contents}
    synced = [*ops, Op("sync", 7, "b"), Op("sync names", 0, ".")]
    last = [state for issued, state in states(start, synced, weak=True) if issued == len(synced)]
    assert [(dict(state.files), dict(state.contents)) for state in last] == [
        ({"b": 7}, {7: b"data"})
    ]


def test_what_lies_in_a_directory_that_was_lost_is_lost():
    start = Disk(frozenset({"."}), frozenset({("a", 7)}), frozenset({(7, b"data")}))
    ops = [
        *(Op("mkdir", path="x"), Op("mkdir", path="x/y"), Op("rename", 7, "a", "x/y/a")),
        Op("sync names", 0, "x/y"),
    ]
    found = [state for issued, state in states(start, ops, weak=True) if issued == len(ops)]
    assert {tuple(path for path, _ in state.files) for state in found} == {(), ("x/y/a",)}
    held = [*ops[:2], Op("sync names", 0, "."), Op("sync names", 0, "x"), *ops[2:]]
    found = [state for issued, state in states(start, held, weak=True) if issued == len(held)]
    assert [dict(state.files) for state in found] == [{"x/y/a": 7}]
