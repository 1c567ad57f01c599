"""What cannot be settled is not begun; what can be settled on a full disk is."""

from __future__ import annotations

import os
import subprocess

import pytest

import writers

LETTER = writers.message_for(1, 1)


@pytest.mark.parametrize("layout", ["mailman", "raw"])
def test_no_handler_runs_while_our_directory_is_of_no_use(
    queue, recorder, watcher_command, environment, layout
):
    (queue / ".watcher").write_text("in the way")
    writers.commit_2_1_5(str(queue), LETTER, writers.no_pause)
    sweep = [*watcher_command, "sweep", str(queue), "--format", layout, "--grace-age", "0s", "--"]
    for _ in range(2):
        ended = subprocess.run(
            [*sweep, *recorder.argv()], env=environment, capture_output=True, check=False
        )
        assert ended.returncode == os.EX_TEMPFAIL, ended
        assert b"in the way of our own directory" in ended.stdout
    assert recorder.calls == []
    (queue / ".watcher").unlink()
    subprocess.run([*sweep, *recorder.argv()], env=environment, capture_output=True, check=True)
    assert len(recorder.calls) == 1
    assert [path.name for path in queue.iterdir()] == [".watcher"]


def test_a_daemon_started_on_a_full_disk_handles_what_fills_it(queue, recorder, start_daemon):
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k,nr_inodes=32", "tmpfs", str(queue)],
        check=False,
        capture_output=True,
    )
    if mounted.returncode:
        pytest.skip("only root may mount")
    try:
        writers.commit_2_1_5(str(queue), LETTER, writers.no_pause)
        with pytest.raises(OSError, match="No space"):
            (queue / "x.tmp").write_bytes(b"x" * 100_000)
        with pytest.raises(OSError, match="No space"):  # no inode is left for a directory either
            [(queue / f"{number}.tmp").touch() for number in range(100)]
        daemon = start_daemon(queue, handler=recorder.argv())
        daemon.wait_for("finish")
        assert not list(queue.glob("*.pck"))
        assert daemon.end() == 0
    finally:
        subprocess.run(["umount", "-l", str(queue)], check=True)
