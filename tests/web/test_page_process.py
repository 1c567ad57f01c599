"""The process of the page beside its daemon: fed, restarted, and never in the way of entries."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time

import pytest

from tests.processes import gone
from tests.web.client import WITH_PAGE, Page, entry
from watcher.config.daemon_settings import DaemonSettings
from watcher.daemon import web_process
from watcher.errors import BadConfiguration, Unavailable
from watcher.rules.http_address import HttpAddress, parse


@pytest.fixture
def watcher_command():
    """The command line of a watcher to which the kernel gives orphans, as it does to PID 1."""
    become = "import ctypes, os, sys; ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)"
    program = f"{become}; os.execv(sys.executable, [sys.executable, '-P', *sys.argv[1:]])"
    return [sys.executable, "-c", program, "-m", "watcher"]


def test_a_page_that_dies_is_started_again_and_the_entries_are_none_the_worse(
    start_daemon, queue, recorder, eventually
):
    daemon = start_daemon(queue, *WITH_PAGE, handler=recorder.argv())
    page = Page(daemon)
    first = page.process(eventually)
    assert page.ask("/healthz").status == 200
    os.kill(first, signal.SIGKILL)
    (_, warned) = daemon.wait_for("page", 2)
    assert "was killed by signal 9" in warned["detail"]
    assert warned["level"] == "warning"
    entry(queue)
    daemon.wait_for("finish")
    assert page.ask("/healthz").status == 200  # the connection waited for the second process
    assert gone(first)
    assert page.process(eventually) != first
    assert not daemon.events("unhealthy")


def test_a_page_that_is_stopped_goes_with_a_daemon_that_is_killed(
    start_daemon, queue, recorder, eventually
):
    daemon = start_daemon(queue, *WITH_PAGE, handler=recorder.argv())
    page = Page(daemon)
    child = page.process(eventually)
    assert page.ask("/healthz").status == 200  # it serves, so it has told the kernel
    os.kill(child, signal.SIGSTOP)
    daemon.process.kill()
    eventually(lambda: gone(child))


def test_the_page_is_there_until_the_last_entry_has_ended(
    start_daemon, queue, recorder, eventually
):
    daemon = start_daemon(queue, *WITH_PAGE, handler=recorder.argv(gated=True))
    page = Page(daemon)
    child = page.process(eventually)
    entry(queue)
    daemon.wait(lambda: recorder.calls)
    daemon.send(signal.SIGTERM)
    daemon.wait_for("draining")
    assert page.json("/status.json")["daemon"]["process"] == daemon.process.pid
    recorder.open_gate()
    assert daemon.process.wait(30) == 0
    assert gone(child)
    with pytest.raises(ConnectionRefusedError):
        page.ask("/healthz")


def test_a_reload_changes_adds_and_removes_the_address(start_daemon, tmp_path, eventually):
    for name in ("one", "two"):
        (tmp_path / "in" / name).mkdir(parents=True)
    file, token = tmp_path / "watcher.toml", tmp_path / "token"
    token.write_text("0123456789abcdef\n")
    token.chmod(0o600)
    queues = (
        f'[queues.in]\npath = "{tmp_path}/in/*"\nhandler = {{ exec = ["true"], timeout = "1m" }}\n'
    )

    def reload(lines):
        file.write_text(f"{lines}{queues}")
        daemon.send(signal.SIGHUP)

    file.write_text(queues)
    daemon = start_daemon(None, "--config", str(file))
    assert not daemon.events("page")
    reload('[daemon]\nhttp = "127.0.0.1:0"\n')
    page = Page(daemon)
    names = eventually(lambda: [each["queue"] for each in page.json("/status.json")["queues"]])
    assert names == ["in/one", "in/two"]
    (tmp_path / "in" / "three").mkdir()
    eventually(lambda: len(page.json("/status.json")["queues"]) == 3)
    first = page.process(eventually)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        reload(f'[daemon]\nhttp = "127.0.0.1:{taken.getsockname()[1]}"\n')
        daemon.wait_for("not reloaded")
    assert page.ask("/status.json").status == 200  # as before
    reload(f'[daemon]\nhttp = "127.0.0.1:0"\nhttp_token_file = "{token}"\n')
    eventually(lambda: page.ask("/status.json").status == 401)
    known = {"Authorization": "Bearer 0123456789abcdef"}
    assert page.ask("/status.json", headers=known).status == 200
    assert page.process(eventually) == first
    reload(f'[daemon]\nhttp = "unix:{tmp_path}/page"\n')
    second = Page(daemon, 1)
    assert second.ask("/status.json").status == 200
    assert gone(first)
    reload("")
    daemon.wait_for("page", 3)
    assert not (tmp_path / "page").exists()
    assert daemon.end() == 0


@pytest.mark.slow
def test_a_handler_has_none_of_the_descriptors_of_the_page(start_daemon, queue, tmp_path):
    said = tmp_path / "said"
    program = (
        "import os, sys\n"
        "found = [os.readlink(f'/proc/self/fd/{fd}') for fd in os.listdir('/proc/self/fd')"
        " if os.path.exists(f'/proc/self/fd/{fd}')]\n"
        "open(sys.argv[1] + '.new', 'w').write('\\n'.join(found))\n"
        "os.rename(sys.argv[1] + '.new', sys.argv[1])\n"
    )
    argv = [sys.executable, "-I", "-c", program, str(said)]
    daemon = start_daemon(queue, *WITH_PAGE, handler=argv)
    assert Page(daemon).ask("/healthz").status == 200
    entry(queue)
    daemon.wait_for("finish")
    assert "socket:" not in said.read_text()
    assert "alive" not in said.read_text()


@pytest.mark.slow
def test_requests_do_not_wake_the_daemon(start_daemon, queue, recorder, eventually):
    daemon = start_daemon(queue, *WITH_PAGE, handler=recorder.argv())
    page = Page(daemon)
    assert page.ask("/healthz").status == 200

    def woken():
        return sum(switches(daemon.process.pid))

    before = woken()
    for _ in range(50):
        assert page.ask("/status.json").status == 200
    assert woken() - before < 25  # it has some by itself


def switches(process):
    """How often each thread of a process went to sleep."""
    for thread in os.listdir(f"/proc/{process}/task"):
        with open(f"/proc/{process}/task/{thread}/status") as file:
            (line,) = [line for line in file if line.startswith("voluntary_ctxt_switches")]
        yield int(line.split()[1])


@pytest.fixture
def web(monkeypatch):
    """A page without a daemon; `settings` may be changed."""
    page = web_process.WebProcess(lambda: page.wanted)
    page.wanted = DaemonSettings(http=parse("127.0.0.1:0"), origin="--http")
    yield page
    page.close()


def test_a_page_that_hangs_is_killed_and_started_later_and_later(web, monkeypatch, eventually):
    with web.reloading():
        pass
    assert web.tick(time.monotonic()) == float("inf")
    (fd,) = web.filenos()
    now = time.monotonic() + web_process.HANGS - 20
    assert web.tick(now) == float("inf")
    now = time.monotonic() + web_process.HANGS + 20
    waits = []
    monkeypatch.setattr(web_process, "_require_modules", lambda _origin: None)
    monkeypatch.setattr(web_process.sys, "executable", "/bin/false")
    due = web.tick(now)
    assert "no sign of life" in web.trouble
    for _ in range(12):
        waits.append(due - now)
        now = due
        assert web.tick(now) == float("inf")
        assert not web.trouble
        eventually(lambda: web._child._process.poll() is not None)
        due = web.tick(now)
        assert "ended with status 1" in web.trouble
    assert [round(wait, 3) for wait in waits] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]
    assert fd not in web.filenos()


def test_what_cannot_be_served_is_refused_and_changes_nothing(web, monkeypatch):
    with web.reloading():
        pass
    before = web._listening
    web.wanted = DaemonSettings(http=HttpAddress("192.0.2.77", 9180), origin="--http")
    with pytest.raises(Unavailable, match="cannot serve the page there"), web.reloading():
        pass
    web.wanted = DaemonSettings(http=parse("127.0.0.1:0"), origin="--http")
    with pytest.raises(KeyError), web.reloading():
        raise KeyError
    assert web._listening is before
    monkeypatch.setattr(web_process, "_NEEDED", ("waitress", "no_such_module"))
    with pytest.raises(BadConfiguration, match="pip install 'spool-watcher"), web.reloading():
        pass
    assert web._listening is before
