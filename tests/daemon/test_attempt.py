"""`watcher attempt`: one attempt in the foreground, settled as by the daemon, beside any daemon."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import pytest

import watcher
from tests.command_server import run_command

QUIET = ("--sweep-every", "1h")


@pytest.fixture
def attempt(queue, watcher_command, environment):
    """Make an attempt; return the exit status, standard output and standard error."""

    def running(name, *command, options=()):
        argv = [*watcher_command, "attempt", str(queue), name, *options, *command]
        ended = run_command(argv, env=environment, text=True, capture_output=True)
        return ended.returncode, ended.stdout, ended.stderr

    return running


def shell(program):
    return ("--", "sh", "-c", program)


def test_what_the_handler_writes_is_seen_and_a_handled_entry_is_removed(queue, attempt):
    name = watcher.enqueue(queue, b"message\n")
    code, out, err = attempt(name, *shell("cat; echo told >&2"), options=["-v"])
    assert code == 0
    assert out.startswith("message\n")
    assert out.splitlines()[-1].startswith(f"{name}  handled in ")
    assert "told\n" in err
    assert f"WATCHER_ENTRY={name}\n" in err
    assert "WATCHER_ATTEMPT=1\n" in err
    assert "WATCHER_METADATA={}\n" in err
    assert list(queue.glob("*.pck")) == []
    assert " claimed finish " in (queue / ".watcher/journal").read_text()


@pytest.mark.parametrize(
    ("status", "code", "words", "state"),
    [
        (75, os.EX_TEMPFAIL, "failed, next try at ", "deferred"),
        (65, os.EX_DATAERR, "moved to dead/: exit status 65: why", "dead"),
        (127, os.EX_CONFIG, "the handler cannot be run: exit status 127: why", ""),
    ],
)
def test_a_failed_attempt_is_settled_as_by_the_daemon(queue, attempt, status, code, words, state):
    name = watcher.enqueue(queue, b"m")
    ended = attempt(name, *shell(f"echo why >&2; exit {status}"))
    assert ended[0] == code
    assert words in ended[1]
    if not state:
        assert len(list(queue.glob("*.pck"))) == 1
        return
    (note,) = (queue / ".watcher" / state).glob("*.json")
    assert json.loads(note.read_text())["stderr"] == "why\n"


def test_a_deferred_entry_is_tried_before_it_is_due(queue, attempt):
    name = watcher.enqueue(queue, b"m")
    attempt(name, *shell("exit 75"))
    code, out, _err = attempt(name, *shell("echo $WATCHER_ATTEMPT"))
    assert (code, out.splitlines()[0]) == (0, "2")
    assert [file.name for file in (queue / ".watcher/deferred").iterdir()] == []


def test_it_works_beside_a_daemon_of_a_paused_queue(queue, start_daemon, recorder, run, attempt):
    daemon = start_daemon(queue, *QUIET, handler=recorder.argv())
    run("pause", queue)
    daemon.wait_for("paused")
    names = [watcher.enqueue(queue, b"%d" % number) for number in range(2)]
    code, _out, err = attempt(names[0], *shell("true"))
    assert code == 0
    assert "; this attempt is made all the same\n" in err
    run("resume", queue)
    daemon.wait_for("finish", entry=names[1])
    assert len(recorder.calls) == 1
    daemon.send(signal.SIGUSR2)
    daemon.send(signal.SIGUSR1)
    daemon.wait_for("status")
    assert daemon.events("vanished") == []


def test_an_entry_in_hand_is_left_and_its_process_is_named(
    queue, start_daemon, recorder, attempt, eventually, watcher_command, environment
):
    daemon = start_daemon(queue, *QUIET, handler=recorder.argv(gated=True))
    name = watcher.enqueue(queue, b"m")
    eventually(lambda: recorder.calls)
    code, out, _err = attempt(name, *shell("true"))
    assert code == os.EX_TEMPFAIL
    assert out.startswith(f"{name}  left: claimed by process {daemon.process.pid}")
    ended = run_command([*watcher_command, "hold", str(queue), name], env=environment, text=True)
    held = f"claimed, left: claimed by process {daemon.process.pid}"
    assert ended.stdout.startswith(f"{name}  {held}")
    assert ended.stdout.endswith("; `watcher abort` ends the attempt\n")
    recorder.open_gate()
    daemon.wait_for("finish")


@pytest.mark.parametrize(
    ("state", "cure"), [("held", "watcher release"), ("dead", "watcher requeue")]
)
def test_what_an_operator_has_to_put_back_first_is_said(queue, run, attempt, state, cure):
    name = watcher.enqueue(queue, b"m")
    if state == "held":
        run("hold", queue, name)
    else:
        attempt(name, *shell("exit 65"))
    code, out, err = attempt(name, *shell("true"))
    assert (code, out) == (os.EX_USAGE, "")
    assert f"is {state}: `{cure} {queue} {name}` first" in err


def test_a_signal_ends_the_handler_and_leaves_the_entry(queue, watcher_command, environment):
    name = watcher.enqueue(queue, b"m")
    argv = [*watcher_command, "attempt", str(queue), name, *shell("echo begun >&2; sleep 60")]
    with subprocess.Popen(
        argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr.readline() == "begun\n"  # while the handler is at work
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=30)
    assert process.returncode == os.EX_TEMPFAIL
    assert out == f"{name}  stopped: the entry is where it was\n"
    assert len(list(queue.glob("*.pck"))) == 1
    assert list((queue / ".watcher/inflight").iterdir()) == []


def test_output_of_a_worker_process_is_seen_and_its_handler_is_the_configured_one(
    queue, tmp_path, watcher_command, environment
):
    (tmp_path / "seen.py").write_text(
        "import sys\ndef handle(entry):\n    print('told', file=sys.stderr, flush=True)\n"
    )
    config = tmp_path / "w.toml"
    config.write_text(
        f"[queues.q]\npath = '{queue}'\nhandler = {{ python = 'seen:handle', isolate = true }}\n"
    )
    name = watcher.enqueue(queue, b"m")
    ended = run_command(
        [*watcher_command, "attempt", str(queue), name, "--config", str(config)],
        env=environment | {"PYTHONPATH": str(tmp_path)},
        text=True,
        capture_output=True,
    )
    assert (ended.returncode, ended.stderr) == (0, "told\n")
