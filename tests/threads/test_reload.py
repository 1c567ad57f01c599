"""A reload is a hand-over: no entry is lost, doubled, mixed up or forgotten while it happens."""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path

import pytest

from watcher.config.queue_settings import Queue
from watcher.daemon.loop import Daemon
from watcher.daemon.queue_worker import QueueWorker
from watcher.handle.function import Function

WORKERS = 16
RELOADS = 12
ENTRIES = 150  # between two reloads


@pytest.fixture
def settings(tmp_path: Path, queue: Path):
    """Write a configuration that differs from the one before by an interval."""
    file = tmp_path / "watcher.toml"

    def write(number: int, handler: str, more: str = "") -> Path:
        file.write_text(
            f'[queues.q]\npath = "{queue}"\nformat = "raw"\nconcurrency = {WORKERS}\n'
            f'sweep_every = "{600 + number}s"\n'
            f'handler = {{ python = "comparing:{handler}" }}\n{more}'
        )
        return file

    return write


@pytest.fixture
def calls(tmp_path: Path, environment: dict[str, str]) -> Path:
    """The file that the handlers write to."""
    paths = [str(Path(__file__).parent), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    environment["COMPARING_CALLS"] = str(tmp_path / "calls")
    (tmp_path / "calls").touch()
    return tmp_path / "calls"


def commit(queue: Path, name: str) -> None:
    """Rename a file into the queue, so quickly that no scan can tell how it came."""
    (queue / f"{name}.tmp").write_bytes(name.encode())
    (queue / f"{name}.tmp").rename(queue / name)


def waiting(queue: Path) -> list[str]:
    return [name for name in os.listdir(queue) if name != ".watcher"]


def said(calls: Path) -> Counter[str]:
    return Counter(calls.read_text().splitlines())


def test_entries_that_come_during_reloads_are_handled_once_and_at_once(
    start_daemon, settings, queue, calls, eventually
):
    """In the raw format a rename that was not seen would wait for ten seconds."""
    file = settings(0, "compare")
    daemon = start_daemon(None, "--config", str(file), ready=False)
    daemon.wait_for("ready")
    names = []
    for number in range(1, RELOADS + 1):
        settings(number, "compare")
        for entry in range(ENTRIES):
            names.append(f"{number}-{entry}")
            commit(queue, names[-1])
            if entry == ENTRIES // 2:
                daemon.send(signal.SIGHUP)
        daemon.wait_for("reloaded", number)
    assert eventually(lambda: not waiting(queue), 8.0)
    assert daemon.end() == 0
    assert said(calls) == {f"{name} {name}": 1 for name in names}
    assert daemon.events("bug") == []


def test_a_reload_leaks_no_descriptor_and_no_directory(
    start_daemon, settings, queue, calls, eventually
):
    file = settings(0, "compare")
    daemon = start_daemon(None, "--config", str(file), ready=False)
    daemon.wait_for("ready")
    commit(queue, "first")
    assert eventually(lambda: not waiting(queue))
    descriptors = Path(f"/proc/{daemon.process.pid}/fd")
    counts = []
    for number in range(1, RELOADS + 1):
        settings(number, "compare")
        daemon.send(signal.SIGHUP)
        daemon.wait_for("reloaded", number)
        for entry in range(WORKERS):
            commit(queue, f"{number}-{entry}")
        assert eventually(lambda: not waiting(queue))
        counts.append(len(os.listdir(descriptors)))
        assert len(os.listdir(queue / ".watcher/inflight")) == 1
    assert max(counts[2:]) <= counts[1] + WORKERS  # claims that are just being closed
    assert eventually(lambda: len(os.listdir(descriptors)) <= counts[0] + 1)
    assert daemon.end() == 0


def test_what_fails_during_reloads_is_counted_once(
    start_daemon, settings, queue, calls, eventually
):
    """No entry that a living worker has is taken for a dead process's."""
    more = 'retry = { initial = "50ms", max = "50ms", jitter = 0 }\n'
    file = settings(0, "compare_and_fail", more)
    daemon = start_daemon(None, "--config", str(file), ready=False)
    daemon.wait_for("ready")
    names = []
    for number in range(1, RELOADS + 1):
        settings(number, "compare_and_fail", more)
        daemon.send(signal.SIGHUP)
        for entry in range(ENTRIES):
            names.append(f"{number}-{entry}")
            commit(queue, names[-1])
        daemon.wait_for("reloaded", number)
    state = queue / ".watcher"

    def left() -> list[str]:
        deferred = [name for name in os.listdir(state / "deferred") if not name.startswith(".")]
        return waiting(queue) + deferred

    assert eventually(lambda: not left())
    assert daemon.end() == 0
    rejected = [name for name in names if name.endswith("7")]
    handled = said(calls)
    assert {name: handled[f"called {name}"] for name in names} == {
        name: 2 if name.endswith("3") else 1 for name in names
    }
    ended = {line: count for line, count in handled.items() if not line.startswith("called ")}
    assert ended == {f"{name} {name}": 1 for name in names if name not in rejected}
    dead = [name for name in os.listdir(state / "dead") if not name.startswith(".")]
    assert sorted(dead) == sorted(rejected)
    assert b"-c1-" not in (state / "journal").read_bytes()
    assert not [one for one in daemon.events("defer") if "died with it in hand" in one["detail"]]


def test_what_the_disk_refuses_to_finish_is_not_handled_again_after_a_reload(
    start_daemon, settings, queue, calls
):
    """The worker of the old settings keeps the claim, and its last step, until it succeeds."""
    (queue / ".watcher").mkdir(mode=0o700)
    (queue / ".watcher/dead").write_text("in the place of the directory")
    file = settings(0, "compare_and_fail")
    daemon = start_daemon(None, "--config", str(file))
    commit(queue, "7")
    daemon.wait_for("unhealthy")
    settings(1, "compare_and_fail")
    daemon.send(signal.SIGHUP)
    daemon.wait_for("reloaded")
    daemon.send(signal.SIGUSR2)
    commit(queue, "8")
    daemon.wait_for("finish", entry="8")
    (queue / ".watcher/dead").unlink()
    daemon.wait_for("reject", entry="7")
    assert daemon.end() == 0
    assert len(daemon.events("reject")) == 1
    assert (queue / ".watcher/dead/7").read_bytes() == b"7"
    assert said(calls) == {"called 7": 1, "called 8": 1, "8 8": 1}


def test_what_the_disk_refuses_for_a_moment_is_finished_before_the_end(
    start_daemon, settings, queue, calls
):
    (queue / ".watcher").mkdir(mode=0o700)
    (queue / ".watcher/dead").write_text("in the place of the directory")
    daemon = start_daemon(None, "--config", str(settings(0, "compare_and_fail")))
    commit(queue, "7")
    daemon.wait_for("unhealthy")
    daemon.send(signal.SIGTERM)
    daemon.wait_for("draining")
    (queue / ".watcher/dead").unlink()
    assert daemon.process.wait(30) == 0
    assert (queue / ".watcher/dead/7").read_bytes() == b"7"
    assert said(calls) == {"called 7": 1}


def test_a_disk_that_refuses_keeps_no_daemon_from_its_end(start_daemon, settings, queue, calls):
    (queue / ".watcher").mkdir(mode=0o700)
    (queue / ".watcher/dead").write_text("in the place of the directory")
    daemon = start_daemon(None, "--config", str(settings(0, "compare_and_fail")))
    commit(queue, "7")
    daemon.wait_for("unhealthy")
    assert daemon.end() == 0
    assert (queue / "7").read_bytes() == b"7"
    assert "dead: in the way" in daemon.events("stopped")[0]["detail"]


def test_a_new_worker_gets_its_events_before_it_takes_the_watch_over(monkeypatch, tmp_path):
    """Otherwise an event that is read in between has no receiver."""
    daemon, routed = Daemon(lambda _settings: Function(lambda _entry: None)), []

    def take_over(worker, _before):
        routed.append(worker.tag in daemon._reader.routes)

    monkeypatch.setattr(QueueWorker, "take_over", take_over)
    monkeypatch.setattr(QueueWorker, "start", lambda _worker: None)
    for grace_age in (1.0, 2.0):
        daemon.serve({"q": Queue(name="q", path=str(tmp_path), grace_age=grace_age)})
    assert routed == [True]
