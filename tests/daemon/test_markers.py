"""A daemon on a drop folder with markers or companions: each file beside an entry is heard.

Its sweep comes once an hour, so that only events bring an entry to a worker.
"""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.renaming import rename_in

NAME, DONE = "report.csv", "report.csv.done"
BASE = ["--format", "raw", "--grace-age", "1h", "--sweep-every", "1h", "--log-level", "debug"]
MARKED = [*BASE, "--marker", "{name}.done"]
pytestmark = [pytest.mark.promise1, pytest.mark.promise2]


@pytest.fixture
def daemon(queue, recorder, start_daemon):
    """Start a daemon and wait until its first scan is over."""

    def start(*options):
        started = start_daemon(queue, *(options or MARKED), handler=recorder.argv())
        started.wait_for("ready")
        return started

    return start


def names(queue):
    return sorted(path.name for path in queue.iterdir() if path.name != ".watcher")


def quiet(queue, daemon):
    """Have another entry handled: what came before it was looked at."""
    (queue / "other").write_bytes(b"x")
    (queue / "other.done").write_bytes(b"")
    daemon.wait_for("finish", entry="other")


@pytest.mark.parametrize("how", ["in place", "renamed", "linked"])
def test_the_marker_is_heard_however_it_comes(queue, recorder, daemon, how):
    started = daemon()
    (queue / NAME).write_bytes(b"whole")
    quiet(queue, started)
    assert not started.events("claim", entry=NAME)
    if how == "in place":
        (queue / DONE).write_bytes(b"")
    elif how == "renamed":
        rename_in(queue, DONE, b"")
    else:
        (queue.parent / "scratch").write_bytes(b"")
        (queue / DONE).hardlink_to(queue.parent / "scratch")
    started.wait_for("finish", entry=NAME)
    started.wait(lambda: names(queue) == [])
    assert len(started.events("claim", entry=NAME)) == 1


def test_a_polled_queue_sees_its_markers_and_companions(queue, daemon):
    started = daemon(*MARKED, "--companions", "{name}.aria2", "--source", "polling")
    (queue / "report.csv.aria2").write_bytes(b"")
    (queue / NAME).write_bytes(b"whole")
    (queue / DONE).write_bytes(b"")
    quiet(queue, started)
    assert not started.events("claim", entry=NAME)
    (queue / "report.csv.aria2").unlink()
    started.wait_for("finish", entry=NAME)
    started.wait(lambda: names(queue) == [])


def test_an_entry_is_heard_that_comes_after_its_marker(queue, daemon):
    started = daemon()
    (queue.parent / NAME).write_bytes(b"whole")
    (queue / DONE).write_bytes(b"")
    quiet(queue, started)
    os.rename(queue.parent / NAME, queue / NAME)
    started.wait_for("finish", entry=NAME)
    started.wait(lambda: names(queue) == [])


def test_the_close_of_an_entry_is_heard_whose_marker_came_too_early(queue, daemon):
    started = daemon()
    with (queue / NAME).open("wb") as slow:
        slow.write(b"whole")
        slow.flush()
        (queue / DONE).write_bytes(b"")
        quiet(queue, started)
        assert not started.events("claim", entry=NAME)
    started.wait_for("finish", entry=NAME)


def test_what_is_there_at_the_start_is_taken_by_its_marker_alone(queue, recorder, daemon):
    (queue / NAME).write_bytes(b"whole")
    (queue / DONE).write_bytes(b"")
    (queue / "half.csv").write_bytes(b"half")
    started = daemon()
    started.wait_for("finish", entry=NAME)
    quiet(queue, started)
    assert names(queue) == ["half.csv"]


@pytest.mark.parametrize("how", ["removed", "renamed away"])
def test_an_entry_is_taken_when_its_companion_goes(queue, daemon, how):
    started = daemon(*BASE, "--companions", "{name}.aria2")
    lock = queue / "report.csv.aria2"
    lock.write_bytes(b"")
    rename_in(queue, NAME, b"whole")
    rename_in(queue, "other", b"x")
    started.wait_for("finish", entry="other")
    assert not started.events("claim", entry=NAME)
    lock.unlink() if how == "removed" else lock.rename(queue.parent / "away")
    started.wait_for("finish", entry=NAME)
    assert names(queue) == []


def test_what_waits_past_its_grace_age_is_reported_and_stays(queue, start_daemon):
    options = ["--grace-age", "200ms", "--sweep-every", "100ms", "--marker", "{name}.done"]
    (queue / NAME).write_bytes(b"half")
    (queue / "gone.csv.done").write_bytes(b"")
    started = start_daemon(queue, "--format", "raw", *options, handler=["true"])
    (waits,) = started.wait_for("waits", 1)
    assert f"{NAME}: waits for its marker {DONE}, for " in str(waits)
    (alone,) = started.wait_for("left alone", 1)
    assert "gone.csv.done: a marker without its entry" in str(alone)
    assert names(queue) == ["gone.csv.done", NAME]


def test_no_command_needs_to_be_told_of_the_marker_again(
    queue, recorder, daemon, watcher_command, environment
):
    def run(*words):
        argv = [*watcher_command, words[0], str(queue), *words[1:]]
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    started = daemon()
    (queue / NAME).write_bytes(b"whole")
    quiet(queue, started)
    assert f"waits for its marker {DONE}" in run("list")
    (queue / DONE).write_bytes(b"")
    started.wait_for("finish", entry=NAME)
    started.wait(lambda: names(queue) == [])
    assert "every entry is accounted for" in run("audit")
