"""`watcher abort`: it ends the handler of one entry and no other process; the attempt failed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

import watcher
from tests.command_server import run_command
from watcher.operate import handler_process

QUIET = ("--sweep-every", "1h")
SLEEPING = ["sh", "-c", "echo begun >&2; sleep 600 & sleep 600"]


@pytest.fixture
def abort(queue, watcher_command, environment):
    """Abort; return the exit status, standard output and standard error."""

    def running(name, *options, prefix=()):
        argv = [*watcher_command, "abort", str(queue), name, *options]
        if prefix:
            ended = subprocess.run(
                [*prefix, *argv], env=environment, text=True, capture_output=True
            )
        else:
            ended = run_command(argv, env=environment, text=True, capture_output=True)
        return ended.returncode, ended.stdout, ended.stderr

    return running


@pytest.fixture
def handler_of(eventually):
    """Return the process of the handler that has a file open, once it is there."""

    def find(daemon, file):
        status = file.stat()

        def looking():
            found = handler_process.find(daemon.process.pid, status.st_dev, status.st_ino)
            if found is not None:
                found.close()
                return found.pid
            return None

        return eventually(looking)

    return find


def alive(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def note_in(queue, state):
    (note,) = (queue / ".watcher" / state).glob("*.json")
    return json.loads(note.read_text())


def test_the_handlers_group_is_ended_and_the_attempt_is_a_failed_one(
    queue, start_daemon, abort, handler_of, eventually
):
    daemon = start_daemon(queue, *QUIET, "--concurrency", "2", handler=SLEEPING)
    name, other = (watcher.enqueue(queue, b"%d" % number) for number in range(2))
    group, others = (handler_of(daemon, queue / f"{each}.pck") for each in (name, other))
    code, out, err = abort(name)
    assert (code, err) == (0, "")
    assert out.startswith(f"{name}  aborted: process {group} was ended by TERM; deferred, due in ")
    assert out.endswith(", 1 attempt\n")
    eventually(lambda: not alive(group))
    assert alive(others)
    (record,) = daemon.wait_for("defer")
    assert record["entry"] == name
    assert record["detail"].startswith("aborted by the operator root (uid 0)" * (os.getuid() == 0))
    note = note_in(queue, "deferred")
    assert note["why"].startswith("aborted by the operator ")
    assert (note["attempts"], note["crashes"], note["stderr"]) == (1, 0, "begun\n")
    assert list((queue / ".watcher/inflight").glob("*/.abort*")) == []
    daemon.send(signal.SIGTERM)
    os.killpg(others, signal.SIGKILL)


def test_with_hold_it_is_not_tried_again(queue, start_daemon, abort, handler_of):
    daemon = start_daemon(queue, *QUIET, handler=SLEEPING)
    name = watcher.enqueue(queue, b"m")
    group = handler_of(daemon, queue / f"{name}.pck")
    code, out, _err = abort(name, "--hold")
    assert (code, out) == (0, f"{name}  aborted: process {group} was ended by TERM; held\n")
    assert note_in(queue, "held")["why"].startswith("aborted by the operator ")


def test_what_ignores_term_is_killed(queue, tmp_path, start_daemon, handler_of):
    ready = tmp_path / "ready"
    daemon = start_daemon(
        queue, *QUIET, handler=["sh", "-c", f"trap '' TERM; touch {ready}; sleep 600; sleep 600"]
    )
    name = watcher.enqueue(queue, b"m")
    group = handler_of(daemon, queue / f"{name}.pck")
    daemon.wait(ready.exists)
    status = (queue / f"{name}.pck").stat()
    found = handler_process.find(daemon.process.pid, status.st_dev, status.st_ino)
    assert found.pid == group
    assert found.end(0.2) == "KILL"
    found.close()
    daemon.wait_for("defer")


def test_a_worker_process_is_ended_and_no_crash_is_counted(
    queue, tmp_path, start_daemon, environment, abort, handler_of
):
    (tmp_path / "hangs.py").write_text("import time\ndef handle(entry):\n    time.sleep(600)\n")
    environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), environment.get("PYTHONPATH", "")])
    config = tmp_path / "w.toml"
    config.write_text(
        f"[queues.q]\npath = '{queue}'\nhandler = {{ python = 'hangs:handle', isolate = true }}\n"
    )
    daemon = start_daemon(None, "--config", str(config))
    name = watcher.enqueue(queue, b"m")
    handler_of(daemon, queue / f"{name}.pck")
    code, out, _err = abort(name)
    assert code == 0, out
    daemon.wait_for("defer")
    note = note_in(queue, "deferred")
    assert (note["attempts"], note["crashes"]) == (1, 0)


def test_a_function_in_the_daemon_cannot_be_ended_and_says_what_to_do(
    queue, tmp_path, start_daemon, environment, abort, eventually
):
    begun = tmp_path / "begun"
    (tmp_path / "stays.py").write_text(
        "import pathlib, time\n"
        f"def handle(entry):\n    pathlib.Path('{begun}').touch()\n    time.sleep(600)\n"
    )
    environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), environment.get("PYTHONPATH", "")])
    config = tmp_path / "w.toml"
    config.write_text(f"[queues.q]\npath = '{queue}'\nhandler = {{ python = 'stays:handle' }}\n")
    daemon = start_daemon(None, "--config", str(config))
    name = watcher.enqueue(queue, b"m")
    eventually(begun.exists)
    code, out, err = abort(name)
    assert (code, out) == (os.EX_UNAVAILABLE, "")
    assert "set isolate = true" in err
    assert f"(kill {daemon.process.pid})" in err
    assert daemon.process.poll() is None


def test_an_entry_that_is_not_in_hand_is_left(queue, run, abort):
    name = watcher.enqueue(queue, b"m")
    code, out, err = abort(name)
    assert (code, out) == (os.EX_TEMPFAIL, "")
    assert "is ready, and no process has it in hand: there is nothing to abort" in err
    run("hold", queue, name)
    assert "is held, and no process" in abort(name)[2]
    assert abort("nothing")[0] == os.EX_NOINPUT


def test_another_program_that_holds_the_lock_is_left_alone(queue, abort):
    name = watcher.enqueue(queue, b"m")
    program = f"import fcntl, sys; f = open({str(queue / f'{name}.pck')!r})\n"
    program += "fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        code, _out, err = abort(name)
        assert code == os.EX_TEMPFAIL
        assert f"claimed by process {process.pid}, which hands it to no handler" in err
        assert process.poll() is None


def test_another_user_is_told_and_77(queue, tmp_path, start_daemon, abort, handler_of):
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    for path in (queue, *tmp_path.parents[:3], tmp_path):
        path.chmod(path.stat().st_mode | 0o755)
    daemon = start_daemon(queue, *QUIET, handler=SLEEPING)
    name = watcher.enqueue(queue, b"m")
    group = handler_of(daemon, queue / f"{name}.pck")
    setpriv = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
    code, out, err = abort(name, prefix=setpriv)
    assert (code, out) == (os.EX_NOPERM, ""), err
    line = err.splitlines()[-1]  # after the one of the queue.json that this user may not read
    assert line == (
        f"watcher: process {daemon.process.pid} (user root) has it in hand, and this user may not"
        " end its handler: run this as that user or as root"
    )
    assert alive(group)


def test_a_child_is_found_by_its_parent_its_group_and_its_file(tmp_path):
    file = tmp_path / "file"
    file.touch()
    status = file.stat()
    with open(file) as opened:
        sleep = ["sleep", "60"]
        same = subprocess.Popen(sleep, pass_fds=[opened.fileno()])  # in this process's group
        closed = subprocess.Popen(sleep, start_new_session=True)
        right = subprocess.Popen(sleep, start_new_session=True, pass_fds=[opened.fileno()])
    try:
        found = handler_process.find(os.getpid(), status.st_dev, status.st_ino)
        assert found.pid == right.pid
        assert handler_process.find(os.getppid(), status.st_dev, status.st_ino) is None
        assert found.end(10) == "TERM"
        found.close()
        assert right.wait(10) == -signal.SIGTERM
        assert (same.poll(), closed.poll()) == (None, None)
    finally:
        for process in (same, closed, right):
            process.kill()
            process.wait()


def test_an_attempt_by_hand_can_be_aborted_too(
    queue, watcher_command, environment, abort, eventually
):
    name = watcher.enqueue(queue, b"m")
    argv = [*watcher_command, "attempt", str(queue), name, "--", *SLEEPING]
    with subprocess.Popen(
        argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        process.stderr.readline()
        began = time.monotonic()
        assert abort(name)[0] == 0
        out, _ = process.communicate(timeout=30)
    assert time.monotonic() - began < 5
    assert process.returncode == os.EX_TEMPFAIL
    assert ": aborted by the operator " in out
