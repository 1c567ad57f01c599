"""Proof that events arrive: a real daemon whose inotify descriptor another process has, too.

The other process is `events_thief.py`: it gets the descriptor by pidfd_getfd(2), which needs the
permission to trace the daemon, and removes the watch or reads the events.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

import watcher

NEVER = ("--sweep-every", "1h")
OFTEN = ("--canary", "300ms", *NEVER)


def commit(queue, numbers):
    return [watcher.enqueue(queue, b"Subject: %d\n\n" % number) for number in numbers]


def told(run, queue):
    """Return what `watcher status` says, on one line."""
    return " ".join(run("status", queue).split())


class Written:
    """A handler that is quick: it appends the entry's name to a file."""

    def __init__(self, path):
        self.path = path
        self.argv = ["sh", "-c", f'echo "$WATCHER_ENTRY" >>{path}']

    def names(self):
        return sorted(self.path.read_text().split())


@pytest.fixture
def written(tmp_path):
    return Written(tmp_path / "written")


def test_a_watch_that_is_removed_unseen_under_load_is_found_and_armed_anew(
    queue, start_daemon, written, steal
):
    daemon = start_daemon(queue, *OFTEN, "--concurrency", "4", handler=written.argv)
    names = commit(queue, range(4))
    daemon.wait_for("finish")
    daemon.send(signal.SIGSTOP)
    names += commit(queue, range(4))
    steal(daemon, queue, steals=False)
    daemon.send(signal.SIGCONT)
    names += commit(queue, range(8))
    (blind,) = daemon.wait_for("watch blind")
    assert blind["level"] == "warning"
    assert "the kernel has no watch" in blind["detail"]
    daemon.wait_for("watch sees again")
    names += commit(queue, range(2))
    daemon.wait_for("finish", len(names))
    assert daemon.end() == 0
    assert written.names() == sorted(names)
    assert len(daemon.events("watch blind")) == 1


def test_stolen_events_are_found_and_read_from_another_instance(
    queue, start_daemon, written, steal
):
    daemon = start_daemon(queue, *OFTEN, handler=written.argv)
    thief = steal(daemon, queue, steals=True)
    names = commit(queue, range(3))
    (blind,) = daemon.wait_for("watch blind")
    assert "gave no event" in blind["detail"]
    daemon.wait_for("behind")
    daemon.wait_for("watch sees again")
    names += commit(queue, range(3))
    daemon.wait_for("finish", len(names))
    thief.end()
    assert daemon.end() == 0
    assert written.names() == sorted(names)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")
def test_a_queue_that_stays_blind_is_unhealthy_and_its_entries_are_found_by_scans(
    queue, start_daemon, written, run, watcher_command, steal
):
    """No second inotify instance is to be had, so that the thief gets the events until it ends."""
    if subprocess.run(["unshare", "-Ur", "true"], check=False, capture_output=True).returncode:
        pytest.skip("no user namespaces here")
    shell = 'echo 1 >/proc/sys/user/max_inotify_instances; exec "$@"'
    watcher_command[:] = ["unshare", "-Ur", "sh", "-c", shell, "sh", *watcher_command]
    daemon = start_daemon(queue, *OFTEN, handler=written.argv)
    thief = steal(daemon, queue, steals=True)
    daemon.wait_for("watch blind", queue="queue")
    names = commit(queue, range(3))
    daemon.wait_for("finish", 3)
    watcher_command[:] = watcher_command[6:]
    daemon.wait(lambda: "events do not arrive" in told(run, queue))
    thief.end()
    daemon.wait_for("watch sees again")
    daemon.wait(lambda: "events do not arrive" not in told(run, queue))
    assert written.names() == sorted(names)


@pytest.mark.slow
def test_a_killed_daemon_leaves_one_file_that_the_next_one_removes(queue, start_daemon, run):
    inflight = queue / ".watcher" / "inflight"
    daemon = start_daemon(queue, "--canary", "50ms", *NEVER, handler=["/bin/true"])
    daemon.wait(lambda: list(inflight.glob("*/.canary*")))
    daemon.end(signal.SIGKILL)
    assert len(list(inflight.glob("*/.canary*"))) == 1
    assert run("list", queue) == ""
    run("audit", queue)
    (left,) = inflight.iterdir()
    start_daemon(queue, "--canary", "0s", handler=["/bin/true"])
    assert not left.exists()
    assert list(inflight.glob("*/.canary*")) == []


@pytest.mark.slow
@pytest.mark.parametrize("options", [("--canary", "0s"), ("--source", "polling")])
def test_no_canary_is_made_where_it_is_off_or_proves_nothing(queue, start_daemon, options):
    daemon = start_daemon(
        queue, "--canary", "50ms", "--sweep-every", "50ms", *options, handler=["/bin/true"]
    )
    before = switches(daemon)
    daemon.wait(lambda: sum(switches(daemon).values()) > sum(before.values()) + 10)  # some sweeps
    assert list((queue / ".watcher" / "inflight").glob("*/.canary*")) == []


def switches(daemon):
    """Return how often each thread has gone to sleep so far."""
    found = {}
    for task in Path(f"/proc/{daemon.process.pid}/task").iterdir():
        text = (task / "status").read_text()
        found[task.name] = int(re.search(r"\nvoluntary_ctxt_switches:\t(\d+)", text)[1])
    return found


def woken(daemon, seconds):
    """Return how often the daemon's thread woke in a second, and how often all others."""
    before, began = switches(daemon), time.monotonic()
    time.sleep(seconds)  # nothing may happen in this time
    after, passed = switches(daemon), time.monotonic() - began
    main = str(daemon.process.pid)
    others = sum(after[task] - before.get(task, 0) for task in after if task != main)
    return (after[main] - before[main]) / passed, others / passed


@pytest.mark.parametrize(
    ("queues", "sweep_every"),
    [
        pytest.param(1, "1h", marks=pytest.mark.slow),
        (10, "1h"),
        pytest.param(10, "100ms", marks=pytest.mark.slow),
    ],
)
def test_an_idle_daemon_wakes_once_in_an_interval_and_a_worker_for_the_event(
    tmp_path, start_daemon, queues, sweep_every
):
    config = tmp_path / "w.toml"
    text = ""
    for number in range(queues):
        (tmp_path / f"q{number}").mkdir()
        text += (
            f'[queues.q{number}]\npath = "{tmp_path}/q{number}"\nsweep_every = "{sweep_every}"\n'
        )
        text += 'canary = "100ms"\nconcurrency = 2\nhandler = { exec = ["/bin/true"] }\n'
    config.write_text(text)
    daemon = start_daemon(None, "--config", str(config), ready=False)
    daemon.wait_for("ready", queues)
    daemon.wait(lambda: list(tmp_path.glob("q*/.watcher/inflight/*/.canary*")))
    time.sleep(1.1)  # until the status is published for the last time
    main, others = woken(daemon, 0.8)
    # Ten intervals in a second; once for each queue would be a hundred. The sweeps wake the main
    # thread, too, and a worker that wakes meanwhile waits for the interpreter: another switch.
    sweeps = sweep_every != "1h"
    if not sweeps:
        assert 5 < main < 20
    assert others < (50 if sweeps else 20)
    assert daemon.events("watch blind") == []


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root serves the queues of others")
def test_two_daemons_send_canaries_in_a_state_directory_for_another_owner(
    tmp_path, queue, start_daemon
):
    state = tmp_path / "state"
    for directory in (tmp_path, queue):
        os.chown(directory, 65534, 65534)
    queue.chmod(0o1777)  # sticky
    options = ("--canary", "100ms", "--state-dir", str(state), *NEVER)
    daemons = [start_daemon(queue, *options, handler=["/bin/true"]) for _ in range(2)]
    daemons[0].wait(lambda: len(list(state.glob("inflight/*/.canary*"))) == len(daemons))
    before = [sum(switches(daemon).values()) for daemon in daemons]
    for daemon, woken_before in zip(daemons, before, strict=True):
        daemon.wait(lambda d=daemon, w=woken_before: sum(switches(d).values()) >= w + 10)
        assert daemon.events("watch blind") == []
    assert {file.stat().st_uid for file in state.glob("inflight/*/.canary*")} == {65534}


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
@pytest.mark.parametrize("state", ["full", "read-only"])
def test_a_disk_that_takes_no_canary_makes_no_queue_blind(tmp_path, start_daemon, state):
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "nr_inodes=30", "none", str(small)]
    if subprocess.run(mount, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        (small / "queue").mkdir()
        daemon = start_daemon(small / "queue", "--canary", "500ms", *NEVER, handler=["/bin/true"])
        if state == "full":
            with contextlib.suppress(OSError):
                for number in range(30):
                    (small / f"{number}").touch()
        else:
            subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
        (refused,) = daemon.wait_for("no canary")
        assert ("No space left" if state == "full" else "Read-only") in refused["detail"]
        before = sum(switches(daemon).values())
        daemon.wait(lambda: sum(switches(daemon).values()) >= before + 3)
        assert daemon.events("watch blind") == []
    finally:
        daemon.destroy()
        subprocess.run(["umount", str(small)], check=True)
