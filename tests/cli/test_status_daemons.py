"""`status` beside daemons: what they say of themselves, and what follows from it.

Some daemons are real. For what takes a real one minutes to say (a handler that hangs, a sign of
life that does not come), the test's own process publishes it as a daemon does.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import time
import types

import pytest

import watcher
from tests.command_server import run_command
from watcher.cli.status_text import lines
from watcher.inspect import state_counts
from watcher.inspect.queue_status import queue_status
from watcher.rules.condition import Limits
from watcher.rules.names import Layout
from watcher.spool import daemon_status
from watcher.spool.daemon_status import DaemonStatus, Failure, InHand, Window
from watcher.spool.part import Part
from watcher.spool.spool import Spool


@pytest.fixture
def run(watcher_command, environment, queue):
    """Run `watcher status` for the queue; return its exit status and output."""

    def running(*arguments):
        argv = [*watcher_command, "status", str(queue), *arguments]
        ended = run_command(argv, env=environment, capture_output=True, text=True, timeout=60)
        assert ended.stderr == ""
        return ended.returncode, ended.stdout

    return running


@pytest.fixture
def record(run):
    """Return the object of `--json`."""
    return lambda: json.loads(run("--json")[1])


@pytest.fixture
def publish(queue):
    """Publish as a daemon does, from the test's own process."""
    spool = Spool(os.fsencode(queue), Layout())

    def publishing(**fields):
        now = time.time()
        known = {"process": os.getpid(), "user": "ann", "host": "here", "queue": "queue"}
        times = {"started": now - 7200, "written": now - 5, "next_by": now + 60}
        daemon_status.publish(spool, DaemonStatus(**(known | times | fields)))
        return spool

    return publishing


def about(found):
    """Return what is wrong, with how bad it is."""
    return {each["about"]: each["severity"] for each in found["findings"]}


def test_a_daemon_at_work_is_shown_with_its_numbers(queue, publish, run, record):
    windows = {"1m": Window(30), "5m": Window(90, 1, 2), "60m": Window(100, 2, 3)}
    publish(windows=windows, watch="inotify", concurrency=2, timeout=30.0)
    assert record()["condition"] == "ok"
    text = run()[1]
    assert f"process {os.getpid()} of user ann runs for 2h" in text.replace("\n             ", " ")
    assert [line.split() for line in text.splitlines() if "handled" in line] == [
        ["handled", "30", "90", "100"]
    ]
    code, line = run("--check")
    assert code == 0
    assert line.endswith(" daemons=1;;;0 handled_5m=90;;;0 failed_5m=1;;;0 rejected_5m=2;;;0\n")


def test_all_attempts_that_fail_are_critical_with_their_reason(queue, publish, run, record):
    now = time.time()
    failures = [
        Failure("exit status 75: connection refused", 40, now - 60, now),
        Failure("timeout", 1, now - 60, now),
    ]
    publish(windows={"5m": Window(0, 41, 0), "60m": Window(7, 41, 0)}, failures=failures)
    assert about(record()) == {"failing": "critical"}
    code, line = run("--check")
    assert code == 2
    assert "all of the last 41 attempts failed (in 5m): exit status 75: connection refused" in line
    assert run("--check", "--warn-failing", "100", "--crit-failing", "100")[0] == 2
    publish(windows={"5m": Window(10, 41, 0)}, failures=failures)
    assert run("--check")[0] == 1
    assert run("--check", "--warn-failing", "90%")[0] == 0


def test_an_entry_that_hangs_is_shown_with_the_process_to_end(queue, publish, run, record):
    stem = watcher.enqueue(queue, b"x")
    name = f"{stem}.pck"
    spool = publish(in_hand=[InHand(stem, 3, time.time() - 1200, 4321)])
    assert record()["in_hand"] == []  # no process has claimed it: what was published is old
    with open(queue / name, "rb") as claimed:
        fcntl.flock(claimed, fcntl.LOCK_EX)
        status = os.fstat(claimed.fileno())
        times = (status.st_ctime_ns, status.st_mtime_ns)
        part = Part(os.fsencode(name), claimed.fileno(), status.st_ino, status.st_size, *times)
        spool.ledger.take(spool, part)
        found = record()
        (in_hand,) = found["in_hand"]
        assert (in_hand["entry"], in_hand["attempt"], in_hand["process"]) == (stem, 3, 4321)
        assert found["states"]["claimed"]["count"] == 1
        assert found["states"]["ready"]["count"] == 0
        assert about(found) == {"hanging": "critical"}
        text = run()[1]
        assert f"next: watcher abort {queue} {stem}" in text
        assert re.search(r"attempt 3, for 20m\w*, process 4321", text)
    assert record()["in_hand"] == []  # the ledger still names it, and no process has claimed it


def test_no_sign_of_life_is_critical_though_the_process_lives(queue, publish, record):
    publish(next_by=time.time() - 90)
    assert about(record()) == {"daemon": "critical"}


def test_what_the_daemon_says_is_wrong_is_shown(queue, publish, run, record):
    publish(troubles={"disk": "no space", "entry": "\x1b[31m"}, last_taken="a", taken=1)
    assert about(record()) == {"disk": "critical", "entry": "warning"}
    assert "\x1b" not in run()[1]
    publish(last_taken="a", taken=1, last_taken_at=time.time() - 5)
    assert about(record()) == {"taken": "critical"}


def test_a_backlog_that_shrinks_has_an_end(queue, publish, monkeypatch):
    for number in range(10):
        watcher.enqueue(queue, b"%d" % number)
    spool = publish(windows={"1m": Window(60), "5m": Window(300), "60m": Window(300)})
    later = types.SimpleNamespace(**vars(time) | {"time": lambda: time.time() + 400})
    monkeypatch.setattr(state_counts, "time", later)
    seen = queue_status(spool, "queue", Limits())
    assert seen.rates == (1.0, 0.0)
    assert seen.done_in == 10.0
    assert "done in 10s at this rate (1/s leave, 0/s arrive)" in "\n".join(lines(seen))


def test_real_daemons_are_seen_alive_two_and_dead(queue, start_daemon, recorder, run, record):
    first = start_daemon(queue, handler=recorder.argv())
    assert about(record()) == {}
    second = start_daemon(queue, handler=recorder.argv())
    second.end(signal.SIGTERM)
    first.end(signal.SIGKILL)
    assert "no daemon runs" in run()[1]
    name = watcher.enqueue(queue, b"x")
    assert about(record()) == {"daemon": "warning"}
    code, line = run("--check", "--warn-age", "0s", "--crit-age", "0s")
    assert code == 2
    assert "no daemon runs, and 1 entry waits" in line
    assert (queue / f"{name}.pck").exists()


def test_a_paused_queue_says_so(queue, watcher_command, environment, run, record):
    argv = [*watcher_command, "pause", str(queue), "--reason", "moving house"]
    assert run_command(argv, env=environment).returncode == 0
    assert record()["condition"] == "ok"
    assert "moving house" in record()["paused"]
    watcher.enqueue(queue, b"x")
    found = record()
    assert about(found) == {"paused": "warning", "daemon": "warning"}
    (finding,) = (each for each in found["findings"] if each["about"] == "paused")
    assert finding["next"] == f"watcher resume {queue}"
    assert "moving house" in run()[1]


@pytest.mark.skipif(os.geteuid() != 0, reason="plays the owner of the queue")
def test_a_directory_that_its_owner_may_not_write_to_is_critical(queue, record):
    os.chown(queue, 65534, 65534)
    queue.chmod(0o555)
    found = record()
    assert about(found) == {"directory": "critical"}
    assert "(mode 0555)" in found["findings"][0]["what"]


def test_a_real_handler_at_work_is_in_hand_with_its_process(
    queue, start_daemon, recorder, eventually, record
):
    daemon = start_daemon(queue, "--sweep-every", "1h", handler=recorder.argv(gated=True))
    stem = watcher.enqueue(queue, b"x")

    def known():
        return [each for each in record()["in_hand"] if each["process"] is not None]

    (in_hand,) = eventually(known)
    assert (in_hand["entry"], in_hand["daemon"]) == (stem, daemon.process.pid)
    os.kill(in_hand["process"], 0)  # it is there
    recorder.open_gate()
    eventually(lambda: record()["in_hand"] == [])


def test_a_real_handler_that_always_fails_is_critical(queue, start_daemon, eventually, run):
    program = 'echo "10.0.0.$$: connection refused" >&2; exit 75'
    start_daemon(queue, "--sweep-every", "1h", handler=["sh", "-c", program])
    for number in range(3):
        watcher.enqueue(queue, b"%d" % number)
    line = eventually(lambda: next((out for code, out in [run("--check")] if code == 2), None))
    assert "all of the last 3 attempts failed (in 5m)" in line
    assert "connection refused" in line
