"""What an operator puts back is handled in the order of commit, each batch from its first entry on.

No sweep comes while these tests run: what the daemon handles, it was told of.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import subprocess

import pytest

import watcher
from tests.renaming import rename_within
from watcher.claim.passing import PAUSES, Passing
from watcher.rules.names import Layout
from watcher.spool.spool import Spool

QUIET = ("--sweep-every", "1h", "--breaker", "0")
RAW = ("--format", "raw", "--suffix", ".csv")


@pytest.fixture
def one_processor():
    """Have the daemon and the commands share one: a command is stopped between its steps."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


@pytest.fixture
def gated(tmp_path):
    """A handler that rejects (or retries) until there is a gate, then notes the names."""

    def make(status):
        gate, seen = tmp_path / "open", tmp_path / "seen"
        path = tmp_path / "handler"
        path.write_text(
            f'#!/bin/sh\n[ -e {gate} ] || exit {status}\necho "$WATCHER_ENTRY" >> {seen}\n'
        )
        path.chmod(0o755)
        return [str(path)], gate, seen

    return make


def test_no_batch_has_its_first_entry_handled_late(queue, run, start_daemon, gated, one_processor):
    handler, gate, seen = gated(65)
    daemon = start_daemon(queue, *QUIET, handler=handler)
    names = [watcher.enqueue(queue, b"%d" % number) for number in range(200)]
    daemon.wait_for("reject", len(names))
    gate.touch()
    for start in range(0, len(names), 20):
        run("requeue", queue, "ALL", "--state", "dead", "--limit", "20")
        daemon.wait_for("finish", start + 20)
    assert seen.read_text().split() == names


@pytest.fixture
def locked_elsewhere(queue):
    """A process that has an entry locked; ended by `release`."""
    rename_within(queue, "a.csv")
    path = queue / "a.csv"
    (queue / ".watcher/inflight").mkdir(parents=True, mode=0o700)
    argv = ["flock", str(path), "cat"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdin.write(b"locked\n")
        other.stdin.flush()
        assert other.stdout.readline() == b"locked\n"
        yield other


def test_an_entry_that_an_operator_still_has_is_waited_for(queue, locked_elsewhere):
    """A command that the machine stops between its rename and the end of its claim."""
    spool, paused = Spool(os.fsencode(queue), Layout(b".csv", raw=True)), []

    def pause(seconds):
        paused.append(seconds)
        if len(paused) == 5:
            locked_elsewhere.communicate()

    tries = 0
    for _ in Passing().looks(spool, b"a.csv", pause):
        tries += 1
        with open(queue / "a.csv", "rb") as file, contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
    assert tries == 5
    assert sum(paused) < 0.02


def test_one_that_keeps_many_locked_is_waited_for_once(queue, locked_elsewhere):
    spool, passing = Spool(os.fsencode(queue), Layout(b".csv", raw=True)), Passing()
    ledger = queue / f".watcher/inflight/{locked_elsewhere.pid}.0badcafe/.ledger"
    ledger.parent.mkdir()
    ledger.touch()
    assert not list(passing.looks(spool, b"a.csv", paused := [].append)), "it has it for a handler"
    ledger.unlink()
    assert len(list(passing.looks(spool, b"a.csv", paused))) == len(PAUSES)
    assert not list(passing.looks(spool, b"a.csv", paused)), "it is known by now"
    locked_elsewhere.communicate()
    assert len(list(passing.looks(spool, b"a.csv", paused))) < len(PAUSES), "it is no lock"


def test_requeue_all_keeps_the_order_of_commit_whatever_is_due_when(
    queue, run, start_daemon, gated
):
    """300 whose files were renamed since: some were held, and some released, before the others."""
    handler, gate, seen = gated(75)
    daemon = start_daemon(queue, *QUIET, *RAW, handler=handler)
    order = [f"{number:03}.csv" for number in range(300)]
    random.Random(1).shuffle(order)
    for name in order:
        rename_within(queue, name)
    daemon.wait_for("defer", len(order))
    run("hold", queue, *order[5::11], *RAW)
    run("hold", queue, "ALL", *RAW)
    run("release", queue, *order[3::7], *RAW)
    run("release", queue, "ALL", *RAW)
    gate.touch()
    run("requeue", queue, "ALL", "--limit", "5", *RAW)
    daemon.wait_for("finish", 5)
    run("requeue", queue, "ALL", *RAW)
    daemon.wait_for("finish", len(order))
    assert seen.read_text().split() == order


def test_names_that_tell_their_moment_are_believed(queue, run, start_daemon, gated):
    handler, gate, seen = gated(75)
    daemon = start_daemon(queue, *QUIET, handler=handler)
    names = [watcher.enqueue(queue, b"%d" % number) for number in range(30)]
    daemon.wait_for("defer", len(names))
    for name in random.Random(2).sample(names, 10):
        run("hold", queue, name)
    run("release", queue, "ALL")
    for note in (queue / ".watcher/deferred").glob("*.json"):
        note.unlink()  # no decision depends on a note
    gate.touch()
    run("requeue", queue, "ALL")
    daemon.wait_for("finish", len(names))
    assert seen.read_text().split() == names
