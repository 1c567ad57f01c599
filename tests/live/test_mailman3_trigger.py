"""Mailman 3's own runner takes the entries of a queue, and a trigger says when.

As in `test_mailman3.py`, its environment is `.venv-mailman`, and its Switchboard the writer.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PYTHON = ROOT / ".venv-mailman" / "bin" / "python"
RUNNER = ROOT / "tests" / "live" / "mailman3_runner.py"
WRITER = ROOT / "tests" / "live" / "mailman3_writer.py"
NEVER = 'sweep_every = "1h"\nretry = { initial = "1h", max = "1h" }\n'


@pytest.fixture
def serve(queue, tmp_path, start_daemon):
    """Start a daemon whose queue has this trigger."""
    assert PYTHON.exists(), "no .venv-mailman: run `make .venv-mailman/.stamp`"

    def started(*argv):
        words = ", ".join(repr(str(word)) for word in argv)
        handler = f"{{ trigger = [{words}], timeout = '1m' }}"
        file = tmp_path / "w.toml"
        file.write_text(f"[queues.q]\npath = '{queue}'\nhandler = {handler}\n{NEVER}")
        return start_daemon(None, "--config", str(file))

    return started


@pytest.fixture
def woken(queue, tmp_path, environment):
    """A runner that stays and is woken; its value is the command of the trigger."""
    for name in ("wake", "done"):
        os.mkfifo(tmp_path / name)
    argv = [PYTHON, RUNNER, queue, tmp_path / "record"]
    own = {"WOKEN_BY": str(tmp_path), "PYTHONPATH": str(ROOT / "scripts")}
    process = subprocess.Popen(argv, env={**environment, **own})
    yield ["sh", "-c", f"echo >'{tmp_path}/wake' && read line <'{tmp_path}/done'"]
    process.terminate()
    process.wait()


def enqueue(queue, count):
    subprocess.run([PYTHON, WRITER, queue, str(count)], check=True, stdout=subprocess.DEVNULL)


def handled(record):
    return [int(line) for line in record.read_text().splitlines()] if record.exists() else []


def assert_empty(queue):
    assert [path.name for path in queue.iterdir() if path.name != ".watcher"] == []


def test_a_resident_runner_that_is_woken_handles_every_message_once(queue, tmp_path, serve, woken):
    daemon = serve(*woken)
    enqueue(queue, 120)
    daemon.wait(lambda: len(handled(tmp_path / "record")) == 120)
    daemon.wait(lambda: not list(queue.glob("*.bak")))
    assert daemon.end() == 0
    assert handled(tmp_path / "record") == list(range(120))
    assert_empty(queue)
    assert not daemon.events("unhealthy")


@pytest.mark.slow
def test_a_runner_that_takes_one_message_a_run_is_run_until_none_is_left(
    queue, tmp_path, serve, environment
):
    environment["PYTHONPATH"] = str(ROOT / "scripts")
    enqueue(queue, 6)
    daemon = serve(PYTHON, RUNNER, queue, tmp_path / "record", "--once")
    daemon.wait_for("triggered", 6)
    assert daemon.end() == 0
    assert handled(tmp_path / "record") == list(range(6))
    assert_empty(queue)
    assert len(daemon.events("triggered")) == 6
