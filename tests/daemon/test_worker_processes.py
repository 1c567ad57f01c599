"""`isolate = true` in a real daemon: a segfault, a hang or a kill costs one attempt."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest

import watcher
from tests.processes import gone

MODULE = '''
import ctypes, os, signal, time
from watcher import Reject

def act(entry):
    """Do what the message says."""
    exec(entry.message.decode(), globals() | {"entry": entry})
'''


@pytest.fixture
def start(queue, tmp_path, environment, start_daemon):
    """Start a daemon whose handler does what a message says."""
    (tmp_path / "isolated_acts.py").write_text(MODULE)
    inherited = environment.get("PYTHONPATH")
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(tmp_path), inherited]))

    def started(more=", isolate = true", retry='initial = "50ms", jitter = 0', **options):
        (tmp_path / "w.toml").write_text(
            f'[queues.q]\npath = "{queue}"\n'
            f'handler = {{ python = "isolated_acts:act"{more} }}\nretry = {{ {retry} }}\n'
        )
        return start_daemon(None, "--config", str(tmp_path / "w.toml"), **options)

    return started


def workers(daemon):
    """The processes that a daemon has for its handlers."""
    found = []
    for task in os.listdir(f"/proc/{daemon.process.pid}/task"):
        with open(f"/proc/{daemon.process.pid}/task/{task}/children") as file:
            found += map(int, file.read().split())
    return found


def note_of_the_dead(queue, name):
    return json.loads((queue / ".watcher/dead" / f"{name}.json").read_text())


def test_a_segfault_three_times_is_poison_and_no_other_entry_suffers(queue, start):
    daemon = start()
    deadly = watcher.enqueue(queue, b"ctypes.string_at(0)")
    others = [watcher.enqueue(queue, b"") for _ in range(5)]
    daemon.wait_for("reject", entry=deadly)
    daemon.wait_for("finish", len(others))
    assert len(daemon.events("defer", entry=deadly)) == 2
    note = note_of_the_dead(queue, deadly)
    assert note["why"].startswith("poison: ")
    assert note["why"].endswith("killed by signal 11 (SIGSEGV)")
    assert (note["crashes"], note["exit_status"]) == (3, -11)
    assert "Fatal Python error: Segmentation fault" in note["stderr"]
    assert daemon.end() == 0


def test_a_hang_is_a_retry_and_the_rest_goes_on(queue, start, tmp_path):
    daemon = start(', isolate = true, timeout = "300ms"')
    flag = tmp_path / "flag"
    slow = watcher.enqueue(
        queue, f"if entry.attempt == 1: time.sleep(1000)\nopen({str(flag)!r}, 'w')".encode()
    )
    (deferred,) = daemon.wait_for("defer", entry=slow)
    assert "timeout: still running after 300ms" in deferred["detail"]
    daemon.wait_for("finish", entry=slow)
    assert flag.exists()


def test_limits_of_the_file_reach_the_worker(queue, start):
    daemon = start(', isolate = true, memory = "256M", cpu = "7s"')
    name = watcher.enqueue(
        queue,
        b"import resource as r\nraise Reject(str([r.getrlimit(l)[0] for l in (r.RLIMIT_AS,"
        b" r.RLIMIT_CPU)]))",
    )
    daemon.wait_for("reject", entry=name)
    memory, cpu = json.loads(note_of_the_dead(queue, name)["why"])
    assert memory == 256 << 20
    assert 7 <= cpu <= 20


def test_a_claim_outlives_a_killed_daemon_for_as_long_as_its_worker_works(
    queue, start, tmp_path, eventually
):
    for fifo in ("in", "out"):
        os.mkfifo(tmp_path / fifo)
    first = start()
    name = watcher.enqueue(
        queue,
        f"if entry.attempt == 1: open({str(tmp_path / 'in')!r}, 'w').write(str(os.getpid())),"
        f" open({str(tmp_path / 'out')!r}).read()".encode(),
    )
    with open(tmp_path / "in") as file:
        worker = int(file.read())
    first.process.kill()
    first.process.wait()
    second = start()
    second.process.send_signal(signal.SIGUSR2)
    after = watcher.enqueue(queue, b"")
    second.wait_for("finish", entry=after)
    assert second.events("claim", entry=name) == []
    assert not gone(worker)
    with open(tmp_path / "out", "w"):
        pass
    eventually(lambda: gone(worker))
    second.process.send_signal(signal.SIGUSR2)
    second.wait_for("finish", entry=name)


def test_what_killed_the_daemon_is_handled_apart_the_next_times(queue, start):
    """Without `isolate`: the first death is the daemon's, and the last."""
    first = start("")
    deadly = watcher.enqueue(queue, b"ctypes.string_at(0)")
    assert first.process.wait(30) == -signal.SIGSEGV
    second = start("")
    second.wait_for("reject", entry=deadly)
    note = note_of_the_dead(queue, deadly)
    assert note["crashes"] == 3
    assert note["why"].startswith("poison: ")
    fine = watcher.enqueue(queue, b"")
    second.wait_for("finish", entry=fine)
    assert second.end() == 0


@pytest.mark.parametrize("way", ["end", "kill", "reload"])
def test_no_worker_outlives_its_work(queue, start, tmp_path, eventually, way):
    daemon = start()
    name = watcher.enqueue(queue, b"")
    daemon.wait_for("finish", entry=name)
    (worker,) = workers(daemon)
    if way == "reload":
        settings = tmp_path / "w.toml"
        settings.write_text(settings.read_text() + 'grace_age = "7m"\n')
        daemon.send(signal.SIGHUP)
        daemon.wait_for("reloaded")
    else:
        daemon.end(signal.SIGTERM if way == "end" else signal.SIGKILL)
    eventually(lambda: gone(worker))


def test_a_drain_told_to_the_whole_service_finishes_what_is_in_hand(queue, start, tmp_path):
    os.mkfifo(tmp_path / "gate")
    daemon = start()
    name = watcher.enqueue(queue, f"open({str(tmp_path / 'gate')!r}).read()".encode())
    with open(tmp_path / "gate", "w"):
        for pid in (*workers(daemon), daemon.process.pid):
            os.kill(pid, signal.SIGTERM)
        daemon.wait_for("draining")
    assert daemon.process.wait(30) == 0
    daemon.end()
    assert len(daemon.events("finish", entry=name)) == 1


def test_stopping_at_once_kills_the_worker_and_counts_nothing(queue, start, tmp_path, eventually):
    os.mkfifo(tmp_path / "gate")
    daemon = start()
    watcher.enqueue(queue, f"open({str(tmp_path / 'gate')!r}).read(); time.sleep(1000)".encode())
    with open(tmp_path / "gate", "w"):
        (worker,) = workers(daemon)
        daemon.send(signal.SIGTERM)
        daemon.wait_for("draining")
        began = time.monotonic()
        assert daemon.end() == os.EX_TEMPFAIL
    assert time.monotonic() - began < 10
    eventually(lambda: gone(worker))
    notes = [name for _, _, names in os.walk(queue) for name in names if name.endswith(".json")]
    assert notes == ["queue.json"]


def test_a_module_that_cannot_be_imported_apart_is_refused_at_start(
    queue, tmp_path, start_daemon, environment
):
    (tmp_path / "broken_module.py").write_text("import os; os.kill(os.getpid(), 11)")
    paths = [str(tmp_path), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    (tmp_path / "w.toml").write_text(
        f'[queues.q]\npath = "{queue}"\n'
        'handler = { python = "broken_module:f", isolate = true }\n'
    )
    daemon = start_daemon(None, "--config", str(tmp_path / "w.toml"), ready=False)
    assert daemon.process.wait(30) == os.EX_CONFIG
    daemon.end()
    assert "queues.q.handler.python: handler 'broken_module:f'" in daemon.log()
    assert "killed by signal 11 (SIGSEGV) before it was ready" in daemon.log()
