"""What a parent leaves behind in our signals, and the children that PID 1 is given."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
import types

import pytest

from watcher.daemon import loop

SET_CHILD_SUBREAPER = 36  # prctl(2)
PATIENCE = 30.0  # seconds


def put(queue, name, data=b"x\n"):
    scratch = queue.parent / "scratch"
    scratch.write_bytes(data)
    os.utime(scratch, (0, 0))  # a scan, too, sees that it was renamed since it was written
    scratch.rename(queue / name)


def script(tmp_path, text):
    path = tmp_path / "handler"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


@pytest.fixture
def start(watcher_command, environment):
    """Start a command of ours as a parent would that did `before` in the child."""
    started = []

    def begin(*arguments, before):
        process = subprocess.Popen(
            [*watcher_command, *map(str, arguments)],
            preexec_fn=before,  # noqa: PLW1509 - no thread of ours runs
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.wait()


def ignoring_children():
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)


def blocking_all():
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


def adopting():
    ctypes.CDLL(None).prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)


@pytest.mark.parametrize("how", ["run", "sweep"])
def test_started_with_sigchld_ignored_a_success_is_a_success(queue, tmp_path, start, how):
    tried = tmp_path / "tried"
    handler = script(tmp_path, f"cat > /dev/null; echo x >> {tried}; exit 0")
    put(queue, "a")
    options = ["--format", "raw", "--grace-age", "0s"]
    process = start(how, queue, *options, "--", handler, before=ignoring_children)
    until(lambda: not (queue / "a").exists())
    if how == "run":
        process.terminate()
    assert process.wait(PATIENCE) == 0
    assert tried.read_text() == "x\n"
    assert not list(queue.glob(".watcher/deferred/*"))


def test_a_signal_that_was_blocked_is_heard_by_us_and_by_what_we_start(queue, tmp_path, start):
    status = tmp_path / "status"
    handler = script(tmp_path, f"grep -E 'SigBlk|SigIgn' /proc/self/status > {status}")
    put(queue, "a")
    options = ["--format", "raw", "--grace-age", "0s"]
    process = start("run", queue, *options, "--", handler, before=blocking_all)
    until(lambda: not (queue / "a").exists())
    process.terminate()
    assert process.wait(PATIENCE) == 0
    masks = dict(line.split() for line in status.read_text().splitlines())
    assert int(masks["SigBlk:"], 16) == 0
    assert not int(masks["SigIgn:"], 16) & 1 << signal.SIGCHLD - 1


def zombies_of(pid):
    """Return the processes that wait for this one to wait for them, by what the kernel says."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                state, parent = file.read().rpartition(b")")[2].split()[:2]
        except OSError:
            continue
        if state == b"Z" and int(parent) == pid:
            found.append(int(name))
    return found


def test_as_a_subreaper_what_handlers_leave_behind_is_waited_for(queue, tmp_path, start):
    left = tmp_path / "left"
    handler = script(tmp_path, f"(sh -c 'echo $$ >> {left}' > /dev/null 2>&1 &)")
    process = start("run", queue, "--format", "raw", "--", handler, before=adopting)
    until((queue / ".watcher").exists)
    for number in range(10):
        put(queue, f"{number}")
    until(lambda: left.exists() and len(left.read_text().split()) == 10)
    until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in left.read_text().split()))
    assert zombies_of(process.pid) == []
    process.terminate()
    assert process.wait(PATIENCE) == 0


def test_as_a_subreaper_a_functions_own_children_are_its_own(queue, tmp_path, start, environment):
    """It waits for one long after that ended: the status is there."""
    (tmp_path / "slow_to_wait.py").write_text(
        "import subprocess, time\n"
        "def handle(entry):\n"
        "    child = subprocess.Popen(['sh', '-c', 'exit 7'])\n"
        "    time.sleep(2.5)\n"
        f"    open({str(tmp_path / 'status')!r}, 'a').write(f'{{child.wait()}} ')\n"
    )
    inherited = environment.get("PYTHONPATH")
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(tmp_path), inherited]))
    (tmp_path / "w.toml").write_text(
        f'[queues.q]\npath = "{queue}"\nformat = "raw"\nconcurrency = 2\n'
        'handler = { python = "slow_to_wait:handle" }\n'
        f'[queues.alone]\npath = "{tmp_path}"\nformat = "raw"\nsuffix = ".none"\n'
        'handler = { python = "slow_to_wait:handle", isolate = true }\n'
    )
    process = start("run", "--config", tmp_path / "w.toml", before=adopting)
    until((queue / ".watcher").exists)
    put(queue, "a")
    put(queue, "b")
    until(lambda: not (queue / "a").exists() and not (queue / "b").exists())
    process.terminate()
    assert process.wait(PATIENCE) == 0
    assert (tmp_path / "status").read_text() == "7 7 "


def test_a_signal_that_comes_while_one_is_answered_waits_for_the_next_round(monkeypatch):
    daemon = loop.Daemon(lambda _settings: None)
    told = []

    def tell(*_arguments):
        told.append(1)
        if len(told) < 9:
            daemon._on_signal(signal.SIGUSR1, None)

    monkeypatch.setattr(loop, "_status", tell)
    daemon._workers = {"q": types.SimpleNamespace(settings=types.SimpleNamespace(name="q"))}
    daemon._on_signal(signal.SIGUSR1, None)
    daemon._answer_signals(dict)
    assert len(told) == 1
    daemon._answer_signals(dict)
    assert len(told) == 2


HUP_DURING_THE_START = """
import os, signal
from watcher.daemon.loop import Daemon

def reload():
    os.kill(os.getpid(), signal.SIGTERM)
    return {}

print(Daemon(lambda settings: None).run(reload, [signal.SIGHUP]))
"""


def test_a_signal_that_came_during_the_start_is_answered_at_once(environment):
    """And not with the first sweep."""
    argv = [sys.executable, "-P", "-c", HUP_DURING_THE_START]
    ended = subprocess.run(argv, env=environment, stdout=subprocess.PIPE, timeout=PATIENCE)
    assert ended.stdout == b"0\n"


def test_whoever_asks_for_the_status_all_the_time_keeps_it_from_neither_work_nor_end(
    queue, start_daemon, recorder, eventually
):
    """As many come while one status is told as before: those wait for the next round."""
    daemon = start_daemon(queue, "--format", "raw", handler=recorder.argv())
    over = threading.Event()

    def ask():
        with contextlib.suppress(ProcessLookupError):
            while not over.is_set():
                os.kill(daemon.process.pid, signal.SIGUSR1)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        put(queue, "a")
        eventually(lambda: len(recorder.calls) == 1)
        daemon.process.terminate()
        daemon.wait_for("draining")
    finally:
        over.set()  # the interpreter's own end takes no signals any more
        asking.join()
    assert daemon.process.wait(PATIENCE) == 0
