"""Retries by a real daemon: on disk, at their moment, over restarts, in turn with fresh ones."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import time

import pytest

import watcher
from watcher.rules.stamp import Schedule, parse, stamped

LATER = "1h"  # between sweeps: nothing here is found by one


@pytest.fixture
def configured(queue, tmp_path):
    """Write a configuration of the queue; return the flags that name it."""

    def write(handler, retry="", more=""):
        command = ", ".join(map(json.dumps, handler))
        (tmp_path / "w.toml").write_text(
            f'[queues.q]\npath = "{queue}"\nhandler = {{ exec = [{command}] }}\n'
            f'sweep_every = "{LATER}"\nretry = {{ {retry} }}\n{more}\n'
        )
        return ("--config", str(tmp_path / "w.toml"))

    return write


def deferred(queue, suffix=".pck"):
    place = queue / ".watcher/deferred"
    names = os.listdir(place) if place.exists() else []
    return sorted(name for name in names if name.endswith(suffix))


def put_deferred(queue, stem, *, due_ms=0, attempts=1, delay=0.0):
    """Put an entry into deferred/, as a program that keeps to docs/spool-format.md may."""
    place = queue / ".watcher/deferred"
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    scratch = place / f".{stem}.tmp"
    scratch.write_bytes(b"data")
    name = stamped(Schedule(due_ms, attempts, 0, delay, 0.0), stem.encode(), b".csv")
    scratch.rename(place / os.fsdecode(name))


RAW = 'format = "raw"\nsuffix = ".csv"\nwriters = "rename"'


def test_a_retry_survives_a_restart_and_comes_at_its_moment(queue, start_daemon, configured):
    flags = configured(["sh", "-c", '[ "$WATCHER_ATTEMPT" = 2 ]'], 'initial = "1500ms", jitter = 0')
    first = start_daemon(None, *flags)
    name = watcher.enqueue(queue, b"message")
    first.wait_for("defer", entry=name)
    assert first.end() == 0
    (numbered_name,) = deferred(queue)
    due = parse(numbered_name.encode())[0].due_ms / 1000
    again = start_daemon(None, *flags)
    (finished,) = again.wait_for("finish", entry=name)
    assert due <= finished["time"] < due + 1.0
    assert deferred(queue) == []


def test_the_delay_grows_and_the_count_is_on_disk(queue, start_daemon, configured, tmp_path):
    retry = 'initial = "50ms", multiplier = 2, jitter = 0, max_attempts = 4'
    began = tmp_path / "began"
    daemon = start_daemon(None, *configured(["sh", "-c", f"date +%s.%N >> {began}; false"], retry))
    name = watcher.enqueue(queue, b"message")
    daemon.wait_for("reject", entry=name)
    times = [float(line) for line in began.read_text().split()]
    waits = [later - sooner for sooner, later in itertools.pairwise(times)]
    assert len(waits) == 3
    whole = 0.001  # a stamp has milliseconds
    assert all(wait >= least - whole for wait, least in zip(waits, (0.05, 0.1, 0.2), strict=True))
    assert (queue / ".watcher/dead" / f"{name}.pck").exists()


def test_what_a_killed_daemon_had_in_hand_comes_first_and_is_counted(
    queue, start_daemon, recorder, configured
):
    first = start_daemon(queue, "--sweep-every", LATER, handler=recorder.argv(gated=True))
    name = watcher.enqueue(queue, b"message")
    with open(recorder.gate, "wb"):  # it is in the handler's hands
        first.process.send_signal(signal.SIGKILL)
        first.process.wait()
    handler = ["sh", "-c", 'echo "$WATCHER_ATTEMPT" > "$1"', "sh", str(queue.parent / "attempt")]
    again = start_daemon(queue, "--sweep-every", "200ms", handler=handler)  # till its handler ends
    again.wait_for("finish", entry=name)
    counted = again.events("defer", entry=name)
    assert len(counted) <= 1  # none: its first handler had ended before a test could ask
    attempt = (queue.parent / "attempt").read_text().strip()
    assert attempt == str(1 + len(counted))


def test_a_daemon_sees_at_once_what_another_deferred(
    queue, start_daemon, configured, watcher_command, environment
):
    raw = ("--format", "raw", "--suffix", ".csv")
    options = (*raw, "--sweep-every", LATER, "--grace-age", "1h")
    daemon = start_daemon(queue, *options, handler=["true"])
    (queue / "X.csv").write_bytes(b"not renamed in, so that the daemon hears nothing of it")
    flags = configured(["false"], 'initial = "300ms"', RAW)
    ended = subprocess.run(
        [*watcher_command, "sweep", str(queue), "--grace-age", "0s", *flags],
        env=environment,
        check=False,
    )
    assert ended.returncode == os.EX_TEMPFAIL
    daemon.wait_for("finish", entry="X.csv")
    assert daemon.events("defer") == []


@pytest.mark.parametrize("late", [True, False])
def test_an_entry_put_into_deferred_is_seen_at_once(
    queue, start_daemon, recorder, configured, late
):
    flags = configured(recorder.argv(), more=RAW)
    if not late:
        put_deferred(queue, "X")
    daemon = start_daemon(None, *flags)
    if late:
        put_deferred(queue, "X")
    daemon.wait_for("finish", entry="X.csv")
    assert [call["entry"] for call in recorder.calls] == ["X.csv"]


def test_a_stamp_from_a_clock_far_ahead_waits_its_own_delay_only(
    queue, start_daemon, recorder, configured
):
    in_a_year = round((time.time() + 365 * 86400) * 1000)
    put_deferred(queue, "X", due_ms=in_a_year, delay=0.5)
    began = time.monotonic()
    daemon = start_daemon(None, *configured(recorder.argv(), more=RAW))
    daemon.wait_for("finish", entry="X.csv")
    assert 0.5 <= time.monotonic() - began < 20


def test_fresh_entries_and_due_ones_take_turns(queue, start_daemon, recorder, configured):
    for number in range(100):
        put_deferred(queue, f"due{number:03}")
    daemon = start_daemon(None, *configured(recorder.argv(), more=RAW))
    for number in range(20):
        (queue / f"{number:02}.tmp").write_bytes(b"data")
        (queue / f"{number:02}.tmp").rename(queue / f"fresh{number:02}.csv")
    daemon.wait_for("finish", 120)
    order = [call["entry"] for call in recorder.calls]
    fresh = [place for place, entry in enumerate(order) if entry.startswith("fresh")]
    assert [order[place] for place in fresh] == [f"fresh{number:02}.csv" for number in range(20)]
    gaps = [later - sooner for sooner, later in itertools.pairwise(fresh)]
    assert max(gaps) <= 2 + len([gap for gap in gaps if gap > 2])  # one due between two fresh
    assert order[-1].startswith("due"), "and no due one waits for all fresh ones"
    due = [entry for entry in order if entry.startswith("due")]
    assert due == sorted(due)


def test_the_status_tells_of_deferred_ones(queue, start_daemon, configured):
    put_deferred(queue, "X", due_ms=round((time.time() + 3600) * 1000), delay=3600.0)
    daemon = start_daemon(None, *configured(["true"], more=RAW))
    daemon.process.send_signal(signal.SIGUSR1)
    (status,) = daemon.wait_for("status")
    assert "1 deferred" in status["detail"]


def test_what_lay_aside_beside_a_replacement_is_handled_under_its_own_name_at_once(
    queue, start_daemon, configured, recorder
):
    left = queue / ".watcher/inflight/4194304.0badcafe"
    left.mkdir(parents=True, mode=0o700)
    (left / "report.csv").write_bytes(b"yesterday's")
    (queue / "report.csv").write_bytes(b"today's")
    daemon = start_daemon(None, *configured(recorder.argv(), more=RAW))
    daemon.wait_for("finish", 2)
    assert {(call["entry"], call["attempt"]) for call in recorder.calls} == {("report.csv", 1)}
    daemon.wait_for("recovered", detail="a process died: 1 file put back, 0 entries were in hand")
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_for("reloaded", detail="1 queue")
