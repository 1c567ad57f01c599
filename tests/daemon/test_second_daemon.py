"""Two daemons on one queue: both say so, and with `exclusive` the second one does not serve it."""

from __future__ import annotations

import os
import signal
import subprocess

from tests.renaming import rename_in

OPTIONS = ["--format", "raw", "--writers", "rename"]


def test_each_of_two_daemons_says_once_that_the_other_is_there(queue, start_daemon):
    first = start_daemon(queue, *OPTIONS, handler=["true"])
    assert not first.events("second daemon")
    second = start_daemon(queue, *OPTIONS, handler=["true"])
    [said] = second.wait_for("second daemon")
    assert said["detail"].startswith(f"process {first.process.pid} ")
    # Each sweep looks; the status of the second one is there soon after its start.
    first.wait(lambda: first.send(signal.SIGUSR2) or first.events("second daemon"))
    [said] = first.events("second daemon")
    assert said["detail"].startswith(f"process {second.process.pid} ")
    assert second.end() == 0
    assert first.end() == 0
    assert len(first.events("second daemon")) == len(second.events("second daemon")) == 1


def test_an_exclusive_daemon_does_not_start_beside_another_one(
    queue, start_daemon, watcher_command, environment
):
    first = start_daemon(queue, *OPTIONS, handler=["true"])
    argv = [*watcher_command, "run", str(queue), *OPTIONS, "--exclusive", "--", "true"]
    ended = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=30)
    assert ended.returncode == os.EX_TEMPFAIL
    [line] = ended.stderr.splitlines()
    assert f"{queue}: process {first.process.pid} " in line
    assert "works here, and exclusive is set" in line
    rename_in(queue, "a")
    first.wait_for("finish", entry="a")
    assert first.end() == 0


def test_no_daemon_serves_the_queue_of_an_exclusive_one_until_that_ends(queue, start_daemon):
    first = start_daemon(queue, *OPTIONS, "--exclusive", handler=["true"])
    second = start_daemon(queue, *OPTIONS, handler=["true"], ready=False)
    [said] = second.wait_for("unhealthy")
    assert f"process {first.process.pid} " in said["detail"]
    assert "works here with exclusive set" in said["detail"]
    rename_in(queue, "a")
    first.wait_for("finish", entry="a")
    first.process.kill()  # the kernel gives up its lock
    first.process.wait()
    second.wait_for("recovered")
    rename_in(queue, "b")
    second.wait_for("finish", entry="b")
    assert second.end() == 0
