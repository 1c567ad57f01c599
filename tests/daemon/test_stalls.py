"""What once stalled a queue, or spun for it: found by review, each by its smallest reproduction."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time

from tests.renaming import rename_in

PATIENCE = 30.0  # seconds
TICKS = os.sysconf("SC_CLK_TCK")


def seconds_of_cpu(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def test_a_held_queue_goes_on_when_the_entry_it_probes_with_has_gone(queue, start_daemon, tmp_path):
    mended = tmp_path / "mended"
    config = tmp_path / "watcher.toml"
    config.write_text(
        f"""[queues.q]
path = "{queue}"
format = "raw"
handler = {{ exec = ["sh", "-c", "test -e {mended} || exit 127"] }}
retry = {{ initial = "1s" }}
"""
    )
    daemon = start_daemon(None, "--config", str(config))
    rename_in(queue, "a")
    daemon.wait_for("unhealthy")
    rename_in(queue, "b")
    (queue / "a").unlink()  # an operator removed it, or another daemon handled it
    mended.touch()
    daemon.wait_for("finish", entry="b")


def test_a_backlog_that_a_worker_is_slow_with_costs_no_cpu_while_sweeps_are_due(
    queue, start_daemon
):
    for number in range(17_000):  # more than a quarter of Ready: no room for a scan
        (queue / f"{number}").touch()
    options = ["--format", "raw", "--sweep-every", "300ms", "--grace-age", "1ms"]
    daemon = start_daemon(queue, *options, handler=["sleep", "1000"])
    time.sleep(1)  # several sweeps are due by now, and cannot begin
    before = seconds_of_cpu(daemon.process.pid)
    time.sleep(1)  # the thing itself: how much is used in a second of nothing to do
    assert seconds_of_cpu(daemon.process.pid) - before < 0.3


def test_what_an_overflow_lost_is_taken_at_once_although_a_sweep_saw_it_first(queue, start_daemon):
    source = queue.parent / "source"
    source.mkdir()
    options = ["--format", "raw", "--writers", "rename", "--sweep-every", "500ms"]
    options += ["--grace-age", "1h"]
    daemon = start_daemon(queue, *options, handler=["true"])
    with open("/proc/sys/fs/inotify/max_queued_events", encoding="ascii") as file:
        beyond = int(file.read()) + 100
    for number in range(beyond):
        (source / f"{number:06}").touch()
    daemon.send(signal.SIGSTOP)
    os.waitid(os.P_PID, daemon.process.pid, os.WSTOPPED | os.WNOWAIT)
    for number in range(beyond):
        (source / f"{number:06}").rename(queue / f"{number:06}")
    time.sleep(0.6)  # a sweep falls due while it is stopped, and comes before the overflow is read
    for number in range(beyond - 200):  # all but the newest are another's: it would take long
        (queue / f"{number:06}").unlink()
    daemon.send(signal.SIGCONT)
    daemon.wait(lambda: len(daemon.events("finish")) == 200)


def test_a_log_without_a_reader_holds_up_neither_the_queue_nor_the_end(queue):
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    argv = [sys.executable, "-P", "-m", "watcher", "run", str(queue), "--format", "raw"]
    daemon = subprocess.Popen([*argv, "--writers", "rename", "--", "true"], stderr=writing)
    try:
        for number in range(200):
            rename_in(queue, f"{number}" + "y" * 100)
        deadline = time.monotonic() + PATIENCE
        while len(os.listdir(queue)) > 1:  # .watcher
            assert time.monotonic() < deadline, "the queue stands still"
            time.sleep(0.05)
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(PATIENCE) == 0
    finally:
        daemon.kill()
        daemon.wait()
        os.close(reading)
        os.close(writing)


def test_a_second_signal_ends_it_at_once_although_the_log_has_no_reader(queue, tmp_path):
    reading, writing = os.pipe()
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    argv = [sys.executable, "-P", "-m", "watcher", "run", str(queue), "--format", "raw", "--"]
    daemon = subprocess.Popen([*argv, "sh", "-c", f"echo > {gate}; sleep 1000"], stderr=writing)
    try:
        rename_in(queue, "a")
        assert gate.read_text() == "\n"  # the handler is at work
        os.set_blocking(writing, False)
        while True:
            try:
                os.write(writing, b"x" * 4096)
            except BlockingIOError:
                break
        os.set_blocking(writing, True)
        daemon.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(PATIENCE) == os.EX_TEMPFAIL
    finally:
        daemon.kill()
        daemon.wait()
        os.close(reading)
        os.close(writing)


def test_a_queue_that_a_reload_drops_is_closed(queue, start_daemon, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    config = tmp_path / "watcher.toml"
    text = '[queues.{0.name}]\npath = "{0}"\nhandler = {{ exec = ["true"] }}\n'
    config.write_text(text.format(queue) + text.format(other))
    daemon = start_daemon(None, "--config", str(config))
    daemon.wait_for("ready", 2)
    config.write_text(text.format(other))
    daemon.send(signal.SIGHUP)
    daemon.wait_for("reloaded")
    deadline = time.monotonic() + PATIENCE
    descriptors = f"/proc/{daemon.process.pid}/fd"
    while str(queue) in [os.readlink(f"{descriptors}/{fd}") for fd in os.listdir(descriptors)]:
        assert time.monotonic() < deadline, "a directory that is not served is still open"
        time.sleep(0.05)
