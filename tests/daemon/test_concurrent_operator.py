"""hold, release, requeue and delete beside a daemon: it sees each at once, and nothing goes twice.

No sweep comes while these tests run (`--sweep-every 1h`): what a daemon handles, it was told of.
"""

from __future__ import annotations

import json
import os
import threading
from collections import Counter

import pytest

import watcher
import writers
from tests.command_server import run_command

LETTER = writers.message_for(1, 1)
QUIET = ("--sweep-every", "1h")


@pytest.fixture
def run(watcher_command, environment):
    """Run one command to its end; return its lines as objects."""

    def running(command, queue, *arguments, status=0):
        argv = [*watcher_command, command, str(queue), *arguments, "--json"]
        ended = run_command(argv, env=environment, capture_output=True, timeout=30)
        assert ended.returncode in (status if isinstance(status, tuple) else (status,)), ended
        return [json.loads(line) for line in ended.stdout.splitlines()]

    return running


def script(tmp_path, text):
    path = tmp_path / "handler"
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return [str(path)]


def test_a_requeue_is_seen_at_once_under_the_same_key_and_counts_from_the_first(
    queue, tmp_path, start_daemon, run
):
    """Dead after its first attempt, deferred after its second, done after its third."""
    record = tmp_path / "record"
    handler = script(
        tmp_path,
        f'echo "$WATCHER_KEY $WATCHER_ATTEMPT" >> {record}\n'
        f"case $(wc -l < {record}) in 1) exit 65;; 2) exit 75;; esac\n",
    )
    daemon = start_daemon(queue, *QUIET, handler=handler)
    name = watcher.enqueue(queue, b"m")
    daemon.wait_for("reject", entry=name)
    assert run("requeue", queue, name)[0]["to"] == "ready"
    daemon.wait_for("defer", entry=name)
    (listed,) = run("list", queue)
    assert (listed["state"], listed["entry"], listed["attempts"]) == ("deferred", name, 1)
    assert run("requeue", queue, "ALL")[0]["from"] == "deferred"
    daemon.wait_for("finish", entry=name)
    calls = [line.split() for line in record.read_text().splitlines()]
    assert len({key for key, _ in calls}) == 1
    assert [attempt for _, attempt in calls] == ["1", "1", "1"]
    assert run("list", queue) == []
    left = [path for path in (queue / ".watcher").rglob("*.json") if path.name != "queue.json"]
    assert not left, "its notes went with it"


def test_a_pair_comes_back_whole_and_is_seen_at_once(queue, recorder, start_daemon, run):
    name = writers.commit_2_0_8(str(queue), LETTER, writers.no_pause)
    run("hold", queue, name, "--legacy")
    daemon = start_daemon(queue, "--legacy", *QUIET, handler=recorder.argv())
    run("release", queue, name)
    daemon.wait_for("finish", entry=name)
    (call,) = recorder.calls
    assert call["metadata"]["listname"] == "testlist"
    assert os.listdir(queue / ".watcher" / "held") == []


def test_a_namesake_of_an_entry_in_hand_waits_beside_it_and_both_are_handled(
    queue, recorder, start_daemon, run, eventually
):
    for data in (b"old", b"new"):
        (queue / "x.csv.tmp").write_bytes(data)
        (queue / "x.csv.tmp").rename(queue / "x.csv")
        if data == b"old":
            raw = ("--format", "raw", "--suffix", ".csv")
            run("hold", queue, "ALL", *raw)
    daemon = start_daemon(queue, *raw, *QUIET, handler=recorder.argv(gated=True))
    eventually(lambda: recorder.calls)
    (busy,) = run("hold", queue, "x.csv", *raw, status=75)
    assert "claimed" in busy["why"]
    (line,) = run("release", queue, "ALL", *raw)
    assert line["to"] == "deferred"
    recorder.open_gate()
    daemon.wait_for("finish", entry="x.csv")
    recorder.open_gate()
    daemon.wait_for("finish", 2, entry="x.csv")
    assert [call["entry"] for call in recorder.calls] == ["x.csv", "x.csv"]
    assert len({call["sha256"] for call in recorder.calls}) == 2
    assert run("list", queue, *raw) == []


def test_what_is_deleted_while_it_waits_is_not_handled(queue, recorder, start_daemon, run):
    daemon = start_daemon(queue, *QUIET, handler=recorder.argv(status=75))
    name = watcher.enqueue(queue, b"m")
    daemon.wait_for("defer", entry=name)
    run("delete", queue, name, "--yes")
    other = watcher.enqueue(queue, b"m")
    daemon.wait_for("defer", entry=other)
    run("hold", queue, other)
    assert daemon.end() == 0
    assert [call["entry"] for call in recorder.calls] == [name, other]
    assert [line["state"] for line in run("list", queue)] == ["held"]


def test_operators_at_work_beside_a_daemon_make_it_do_nothing_twice(
    queue, tmp_path, start_daemon, run
):
    """Without a crash each entry is handled exactly once, whatever commands move it meanwhile."""
    record = tmp_path / "record"
    at_work = tmp_path / "at work"  # no entry is done before an operator has moved some
    wait = f'while [ ! -e "{at_work}" ]; do sleep 0.01; done; '
    handler = script(tmp_path, f'{wait}echo "$WATCHER_ENTRY" >> {record}; sleep 0.01\n')
    names = [watcher.enqueue(queue, b"m") for _ in range(150)]
    moved = []
    daemon = start_daemon(queue, "--concurrency", "2", *QUIET, handler=handler)

    def operate(*commands):
        for _ in range(4):
            for command in commands:
                moved.extend(line["to"] for line in run(command, queue, "ALL", status=(0, 75)))
                if "held" in moved:
                    at_work.touch()

    operators = [
        threading.Thread(target=operate, args=commands)
        for commands in (("hold", "release"), ("release", "requeue", "hold"))
    ]
    for operator in operators:
        operator.start()
    for operator in operators:
        operator.join()
    run("release", queue, "ALL", status=(0, 75))
    daemon.wait_for("finish", len(names))
    assert Counter(record.read_text().split()) == Counter(names)
    assert moved.count("held") > 10, "they were at work"
    assert moved.count("ready") + moved.count("deferred") > 10
    assert run("list", queue) == []
