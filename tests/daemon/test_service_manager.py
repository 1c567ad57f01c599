"""What a real daemon tells the service manager, read from a real datagram socket."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import socket
import sys
import time
from pathlib import Path

import pytest

from watcher.commit_one import enqueue
from watcher.daemon import service_manager
from watcher.daemon.service_manager import AGAIN, EVERY, ServiceManager, from_environment

PATIENCE = 30.0  # seconds
HALF = 0.2  # seconds between two messages for a watchdog
SILENCE = 4 * HALF  # seconds after which a watchdog that was to send has not sent


class Manager:
    """The service manager's end of the socket."""

    def __init__(self, address):
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0") if address[0] == "@" else address)

    def next(self, seconds=PATIENCE):
        """Return the next message as a dictionary; None if none comes in time."""
        self._socket.settimeout(seconds)
        try:
            lines = self._socket.recv(65536).decode().split("\n")
        except (TimeoutError, BlockingIOError):
            return None
        return dict(line.split("=", 1) for line in lines)

    def until(self, variable):
        """Return the first message that sets this variable, and those before it."""
        before = []
        while variable not in (found := self.next() or pytest.fail(f"no {variable}: {before}")):
            before.append(found)
        return found, before

    def clear(self):
        """Take what has come."""
        while self.next(0.0) is not None:
            pass

    def close(self):
        self._socket.close()


@pytest.fixture
def manager(tmp_path, environment):
    """A manager that the environment of the next daemon names."""
    found = Manager(str(tmp_path / "notify"))
    environment["NOTIFY_SOCKET"] = found.address
    yield found
    found.close()


def watched(pid):
    """Return the inodes that a process watches."""
    found = set()
    for fd in Path(f"/proc/{pid}/fdinfo").iterdir():
        for line in fd.read_text().splitlines():
            if line.startswith("inotify "):
                found.add(int(dict(word.split(":") for word in line.split()[1:])["ino"], 16))
    return found


def test_ready_comes_when_the_directory_is_watched(queue, manager, recorder, start_daemon):
    daemon = start_daemon(queue, handler=recorder.argv(), ready=False)
    first = manager.next()
    assert first == {"READY": "1", "STATUS": "1 queue: 0 ready, 0 in hand"}
    assert queue.stat().st_ino in watched(daemon.process.pid)


@pytest.mark.slow
def test_an_abstract_socket_is_told_too(queue, tmp_path, recorder, start_daemon, environment):
    manager = Manager(f"@{tmp_path}")
    environment["NOTIFY_SOCKET"] = manager.address
    try:
        start_daemon(queue, handler=recorder.argv(), ready=False)
        assert manager.next()["READY"] == "1"
    finally:
        manager.close()


def test_ready_comes_without_a_directory_and_the_status_says_so(
    queue, tmp_path, manager, start_daemon
):
    config = tmp_path / "watcher.toml"
    config.write_text(
        f'[queues.here]\npath = "{queue}"\nhandler = {{ exec = ["true"] }}\n'
        f'[queues.away]\npath = "{tmp_path}/away"\nhandler = {{ exec = ["true"] }}\n'
    )
    start_daemon(None, "--config", str(config), ready=False)
    status = manager.until("READY")[0]["STATUS"]
    assert status.startswith("2 queues: 0 ready, 0 in hand; 1 in trouble: away: ")


def test_a_reload_is_announced_and_its_end_too(queue, manager, recorder, start_daemon):
    daemon = start_daemon(queue, handler=recorder.argv())
    manager.until("READY")
    before = time.monotonic_ns() // 1000
    daemon.send(signal.SIGHUP)
    reloading, _ = manager.until("RELOADING")
    assert before <= int(reloading["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
    assert manager.next()["READY"] == "1"
    daemon.wait_for("reloaded")


@pytest.mark.parametrize("timeout", ["1h", pytest.param(None, marks=pytest.mark.slow)])
def test_a_drain_asks_for_time_only_while_a_timeout_bounds_it(
    queue, manager, recorder, start_daemon, timeout
):
    options = ["--timeout", timeout] if timeout else []
    daemon = start_daemon(queue, *options, handler=recorder.argv(gated=True))
    enqueue(queue, b"message", {})
    daemon.wait(lambda: recorder.calls)
    daemon.send(signal.SIGTERM)
    stopping, _ = manager.until("STOPPING")
    assert stopping["STATUS"] == "draining: 1 entry in hand"
    more = manager.next(PATIENCE if timeout else 1.5)
    assert more == ({"EXTEND_TIMEOUT_USEC": "30000000"} if timeout else None)
    recorder.open_gate()
    assert daemon.end(signal.SIGWINCH) == 0  # ignored: TERM came, and a second one would not drain


def test_the_watchdog_hears_of_a_daemon_that_works(queue, manager, start_daemon, environment):
    environment["WATCHDOG_USEC"] = str(round(2 * HALF * 1e6))
    daemon = start_daemon(queue, handler=["true"])
    manager.until("READY")
    began = time.monotonic()
    for _ in range(5):
        manager.until("WATCHDOG")
    assert time.monotonic() - began >= 3 * HALF  # not at every wake
    daemon.send(signal.SIGSTOP)
    os.waitid(os.P_PID, daemon.process.pid, os.WSTOPPED | os.WNOWAIT)
    manager.clear()
    assert manager.next(SILENCE) is None
    daemon.send(signal.SIGCONT)
    assert "WATCHDOG" in manager.next()


STUCK = """\
import gc, threading
from watcher.daemon.event_reader import EventReader
from watcher.daemon.ready import Ready

READER = next(found for found in gc.get_objects() if isinstance(found, EventReader))
READY = []
POP = Ready.pop

def pop(self, wait=None):
    READY.append(self)
    return POP(self, wait)

Ready.pop = pop

def handle(entry):
    {"passing": READER._passing, "ready": READY[0]._lock}[LOCK].acquire()
    threading.Event().wait()
"""


@pytest.mark.parametrize("lock", ["passing", pytest.param("ready", marks=pytest.mark.slow)])
def test_the_watchdog_hears_nothing_while_a_worker_keeps_a_lock(
    queue, tmp_path, manager, start_daemon, environment, lock
):
    environment["WATCHDOG_USEC"] = str(round(2 * HALF * 1e6))
    environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    (tmp_path / "stuck.py").write_text(f"LOCK = {lock!r}\n{STUCK}")
    config = tmp_path / "watcher.toml"
    config.write_text(f'[queues.here]\npath = "{queue}"\nhandler = {{ python = "stuck:handle" }}\n')
    start_daemon(None, "--config", str(config))
    manager.until("WATCHDOG")
    enqueue(queue, b"message", {})
    deadline = time.monotonic() + PATIENCE
    while manager.next(SILENCE) is not None:
        assert time.monotonic() < deadline, "the watchdog is told that all is well"


@pytest.mark.slow
def test_a_handler_that_hangs_does_not_silence_the_watchdog(
    queue, manager, recorder, start_daemon, environment
):
    environment["WATCHDOG_USEC"] = str(round(2 * HALF * 1e6))
    daemon = start_daemon(queue, handler=recorder.argv(gated=True))
    enqueue(queue, b"message", {})
    daemon.wait(lambda: recorder.calls)
    manager.clear()
    for _ in range(3):
        manager.until("WATCHDOG")


@pytest.mark.parametrize("isolated", [pytest.param(True, marks=pytest.mark.slow), False])
def test_no_handler_can_speak_for_the_daemon(
    queue, tmp_path, manager, start_daemon, environment, isolated
):
    environment["WATCHDOG_USEC"] = "60000000"
    environment["WATCHDOG_PID"] = "1"
    environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    shown = tmp_path / "shown"
    program = f"import json, os\njson.dump(dict(os.environ), open({str(shown)!r}, 'w'))\n"
    if isolated:
        body = program.replace("\n", "\n    ").rstrip()
        (tmp_path / "shows.py").write_text(f"def handle(entry):\n    {body}\n")
        handler = '{ python = "shows:handle", isolate = true }'
    else:
        handler = f"{{ exec = {json.dumps([sys.executable, '-c', program])} }}"
    config = tmp_path / "watcher.toml"
    config.write_text(f'[queues.here]\npath = "{queue}"\nhandler = {handler}\n')
    daemon = start_daemon(None, "--config", str(config))
    enqueue(queue, b"message", {})
    daemon.wait_for("finish")
    given = json.loads(shown.read_text())
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} & set(given)
    manager.until("READY")
    assert manager.next(0.1) is None  # the watchdog is for process 1


def test_a_manager_that_does_not_read_delays_nothing(queue, manager, start_daemon):
    sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sender.setblocking(False)
    with sender, contextlib.suppress(BlockingIOError):
        while True:
            sender.sendto(b"X=1", manager.address)
    daemon = start_daemon(queue, handler=["true"])
    enqueue(queue, b"message", {})
    daemon.wait_for("finish")
    manager.until("READY")


@pytest.mark.slow
def test_a_manager_that_is_gone_is_logged_once(queue, manager, start_daemon):
    os.unlink(manager.address)
    daemon = start_daemon(queue, handler=["true"])
    enqueue(queue, b"message", {})
    daemon.wait_for("finish")
    daemon.send(signal.SIGHUP)
    daemon.wait_for("reloaded")
    assert daemon.end() == 0
    (said,) = daemon.events("service manager")
    assert manager.address in str(said)


# -- when it wakes the daemon's thread --------------------------------------------------------


@pytest.fixture
def service(manager):
    """Make the daemon's end of the socket."""
    made = []

    def make(watchdog=None):
        made.append(ServiceManager(manager.address, watchdog))
        return made[-1]

    yield make
    for one in made:
        one.close()


def never():
    pytest.fail("called")


def test_without_a_manager_there_is_no_moment_and_no_work():
    assert ServiceManager().tick(0.0, never, never) == math.inf
    assert from_environment({}).tick(0.0, never, never) == math.inf


def test_without_a_watchdog_an_idle_daemon_is_not_woken(manager, service):
    service = service()
    assert service.tick(0.0, never, lambda: "a") == math.inf
    assert manager.next() == {"READY": "1", "STATUS": "a"}
    # Two wakes soon after each other: one more look, and none after it.
    assert service.tick(100.0, never, lambda: "a") == math.inf
    assert service.tick(101.0, never, never) == 100.0 + EVERY
    assert service.tick(100.0 + EVERY, never, lambda: "b") == math.inf
    assert manager.next() == {"STATUS": "b"}
    assert manager.next(0.0) is None


def test_the_watchdog_wakes_at_half_its_time(service):
    proofs = []
    service = service(60.0)
    assert service.tick(0.0, lambda: proofs.append(0), lambda: "a") == 30.0
    assert service.tick(10.0, never, lambda: "a") == 30.0
    assert service.tick(30.0, lambda: proofs.append(30), lambda: "a") == 60.0
    assert proofs == [0, 30]


def test_a_long_reload_does_not_silence_the_watchdog(manager, service):
    service = service(60.0)
    service.tick(0.0, lambda: None, lambda: "a")
    service.reloading()
    manager.clear()
    for now in (20.0, 40.0, 50.0, 80.0):  # a handler was loaded
        service.step(now)
    assert [manager.next(), manager.next(), manager.next(0.0)] == [{"WATCHDOG": "1"}] * 2 + [None]


def test_ready_is_tried_again(manager, service, monkeypatch):
    service = service()
    monkeypatch.setattr(service_manager, "message", lambda **_: b"x" * 10)
    while service._send(STATUS=""):
        pass
    monkeypatch.undo()
    assert service.tick(5.0, never, lambda: "a") == 5.0 + AGAIN
    manager._socket.recv(100)
    assert service.tick(6.0, never, lambda: "a") == math.inf


@pytest.mark.parametrize("address", ["vsock:2:1234", "notify", "@"])
def test_an_address_of_another_kind_is_no_manager(address):
    environment = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "x", "PATH": "/bin"}
    from_environment(environment).tick(0.0, lambda: None, lambda: "")
    assert environment == {"PATH": "/bin"}
