"""When the machine has no more: watches, inotify instances, disk, descriptors."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess

import pytest

import writers

LETTER = writers.message_for(1, 1)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces and mounts need root")


def commit(queue):
    return writers.commit_2_1_5(str(queue), LETTER, writers.no_pause)


def over(daemon, what, count=1):
    """Wait until the log says that so many troubles are over, and repeats their lines."""

    def said():
        details = [record["detail"] for record in daemon.events("recovered")]
        found = [one for one in details if one.startswith("over after ") and what in one]
        return len(found) >= count

    return daemon.wait(said)


@needs_root
@pytest.mark.parametrize("limit", ["max_inotify_watches", "max_inotify_instances"])
def test_without_a_watch_sweeps_go_on_and_the_watch_comes_when_it_can(
    queue, start_daemon, recorder, watcher_command, limit, monkeypatch
):
    """The limits are a user namespace's own, so that no other process of the machine is limited."""
    probe = subprocess.run(["unshare", "-Ur", "true"], check=False, capture_output=True)
    if probe.returncode:
        pytest.skip("no user namespaces here")
    shell = f'echo 0 > /proc/sys/user/{limit}; exec "$@"'
    watcher_command[:] = ["unshare", "-Ur", "sh", "-c", shell, "sh", *watcher_command]
    daemon = start_daemon(
        *(queue, "--sweep-every", "200ms", "--grace-age", "0s"),
        handler=recorder.argv(),
        ready=False,
    )
    daemon.wait_for("unhealthy")
    assert daemon.events("armed") == []
    daemon.wait_for("finish", entry=commit(queue))
    raise_limit = f"echo 100 > /proc/sys/user/{limit}"
    subprocess.run(
        ["nsenter", "-U", "-t", str(daemon.process.pid), "sh", "-c", raise_limit], check=True
    )
    daemon.wait_for("armed")
    assert daemon.end() == 0


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own of 256 KiB."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)],
        check=False,
        capture_output=True,
    )
    if mounted.returncode:
        pytest.skip("no mounts here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place):
    """Take all the space there is."""
    with open(place / "filler.tmp", "wb", buffering=0) as file:
        for size in (4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue


@needs_root
def test_on_a_full_disk_nothing_is_lost_and_a_bad_entry_is_out_of_the_way(
    small_disk, start_daemon, recorder, watcher_command, environment
):
    queue = small_disk / "q"
    queue.mkdir()
    name = commit(queue)
    (queue / "bad.pck.tmp").write_bytes(b"junk")
    (queue / ".watcher" / "dead").mkdir(parents=True, mode=0o700)
    (queue / ".watcher").chmod(0o700)
    fill(small_disk)
    daemon = start_daemon(queue, handler=recorder.argv())
    daemon.wait_for("finish", entry=name)
    (queue / "bad.pck.tmp").rename(queue / "bad.pck")
    daemon.wait_for("reject", entry="bad")
    assert (queue / ".watcher" / "dead" / "bad.pck").read_bytes() == b"junk"
    assert daemon.end() == 0
    ended = subprocess.run(
        [*watcher_command, "enqueue", str(queue)],
        input=b"x" * 8192,
        env=environment,
        capture_output=True,
        check=False,
    )
    assert ended.returncode == os.EX_TEMPFAIL
    assert len(ended.stderr.splitlines()) == 1
    assert [path.name for path in queue.iterdir() if path.is_file()] == []


@needs_root
def test_a_queue_is_well_again_when_its_disk_has_room_though_no_entry_comes(
    small_disk, start_daemon, recorder
):
    queue = small_disk / "q"
    queue.mkdir()
    name = commit(queue)
    fill(small_disk)
    daemon = start_daemon(queue, "--sweep-every", "100ms", handler=recorder.argv())
    daemon.wait_for("finish", entry=name)
    refused = "what is in hand cannot be written down: [Errno 28] No space left on device"
    daemon.wait_for("unhealthy", detail=refused)
    (small_disk / "filler.tmp").unlink()
    assert over(daemon, "what is in hand cannot")
    assert daemon.end() == 0


@needs_root
def test_a_done_entry_that_cannot_be_removed_is_not_handled_again_meanwhile(
    queue, start_daemon, recorder, eventually
):
    if shutil.which("chattr") is None:
        pytest.skip("no chattr")
    daemon = start_daemon(
        queue, "--sweep-every", "100ms", "--grace-age", "0s", handler=recorder.argv(gated=True)
    )
    name = commit(queue)
    eventually(lambda: recorder.calls)
    if subprocess.run(["chattr", "+i", str(queue)], check=False, capture_output=True).returncode:
        pytest.skip("no immutable directories here")
    try:
        recorder.open_gate()
        (said,) = daemon.wait_for("unhealthy")
        assert f"{queue}: the queue directory is not writable" in said["detail"]
        assert (queue / f"{name}.pck").exists()
    finally:
        subprocess.run(["chattr", "-i", str(queue)], check=True)
    assert over(daemon, "not writable for us")
    daemon.wait_for("finish", entry=name)
    assert daemon.end() == 0
    assert len(recorder.calls) == 1


@needs_root
def test_a_queue_that_has_become_read_only_says_so_though_no_entry_comes(
    queue, start_daemon, recorder
):
    if shutil.which("chattr") is None:
        pytest.skip("no chattr")
    daemon = start_daemon(queue, "--sweep-every", "100ms", handler=recorder.argv())
    if subprocess.run(["chattr", "+i", str(queue)], check=False, capture_output=True).returncode:
        pytest.skip("no immutable directories here")
    try:
        (said,) = daemon.wait_for("unhealthy")
    finally:
        subprocess.run(["chattr", "-i", str(queue)], check=True)
    assert "not writable for us" in said["detail"]
    assert over(daemon, "not writable for us")
    daemon.wait_for("finish", entry=commit(queue))
    assert daemon.end() == 0


def test_a_queue_is_well_again_when_what_was_wrong_with_an_entry_went_with_it(
    queue, start_daemon, recorder
):
    """An operator may take away the entry as well as what was in its way."""
    (queue / ".watcher").mkdir(mode=0o700)
    (queue / ".watcher" / "inflight").touch()
    daemon = start_daemon(queue, handler=recorder.argv())
    name = commit(queue)
    inflight = queue / ".watcher" / "inflight"
    refused = f"{inflight}: in the way of our own directory; move it away"
    daemon.wait_for("unhealthy", detail=f"{name}.pck: {refused}")
    (queue / f"{name}.pck").unlink()
    inflight.unlink()
    assert over(daemon, "in the way of our own directory")
    daemon.send(signal.SIGUSR2)
    assert over(daemon, f"{name}.pck: {refused}")
    assert over(daemon, "in the way of our own directory", 3)  # of the queue, and of its status
    daemon.send(signal.SIGUSR1)
    assert daemon.wait_for("status")[0]["detail"].startswith("healthy; ")
    assert daemon.end() == 0


def test_what_keeps_a_death_from_being_counted_is_said_until_it_is_over(
    queue, start_daemon, recorder, tmp_path
):
    """The one death that it is allowed makes poison of the entry, and dead/ cannot be made."""
    name = commit(queue)
    status = (queue / f"{name}.pck").stat()
    left = queue / ".watcher" / "inflight" / "1.dead"
    left.mkdir(parents=True, mode=0o700)
    (left / ".ledger").write_text(f"{status.st_ino} {status.st_ctime_ns} queue/{name}.pck\n")
    (queue / ".watcher" / "dead").touch()
    argv = json.dumps(recorder.argv(gated=True))
    (tmp_path / "w.toml").write_text(
        f'[queues.q]\npath = "{queue}"\nsweep_every = "100ms"\n'
        f"handler = {{ exec = {argv} }}\nretry = {{ max_crashes = 1 }}\n"
    )
    daemon = start_daemon(None, "--config", str(tmp_path / "w.toml"))
    (said,) = daemon.wait_for("unhealthy")
    assert "dead: in the way of our own directory" in said["detail"]
    recorder.open_gate()
    daemon.wait_for("finish", entry=name)
    assert over(daemon, "in the way of our own directory")
    daemon.send(signal.SIGUSR1)
    assert daemon.wait_for("status")[0]["detail"].startswith("healthy; ")
    assert daemon.end() == 0


def test_without_descriptors_for_a_moment_nothing_is_lost(
    queue, start_daemon, watcher_command, tmp_path
):
    """A handler that eats descriptors: opening an entry fails with EMFILE, and is tried again."""
    module = tmp_path / "eats.py"
    record = tmp_path / "seen"
    module.write_text(
        "import os\n"
        "import threading\n"
        "eaten = []\n"
        f"record = os.open({str(record)!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT)\n"
        "def handle(entry):\n"
        "    os.write(record, entry.name.encode() + b'\\n')\n"
        "    if len(eaten) == 0:\n"
        "        try:\n"
        "            while True:\n"
        "                eaten.append(os.open('/dev/null', os.O_RDONLY))\n"
        "        except OSError:\n"
        "            threading.Timer(1.0, lambda: [os.close(fd) for fd in eaten]).start()\n"
    )
    (tmp_path / "w.toml").write_text(
        f'[queues.q]\npath = "{queue}"\nhandler = {{ python = "eats:handle" }}\n'
    )
    watcher_command[:] = [
        *("prlimit", "--nofile=64", "env", f"PYTHONPATH={tmp_path}"),
        *watcher_command,
    ]
    if shutil.which("prlimit") is None:
        pytest.skip("no prlimit")
    daemon = start_daemon(None, "--config", str(tmp_path / "w.toml"))
    names = [commit(queue) for _ in range(5)]
    daemon.wait_for("finish", 5)
    assert daemon.end() == 0
    assert sorted(record.read_text().split()) == sorted(names), daemon.log()


@pytest.mark.parametrize("granted", [0, 1])
def test_threads_that_the_kernel_refuses_for_a_moment_come_later(
    queue, start_daemon, environment, tmp_path, granted
):
    """No room for a thread's stack: EAGAIN, as at the limit on processes. `granted` of two come."""
    (tmp_path / "refused.py").write_text(
        "import threading\n"
        f"start, answers = threading.Thread.start, [True] * {granted} + [False] * 3\n"
        "def refused(thread):\n"
        "    granted = not answers or answers.pop(0)\n"
        "    threading.stack_size(0 if granted else 1 << 47)  # more than there is of addresses\n"
        "    try:\n"
        "        start(thread)\n"
        "    finally:\n"
        "        threading.stack_size(0)\n"
        "threading.Thread.start = refused\n"
        "def handle(entry):\n"
        "    pass\n"
    )
    (tmp_path / "w.toml").write_text(
        f'[queues.q]\npath = "{queue}"\nconcurrency = 2\n'
        'handler = { python = "refused:handle" }\n'
    )
    paths = [str(tmp_path), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    daemon = start_daemon(None, "--config", str(tmp_path / "w.toml"))
    assert f"{granted} of 2 workers: can't start" in daemon.wait_for("unhealthy")[0]["detail"]
    daemon.wait_for("finish", entry=commit(queue))
    assert over(daemon, "can't start")
    assert daemon.end() == 0


def test_a_bug_of_ours_costs_one_attempt_and_not_the_worker(
    queue, start_daemon, environment, tmp_path
):
    """Our code raises an unexpected error: the entry stays, the queue goes on."""
    module = tmp_path / "buggy.py"
    module.write_text(
        "from watcher.settle.finish import Finisher\n"
        "settle, bugs = Finisher.settle, [KeyError('a bug')]\n"
        "def buggy(self, finished, how):\n"
        "    if bugs:\n"
        "        raise bugs.pop()\n"
        "    return settle(self, finished, how)\n"
        "Finisher.settle = buggy\n"
        "def handle(entry):\n"
        "    pass\n"
    )
    (tmp_path / "w.toml").write_text(
        f'[queues.q]\npath = "{queue}"\nhandler = {{ python = "buggy:handle" }}\n'
    )
    paths = [str(tmp_path), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    daemon = start_daemon(None, "--config", str(tmp_path / "w.toml"))
    first = commit(queue)
    (said,) = daemon.wait_for("bug")
    assert "KeyError: 'a bug'" in said["traceback"]
    second = commit(queue)
    daemon.wait_for("finish", entry=second)
    daemon.wait_for("finish", entry=first)  # looked at again a second later
    assert daemon.end() == 0
    assert not list(queue.glob("*.pck"))
