"""How many system calls, Python calls and wake-ups an entry costs: counts are the same everywhere.

The table of what each system call is for is in docs/architecture.md, "The hot path".
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from bench.measures.calls import per_entry
from bench.stand import Stand

LOOKS = "stat"  # which of these calls the C library makes of stat(2) and fstat(2) is its own
HOT_PATH = {"openat": 1, "flock": 1, LOOKS: 3, "unlinkat": 1, "close": 1}
PAIR = {"openat": 2, "flock": 2, "fcntl": 4, LOOKS: 6, "unlinkat": 2, "close": 2}
ENTRIES = 250
# By no rule: how often two threads want one lock, how many events one wake-up reads, and how often
# the daemon's thread sleeps, so that a worker sets its alarm. In a storm they are
# hundredths an entry; if the daemon is quicker than the writer, one for each event.
NOW_AND_THEN = {"futex", "poll", "read", "readv", "timerfd_settime", "write"}
EVENTS = {False: 1, True: 2}


# Calls of Python functions of this package for a lone renamed file that a Python handler handles.
PATH = 30  # from read(2) of its event to unlink(2)
ROUND = 40  # from one wait for events to the next
CLASSES = {"EventReader", "WorkerLoop", "Pending"}  # of the daemon
WAKES = 1  # of a thread, after one entry
LONE = 5  # entries
# Seconds after each: longer than any thread stays awake, and than from one status to the next.
ALONE = 1.5


@pytest.fixture(scope="module")
def tracing():
    """Skip where nothing can be traced."""
    if shutil.which("strace") is None:
        pytest.skip("no strace here")
    if subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True).returncode:
        pytest.skip("nothing can be traced here")


def rule_bound(counted):
    """Return the calls of which each entry has its number, for an entry."""
    by_rule: Counter[str] = Counter()
    for name, count in counted.items():
        if name not in NOW_AND_THEN and count > 0.1:
            by_rule[LOOKS if name.endswith(("stat", "statat", "statx")) else name] += count
    return by_rule


@pytest.mark.usefixtures("tracing")
@pytest.mark.parametrize(
    ("legacy", "known"), [(False, HOT_PATH), (True, PAIR)], ids=["entry", "pair"]
)
def test_an_entry_costs_these_calls_and_no_others(tmp_path, legacy, known):
    # What the daemon does by the clock (status, canary) adds to a run that lasts long, and never
    # takes away: of three runs the cheapest counts.
    runs = (
        per_entry(Stand(str(tmp_path / str(run)), None, quick=True), ENTRIES, 0, legacy=legacy)
        for run in range(3)
    )
    for counted in runs:
        by_rule = rule_bound(counted)
        if {name: round(count) for name, count in by_rule.items()} == known:
            break
    assert {name: round(count) for name, count in by_rule.items()} == known, counted
    assert all(abs(by_rule[name] - count) < 0.2 for name, count in known.items()), counted
    by_luck = NOW_AND_THEN - {"futex"}
    assert all(counted.get(name, 0) < EVENTS[legacy] + 0.2 for name in by_luck), counted


@pytest.fixture(scope="module")
def lone_entries(tmp_path_factory):
    """Return what each thread of a daemon calls, and when, for some entries far from each other."""
    base = tmp_path_factory.mktemp("lone")
    queue, target = base / "queue", base / "trace"
    queue.mkdir()
    program = Path(__file__).with_name("trace_calls.py")
    moments = []
    with subprocess.Popen([sys.executable, program, queue, target]) as daemon:
        for number in range(LONE):
            name = f"1017783548.{number}+{hashlib.sha1(b'%d' % number).hexdigest()}.pck"
            (queue / "new.tmp").write_bytes(b"x")
            moments.append(time.monotonic())
            (queue / "new.tmp").rename(queue / name)
            while (queue / name).exists():
                assert time.monotonic() < moments[-1] + 30
                time.sleep(0.01)
            time.sleep(ALONE)
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(30) == 0
    return moments, json.loads(target.read_bytes())


def rounds(trace):
    """Yield the worker's rounds, poll(2) to poll(2), in which it removed a file."""
    own = [(kind, name) for _, thread, kind, name in trace if thread == "q/1"]
    woken = [index for index, event in enumerate(own) if event == ("leave", "poll")]
    for first, last in zip(woken, [*woken[1:], len(own)], strict=True):
        part = own[first:last]
        if ("enter", "unlink") in part:
            yield part


def calls(events):
    return [name for kind, name in events if kind == "call"]


def test_an_entry_passes_few_python_functions(lone_entries):
    _, trace = lone_entries
    # Now and then a thread has more to do: every ten seconds the counters begin another slot.
    warm = min(rounds(trace), key=lambda part: len(calls(part)))
    path = warm[warm.index(("leave", "readv")) : warm.index(("enter", "unlink"))]
    assert len(calls(path)) <= PATH, calls(path)
    daemon = [name.partition(" ")[2] for name in calls(path) if name.startswith("watcher.daemon.")]
    assert {name.partition(".")[0] for name in daemon} <= CLASSES, daemon
    assert len(calls(warm)) <= ROUND, calls(warm)


def test_after_a_lone_entry_no_thread_wakes_more_often_than_it_must(lone_entries):
    moments, trace = lone_entries
    wakes = [
        Counter(
            thread
            for when, thread, kind, name in trace
            if (kind, name) == ("leave", "poll") and moment < when < moment + ALONE
        )
        for moment in moments[2:]  # what a start has to do is done by then
    ]
    # A timer of the daemon may fall into one of the windows: the middle one counts.
    assert sorted(woken["q/1"] for woken in wakes)[1] == 1
    assert sorted(woken["MainThread"] for woken in wakes)[1] <= WAKES
