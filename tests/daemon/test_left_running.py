"""What a handler leaves running when it ends: it keeps neither the claim nor memory of ours."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys

import pytest

from tests.renaming import rename_in

MODULE = """
import contextlib, os, time
from watcher import Retry

PIDS = {pids!r}

def leave_a_child(entry):
    entry.message
    pid = os.fork()
    if pid == 0:
        null = os.open(os.devnull, os.O_RDWR)
        for number in os.listdir("/proc/self/fd"):  # the log's end waits for all that have it
            with contextlib.suppress(OSError):
                if os.readlink("/proc/self/fd/" + number).startswith("pipe:"):
                    os.dup2(null, int(number))
        time.sleep(600)
        os._exit(0)
    with open(PIDS, "a") as file:
        print(pid, file=file)
    if entry.attempt == 1:
        raise Retry(after=0.01)
"""
SHELL = """#!/bin/sh
sleep 600 > /dev/null 2>&1 < /dev/null &
echo $! >> {pids}
test "$WATCHER_ATTEMPT" != 1
"""


@pytest.fixture
def pids(tmp_path):
    """Where handlers write down what they left running; it is killed in the end."""
    path = tmp_path / "pids"
    path.touch()
    yield path
    for pid in path.read_text().split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)


@pytest.fixture
def configured(tmp_path, queue, pids, environment):
    """Write a configuration whose handler leaves a child at each attempt; return its flags."""
    (tmp_path / "left_running.py").write_text(MODULE.format(pids=str(pids)))
    inherited = environment.get("PYTHONPATH")
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(tmp_path), inherited]))
    script = tmp_path / "script"
    script.write_text(SHELL.format(pids=pids))
    script.chmod(0o755)
    handlers = {
        "exec": f'exec = ["{script}"]',
        "python": 'python = "left_running:leave_a_child"',
        "isolated": 'python = "left_running:leave_a_child", isolate = true',
    }

    def write(kind):
        (tmp_path / "w.toml").write_text(
            f'[queues.q]\npath = "{queue}"\nformat = "raw"\nhandler = {{ {handlers[kind]} }}\n'
            'retry = { initial = "10ms", max = "10ms" }\n'
        )
        return ["--config", str(tmp_path / "w.toml")]

    return write


@pytest.mark.parametrize("kind", ["exec", "python", "isolated"])
def test_a_child_that_a_handler_left_running_does_not_keep_the_claim(
    queue, start_daemon, configured, pids, kind
):
    daemon = start_daemon(None, *configured(kind))
    rename_in(queue, "a")
    daemon.wait_for("defer", entry="a")
    daemon.wait_for("finish", entry="a")
    assert daemon.end() == 0
    assert len(pids.read_text().split()) == 2
    for pid in pids.read_text().split():
        os.kill(int(pid), 0)  # it lives: what it inherited kept nothing


def test_nor_does_it_keep_a_file_that_its_handler_moved_to_another_queue(
    queue, start_daemon, tmp_path, pids, recorder
):
    following = tmp_path / "following"
    following.mkdir()
    handler = tmp_path / "handler"
    handler.write_text(
        "#!/bin/sh\nsleep 600 > /dev/null 2>&1 < /dev/null &\n"
        f'echo $! >> {pids}\nmv "$WATCHER_PATH" {following}/\n'
    )
    handler.chmod(0o755)
    first = start_daemon(queue, "--format", "raw", handler=[str(handler)])
    second = start_daemon(following, "--format", "raw", handler=recorder.argv())
    rename_in(queue, "a")
    first.wait_for("finish", entry="a")
    second.wait_for("finish", entry="a")
    assert first.end() == second.end() == 0


def test_while_the_daemon_is_dead_a_child_of_its_handler_keeps_the_claim(
    queue, start_daemon, tmp_path, recorder, eventually, watcher_command, environment
):
    """It may be the one that does the work: two at once is what must not be."""
    daemon = start_daemon(queue, "--format", "raw", handler=recorder.argv(gated=True))
    rename_in(queue, "a")
    eventually(lambda: len(recorder.calls) == 1)
    daemon.process.kill()
    daemon.process.wait()
    sweep = [*watcher_command, "sweep", str(queue), "--format", "raw", "--grace-age", "0s"]
    found = subprocess.run(
        [*sweep, "--", sys.executable, "-c", "raise SystemExit(1)"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "claimed by another" in found.stdout
    recorder.open_gate()


WRITER = """
import os, sys, time
go, result = sys.argv[1:]
while not os.path.exists(go):
    time.sleep(0.01)
try:
    for _ in range(100):
        os.write(2, b"x" * (1 << 20))
    told = "wrote"
except OSError as error:
    told = error.strerror
open(result + ".tmp", "w").write(f"{told} {os.fstat(2).st_blocks * 512}")
os.rename(result + ".tmp", result)
"""
SPAWN = """
import subprocess, sys

def leave_a_writer(entry):
    if entry.name == "a":
        writer = [sys.executable, "-c", {writer!r}, {go!r}, {result!r}]
        subprocess.Popen(writer, stdin=subprocess.DEVNULL, start_new_session=True)
    sys.stderr.write("said of " + entry.name)
    raise ValueError("no")
"""


@pytest.mark.parametrize("isolated", [False, True], ids=["exec", "isolated"])
def test_what_a_child_writes_to_standard_error_after_its_handlers_end_takes_no_memory(
    queue, start_daemon, tmp_path, environment, eventually, isolated
):
    go, result = tmp_path / "go", tmp_path / "result"
    text = SPAWN.format(writer=WRITER, go=str(go), result=str(result))
    (tmp_path / "left_writing.py").write_text(text)
    inherited = environment.get("PYTHONPATH")
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(tmp_path), inherited]))
    script = tmp_path / "script"
    script.write_text(
        f"#!{sys.executable}\nimport os, types, left_writing\n"
        "left_writing.leave_a_writer(types.SimpleNamespace(name=os.environ['WATCHER_ENTRY']))\n"
    )
    script.chmod(0o755)
    handler = f'exec = ["{script}"]'
    if isolated:
        handler = 'python = "left_writing:leave_a_writer", isolate = true'
    (tmp_path / "w.toml").write_text(
        f'[queues.q]\npath = "{queue}"\nformat = "raw"\nretry = {{ max_attempts = 1 }}\n'
        f"handler = {{ {handler} }}\n"
    )
    daemon = start_daemon(None, "--config", str(tmp_path / "w.toml"))
    rename_in(queue, "a")
    daemon.wait_for("reject", entry="a")
    go.touch()
    eventually(result.exists)
    assert result.read_text() == "Operation not permitted 0"
    rename_in(queue, "b")  # the next has a standard error that takes what it says
    daemon.wait_for("reject", entry="b")
    assert daemon.end() == 0
    note = json.loads((queue / ".watcher/dead/.b.json").read_text())
    assert "ValueError: no" in note["stderr"]
    if not isolated:
        assert "said of b" in note["stderr"]
