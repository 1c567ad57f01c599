"""User-space file systems: what the kernel knows there is asked for, and what cannot work is said.

bindfs keeps a file's inode number over a move, mergerfs without `use_ino` does not.
"""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

RAW = ["--format", "raw", "--suffix", ".csv"]


@pytest.fixture
def mounted(tmp_path):
    """Mount a directory by a user-space file system; skip where that cannot be done."""
    places = []

    def mount(program, *options):
        if os.geteuid() != 0 or not os.path.exists("/dev/fuse"):
            pytest.skip("needs root and /dev/fuse")
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
        beneath, place = tmp_path / "beneath", tmp_path / "mounted"
        beneath.mkdir()
        place.mkdir()
        done = subprocess.run([program, *options, beneath, place], capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"{program} cannot mount here: {done.stderr.strip()}")
        places.append(place)
        return place

    yield mount
    for place in places:
        subprocess.run(["umount", "-l", place], check=False)


def test_what_a_process_of_this_machine_has_open_is_left_alone_past_its_grace_age(
    mounted, start_daemon, recorder
):
    queue = mounted("bindfs")
    options = [*RAW, "--grace-age", "300ms", "--sweep-every", "200ms"]
    daemon = start_daemon(queue, *options, handler=recorder.argv())
    with (queue / "slow.csv").open("wb", buffering=0) as writer:
        writer.write(b"half ")
        daemon.wait_for("left alone", detail="slow.csv: a process has it open for writing")
        assert recorder.calls == []
        writer.write(b"whole")
    daemon.wait_for("finish", entry="slow.csv")
    assert len(recorder.calls) == 1
    assert not (queue / "slow.csv").exists()
    assert daemon.end() == 0


def test_a_rename_by_a_process_of_this_machine_is_seen_at_once(mounted, start_daemon, recorder):
    """Polling alone never saw the file under its first name, and waited for its grace age."""
    queue = mounted("bindfs")
    options = [*RAW, "--grace-age", "1h", "--sweep-every", "1h"]
    daemon = start_daemon(queue, *options, handler=recorder.argv())
    daemon.wait_for("armed", detail=f"{queue} (inotify and polling)")
    for number in range(3):
        (queue / "a.tmp").write_bytes(b"data")
        (queue / "a.tmp").rename(queue / f"{number}.csv")
        daemon.wait_for("finish", entry=f"{number}.csv")
    assert len(recorder.calls) == 3
    assert daemon.end() == 0


def test_what_is_rejected_and_deferred_on_bindfs_is_so_once(mounted, start_daemon, recorder):
    queue = mounted("bindfs")
    daemon = start_daemon(queue, *RAW, handler=recorder.argv(status=65))
    (queue / "a.tmp").write_bytes(b"data")
    (queue / "a.tmp").rename(queue / "a.csv")
    daemon.wait_for("reject", entry="a.csv")
    assert (queue / ".watcher/dead/a.csv").exists()
    assert len(recorder.calls) == 1
    assert daemon.end() == 0


def test_where_a_move_changes_the_inode_number_nothing_is_handled_and_all_say_why(
    mounted, start_daemon, recorder, watcher_command, environment
):
    queue = mounted("mergerfs")
    daemon = start_daemon(queue, *RAW, handler=recorder.argv(), ready=False)
    (record,) = daemon.wait_for("unhealthy")
    why = "a file gets another inode number when it is moved here"
    assert why in record["detail"]
    (queue / "a.tmp").write_bytes(b"data")
    (queue / "a.tmp").rename(queue / "a.csv")

    def run(*arguments):
        argv = [*watcher_command, *map(os.fspath, arguments)]
        return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60)

    swept = run("sweep", queue, *RAW, "--grace-age", "0s", "--", "true")
    assert swept.returncode == os.EX_UNAVAILABLE
    assert why in swept.stderr
    assert len(swept.stderr.splitlines()) == 1
    checked = run("check", queue, *RAW)
    assert checked.returncode != 0
    assert why in checked.stdout
    tortured = run("torture", queue, "--seconds", "1")
    assert tortured.returncode != 0
    assert why in tortured.stdout + tortured.stderr
    assert recorder.calls == []
    assert daemon.end() == 0
    assert (queue / "a.csv").read_bytes() == b"data"
