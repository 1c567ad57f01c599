"""A real peer: Mailman 3's own Switchboard writes into a queue that the daemon works on.

Its environment is `.venv-mailman`, made by `make test`. Without it these tests fail: a live test
that is skipped has shown nothing.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PYTHON = ROOT / ".venv-mailman" / "bin" / "python"
COUNT = 120  # thirty of each shape


@pytest.fixture
def switchboard(queue):
    """Start Mailman's Switchboard on the queue; `communicate` gives what it enqueued."""
    assert PYTHON.exists(), "no .venv-mailman: run `make .venv-mailman/.stamp`"
    started = []

    def start(count=COUNT):
        writer = ROOT / "tests" / "live" / "mailman3_writer.py"
        process = subprocess.Popen(
            [PYTHON, writer, queue, str(count)], stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.returncode is None:
            process.kill()
            process.communicate()


def enqueued(process):
    lines = process.communicate()[0].splitlines()
    assert process.returncode == 0
    told = [json.loads(line) for line in lines]
    assert len({each["entry"] for each in told}) == len(told) > 0
    return {each["entry"]: each for each in told}


def assert_each_handled_once(told, recorder, queue):
    calls = recorder.calls
    assert sorted(call["entry"] for call in calls) == sorted(told)
    for call in calls:
        expected = told[call["entry"]]
        assert call["sha256"] == expected["sha256"], expected
        given = call["metadata"]
        assert {key: given[key] for key in expected["metadata"]} == expected["metadata"]
        assert given["version"] == 3
        assert given["_parsemsg"] is False
    assert [path for path in queue.iterdir() if path.name != ".watcher"] == []


def test_entries_enqueued_beside_the_daemon_are_each_handled_once(
    queue, switchboard, start_daemon, recorder
):
    daemon = start_daemon(queue, "--concurrency", "2", handler=recorder.argv())
    told = enqueued(switchboard())
    daemon.wait_for("finish", COUNT)
    assert daemon.end() == 0
    assert_each_handled_once(told, recorder, queue)


def test_entries_enqueued_before_the_daemon_are_handled_in_order_of_commit(
    queue, switchboard, start_daemon, recorder
):
    told = enqueued(switchboard(40))
    daemon = start_daemon(queue, handler=recorder.argv())
    daemon.wait_for("finish", 40)
    assert daemon.end() == 0
    assert_each_handled_once(told, recorder, queue)
    assert [call["entry"] for call in recorder.calls] == list(told)
