"""A real daemon from its start to its end: what it handles, and what TERM and KILL leave behind."""

from __future__ import annotations

import hashlib
import signal
import subprocess

import pytest

import writers

LETTER = writers.message_for(1, 1)
DIGEST = hashlib.sha256(LETTER.message).hexdigest()


def left(queue):
    """Return the files of entries that the queue directory holds."""
    return sorted(path.name for path in queue.iterdir() if path.is_file())


@pytest.mark.parametrize("protocol", writers.PROTOCOLS)
def test_an_entry_of_each_protocol_is_handled_when_its_writer_commits(
    queue, start_daemon, recorder, protocol
):
    daemon = start_daemon(queue, "--legacy", handler=recorder.argv())
    halfway = []
    name = writers.PROTOCOLS[protocol](str(queue), LETTER, lambda _: halfway.extend(recorder.calls))
    daemon.wait_for("finish", entry=name)
    assert daemon.end() == 0
    assert halfway == []
    (call,) = recorder.calls
    assert (call["entry"], call["sha256"], call["attempt"]) == (name, DIGEST, 1)
    assert call["metadata"]["listname"] == "testlist"
    assert call["metadata"]["tolist"] == 1
    assert left(queue) == []


def test_entries_that_waited_are_handled_at_start_in_order_of_commit(queue, start_daemon, recorder):
    names = [
        writers.commit_2_1_5(str(queue), writers.message_for(number, 1), writers.no_pause)
        for number in range(10)
    ]
    daemon = start_daemon(queue, handler=recorder.argv())
    daemon.wait_for("finish", 10)
    assert [call["entry"] for call in recorder.calls] == names


def test_term_lets_the_handler_at_work_finish(queue, start_daemon, recorder, eventually):
    daemon = start_daemon(queue, handler=recorder.argv(gated=True))
    writers.commit_2_1_5(str(queue), LETTER, writers.no_pause)
    eventually(lambda: recorder.calls)
    daemon.send(signal.SIGTERM)
    recorder.open_gate()
    assert daemon.process.wait(30) == 0
    assert len(recorder.calls) == 1
    assert left(queue) == []


def test_after_kill_the_entry_is_there_and_is_handled_again_under_the_same_key(
    queue, start_daemon, recorder, eventually
):
    killed = start_daemon(queue, handler=recorder.argv(gated=True))
    name = writers.commit_2_1_5(str(queue), LETTER, writers.no_pause)
    eventually(lambda: recorder.calls)
    assert killed.end(signal.SIGKILL) == -signal.SIGKILL
    assert left(queue) == [f"{name}.pck"]

    second = start_daemon(queue, handler=recorder.argv())
    assert len(recorder.calls) == 1  # the first one's handler still has it
    recorder.open_gate()
    second.wait_for("finish", entry=name)
    assert second.end() == 0
    first, again = recorder.calls
    assert first["key"] == again["key"]
    assert left(queue) == []


def test_a_signal_while_the_daemon_starts_is_for_the_daemon(queue, watcher_command, environment):
    """It was killed by what came before it had installed its own handlers."""
    program = (
        "import os, signal, sys\n"
        "import watcher.config.load\n"
        "load, sent = watcher.config.load.queue, []\n"
        "def slowly(*given):\n"
        "    for number in sent[:1] or (signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM):\n"
        "        os.kill(os.getpid(), number)\n"
        "        sent.append(signal.SIGUSR2)\n"
        "    return load(*given)\n"
        "watcher.config.load.queue = slowly\n"
        "from watcher.cli import main\n"
        "main(sys.argv[1:])\n"
    )
    argv = [watcher_command[0], "-c", program, "run", str(queue), "--", "true"]
    ended = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended
    assert "drained" in ended.stderr
