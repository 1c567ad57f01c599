"""A name that is used again while it is in hand, or while a hint of its rename still waits."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.renaming import rename_in


def test_what_is_written_over_the_file_in_hand_is_handled_and_not_removed(
    queue, recorder, start_daemon
):
    options = ["--format", "raw", "--grace-age", "300ms", "--log-level", "debug"]
    daemon = start_daemon(queue, *options, handler=recorder.argv(gated=True))
    rename_in(queue, "report.csv", b"yesterday's")
    daemon.wait_for("claim", entry="report.csv")
    (queue / "report.csv").write_bytes(b"today's is longer")  # as cp does: the same inode
    recorder.open_gate()
    daemon.wait_for("release", entry="report.csv")
    daemon.wait_for("claim", 2, entry="report.csv")
    recorder.open_gate()
    daemon.wait_for("finish", entry="report.csv")
    assert not (queue / "report.csv").exists()
    assert len(recorder.calls) == 2


def test_a_rename_proves_nothing_of_a_file_written_later_under_its_name(
    queue, recorder, start_daemon
):
    options = ["--format", "raw", "--grace-age", "1h", "--log-level", "debug"]
    daemon = start_daemon(queue, *options, handler=recorder.argv(gated=True))
    rename_in(queue, "first", b"1")
    daemon.wait_for("claim", entry="first")
    rename_in(queue, "second", b"2")  # its hint waits for the worker
    sweep = [sys.executable, "-P", "-m", "watcher", "sweep", str(queue), "--format", "raw"]
    subprocess.run(  # another takes it meanwhile
        [*sweep, "--grace-age", "0s", "--", "true"], check=True, capture_output=True
    )
    assert not (queue / "second").exists()
    with open(queue / "second", "wb") as slow:
        slow.write(b"half of ")
        slow.flush()
        os.fsync(slow.fileno())
        rename_in(queue, "third", b"3")
        recorder.open_gate()
        daemon.wait_for("finish", entry="first")
        daemon.wait_for("claim", entry="third")  # it came after the second
        assert not daemon.events("claim", entry="second")
        recorder.open_gate()
        daemon.wait_for("finish", entry="third")
    assert (queue / "second").read_bytes() == b"half of "
