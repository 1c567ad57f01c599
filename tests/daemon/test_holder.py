"""A process that locks an entry and hands it to no handler is named."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from tests.renaming import rename_in
from watcher.claim.holders import described

LOCK = """import fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
fcntl.flock(fd, fcntl.LOCK_EX)
print("locked", flush=True)
sys.stdin.read()
"""


def test_a_stranger_that_locks_an_entry_is_named_and_others_are_handled(
    queue, start_daemon, recorder, watcher_command, environment
):
    (queue / "a").write_bytes(b"x")
    argv = [sys.executable, "-c", LOCK, str(queue / "a")]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as stranger:
        assert stranger.stdout.readline() == b"locked\n"
        daemon = start_daemon(
            queue, "--format", "raw", "--grace-age", "10ms", handler=recorder.argv()
        )
        (said, *_) = daemon.wait_for("busy")
        assert said["detail"].startswith(f"a: claimed by process {stranger.pid}, which hands it to")
        (said, *_) = daemon.wait_for("unhealthy")
        assert f"a: claimed by process {stranger.pid}" in said["detail"]
        rename_in(queue, "b")
        daemon.wait_for("finish", entry="b")
        arguments = ["list", str(queue), "--format", "raw"]
        listed = subprocess.run(
            [*watcher_command, *arguments], env=environment, capture_output=True, check=True
        )
        assert b"by process %d" % stranger.pid in listed.stdout
        stranger.stdin.close()
    daemon.wait_for("finish", entry="a")
    daemon.wait_for("recovered")


def test_another_daemon_that_handles_an_entry_is_no_stranger(queue, start_daemon, recorder):
    options = ["--format", "raw", "--grace-age", "10ms", "--sweep-every", "100ms"]
    first = start_daemon(queue, *options, handler=recorder.argv(gated=True))
    rename_in(queue, "a")
    first.wait(lambda: recorder.calls)
    second = start_daemon(queue, *options, handler=["true"])
    rename_in(queue, "b")
    second.wait_for("finish", entry="b")
    time.sleep(2.5)  # the thing itself: that nothing is said for longer than it would take
    assert not second.events("busy")
    assert not second.events("unhealthy")
    recorder.open_gate()
    first.wait_for("finish", entry="a")


def test_the_holder_is_told_with_its_user():
    assert described(os.getpid()) == f"process {os.getpid()}"
    assert described(0) == "a process of another container, or one that /proc does not show us"
    if os.geteuid() == 0:
        child = subprocess.Popen(["sleep", "60"], user=65534)
        try:
            assert described(child.pid).startswith(f"process {child.pid} (user ")
        finally:
            child.kill()
            child.wait()
