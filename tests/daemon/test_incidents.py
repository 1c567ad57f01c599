"""Each incident of docs/operating.md on a real queue: one command tells, at most three cure.

The commands are those of the page, word for word; the names of this queue take the place of QUEUE,
NAME, PROCESS, COMMAND and FILE.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import watcher
from tests.command_server import run_command
from watcher.errors import WatcherError

PAGE = (Path(__file__).parents[2] / "docs" / "operating.md").read_text()
SECTIONS = dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
ROWS = re.findall(r"^\| \[(.+?)\]\(#", PAGE, re.MULTILINE)
PATIENCE = 30.0  # seconds
MOST = 3  # commands that cure
CORPUS = Path(__file__).parents[1] / "corpus"


def block(incident):
    """Return the commands that the page has for an incident."""
    found = re.search(r"^```\n(.*?)^```$", SECTIONS[incident], re.DOTALL | re.MULTILINE)
    assert found, incident
    return found[1].splitlines()


class Operator:
    """Types commands beside the daemon of one queue."""

    def __init__(self, queue, environment):
        self.queue = queue
        self._environment = environment

    def type(self, line, *, status=(0,)):
        """Run one command; return what it printed."""
        argv = shlex.split(line, comments=True)
        if "|" in argv:
            function = f'watcher() {{ "{sys.executable}" -P -m watcher "$@"; }}; set -o pipefail; '
            argv = ["bash", "-c", function + line]
        if argv[0] == "watcher":
            argv[:1] = [sys.executable, "-P", "-m", "watcher"]
            ended = run_command(argv, env=self._environment, capture_output=True, timeout=60)
            printed = ended.stdout.decode() + ended.stderr.decode()
        else:
            run = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
            ended, printed = run, run.stdout + run.stderr
        assert ended.returncode in status, (line, ended.returncode, printed)
        return printed

    def tells(self, command="watcher status QUEUE"):
        """Run the one command that tells."""
        return " ".join(self.type(self._named(command)).split())

    def tells_soon(self, wanted, *, present=True):
        """Run the command until it tells: a daemon publishes at most once a second."""
        deadline = time.monotonic() + PATIENCE
        while (wanted in (told := self.tells())) is not present:
            assert time.monotonic() < deadline, (wanted, told)
            time.sleep(0.1)
        return told

    def cures(self, incident, *, status=(0,), **names):
        """Type the commands of the page; return what they printed."""
        commands = block(incident)
        assert len(commands) <= MOST, incident
        return [self.type(self._named(line, **names), status=status) for line in commands]

    def _named(self, line, **names):
        for placeholder, value in {"QUEUE": self.queue, **names}.items():
            line = re.sub(rf"\b{placeholder}\b", str(value), line)
        return line

    def states(self):
        """Return how many entries are in each state."""
        lines = self.type(f"watcher list {self.queue} --json").splitlines()
        counted = {}
        for line in lines:
            state = json.loads(line)["state"]
            counted[state] = counted.get(state, 0) + 1
        return counted

    def audit(self):
        """Return what the audit says, which must balance."""
        return self.type(f"watcher audit {self.queue}")


@pytest.fixture
def operator(queue, environment):
    """Type commands on the queue."""
    return Operator(queue, environment)


def handler(tmp_path, text):
    """Write a handler; return its command. It may be written anew at any time."""
    program = tmp_path / "handler"
    other = tmp_path / "handler.new"
    other.write_text(f"#!/bin/sh\n{text}\n")
    other.chmod(0o755)
    os.replace(other, program)
    return [str(program)]


def fill(path):
    """Write a file until the disk is full."""
    with path.open("wb", buffering=0) as large:
        for size in (65536, 1):
            with contextlib.suppress(OSError):
                while True:
                    large.write(b"x" * size)


def commit(queue, count):
    return [watcher.enqueue(queue, b"Subject: %d\n\n" % number) for number in range(count)]


def test_every_incident_of_the_page_is_played_and_has_its_row():
    assert list(SECTIONS) == ROWS
    assert len(ROWS) == 21
    tests = ["_".join(re.findall("[a-z0-9]+", re.sub("[',]", "", row.lower()))) for row in ROWS]
    assert [test for test in tests if f"test_{test}" not in globals()] == []


def test_the_handlers_host_is_down(queue, tmp_path, start_daemon, operator):
    refused = handler(tmp_path, "echo 'db.example: connection refused' >&2; exit 75")
    daemon = start_daemon(queue, handler=refused)
    names = commit(queue, 12)
    daemon.wait_for("defer", 12)
    told = operator.tells_soon("of the last 12 attempts failed")
    assert "connection refused" in told
    assert "): healthy" not in told
    handler(tmp_path, "exit 0")
    operator.cures("The handler's host is down", NAME=f"{names[0]} -- /bin/true")
    daemon.wait_for("finish", 11)
    assert operator.states() == {}
    operator.audit()


def test_a_poison_entry(queue, tmp_path, start_daemon, operator):
    (tmp_path / "poison.py").write_text(
        "import os\ndef handle(entry):\n    os.kill(os.getpid(), 11)\n"
    )
    (name,) = commit(queue, 1)
    config = tmp_path / "w.toml"
    config.write_text(
        f'[queues.q]\npath = "{queue}"\nhandler = {{ python = "poison:handle" }}\n'
        'retry = { initial = "0.05s" }\ngrace_age = "0s"\n'
    )
    for _ in range(9):
        ended = subprocess.run(
            [sys.executable, "-P", "-m", "watcher", "sweep", str(queue), "--config", str(config)],
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            timeout=60,
            check=False,
        )
        if operator.states() == {"dead": 1}:
            break
        time.sleep(0.06)  # until the next attempt is due
    assert operator.states() == {"dead": 1}, ended
    start_daemon(queue, handler=["/bin/true"])
    assert "poison" in operator.tells()
    explained, _ = operator.cures("A poison entry", NAME=name)
    assert "signal 11" in explained
    assert operator.states() == {}
    operator.audit()


def test_a_handler_hangs(queue, tmp_path, start_daemon, operator):
    daemon = start_daemon(
        *(queue, "--warn-after", "1s", "--sweep-every", "1s"),
        handler=handler(tmp_path, "exec sleep 1000"),
    )
    (name,) = commit(queue, 1)
    daemon.wait(lambda: "in hand" in daemon.log())
    told = operator.tells_soon(name)
    assert re.search(r"in hand for \S+ by process \d+|process \d+", told), told
    operator.cures("A handler hangs", NAME=name)
    assert operator.states() == {"held": 1}


def test_the_disk_is_full(queue, tmp_path, operator, start_daemon):
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "none", str(small)], check=False
    )
    if mounted.returncode:
        pytest.skip("nothing can be mounted here")
    try:
        operator.queue = small / "queue"
        operator.queue.mkdir()
        daemon = start_daemon(
            operator.queue, handler=handler(tmp_path, f"[ ! -e {small}/large ] || exit 75")
        )
        names = commit(operator.queue, 3)
        daemon.wait_for("finish", 3)
        fill(small / "large")
        with pytest.raises(WatcherError, match="No space left on device"):
            watcher.enqueue(operator.queue, message=b"x" * 10_000)
        assert "the disk is nearly full" in operator.tells()
        (small / "large").unlink()
        assert "nearly full" not in operator.tells()
        operator.cures("The disk is full")
        assert names
        operator.audit()
    finally:
        daemon.end()
        subprocess.run(["umount", str(small)], check=True)


def test_permissions_were_changed(queue, environment, start_daemon, operator):
    daemon = start_daemon(queue, handler=["/bin/true"])
    watcher.enqueue(queue, b"1")
    daemon.wait_for("finish", 1)
    queue.chmod(0o555)
    operator.queue = queue
    told = operator.tells() if os.geteuid() else "root may write everywhere"
    assert "write" in told
    operator.cures("Permissions were changed")
    watcher.enqueue(queue, b"2")
    daemon.wait_for("finish", 2)


def test_the_directory_was_removed_and_made_anew(queue, tmp_path, start_daemon, operator):
    daemon = start_daemon(queue, "--sweep-every", "1s", handler=["sh", "-c", "exit 75"])
    names = commit(queue, 3)
    daemon.wait_for("defer", 3)
    queue.rename(tmp_path / "gone")  # the daemon may write there meanwhile
    shutil.rmtree(tmp_path / "gone", ignore_errors=True)
    queue.mkdir()
    daemon.send(signal.SIGUSR2)
    daemon.wait(lambda: "with entries in it (3 deferred" in daemon.log())
    audited, accepted = operator.cures("The directory was removed and made anew", status=(0, 65))
    assert all(name in audited for name in names)
    assert "accepted" in accepted
    operator.audit()


def test_half_a_pair(queue, start_daemon, operator):
    shutil.copy(next((CORPUS / "mm20").glob("*.msg")), queue / "half.msg")
    daemon = start_daemon(
        queue, "--legacy", "--grace-age", "1s", "--sweep-every", "1s", handler=["/bin/true"]
    )
    daemon.wait_for("abandon")
    assert "orphan" in operator.tells()
    assert ".db" in operator.type(f"watcher explain {queue} orphan/half.msg")
    committed, _ = operator.cures("Half a pair", NAME="half.msg")
    daemon.wait_for("finish", entry=committed.strip())
    operator.audit()


def test_500_dead_after_a_bad_deploy(queue, tmp_path, start_daemon, operator):
    """Ten of them here."""
    log = tmp_path / "log"
    daemon = start_daemon(queue, handler=handler(tmp_path, "echo 'KeyError: x' >&2; exit 65"))
    names = commit(queue, 10)
    daemon.wait_for("reject", 10)
    told = operator.tells()
    assert "10" in told
    assert "KeyError" in told
    handler(tmp_path, f'echo "$WATCHER_ENTRY" >>{log}')
    (said,) = operator.cures("500 dead after a bad deploy")
    assert "10 requeued, 0 left" in said
    daemon.wait_for("finish", 10)
    assert log.read_text().split() == names
    operator.audit()


def test_another_program_takes_entries(queue, tmp_path, start_daemon, operator, recorder):
    daemon = start_daemon(queue, handler=recorder.argv(gated=True))
    names = commit(queue, 2)
    daemon.wait(lambda: recorder.calls)
    (queue / f"{names[1]}.pck").unlink()  # another program
    recorder.open_gate()
    daemon.wait(lambda: names[1] in daemon.log())
    assert "taken by another program" in operator.tells()
    audited, accepted = operator.cures("Another program takes entries", status=(0, 65))
    assert names[1] in audited
    assert "accepted" in accepted
    operator.audit()


def test_the_daemon_is_dead_since_yesterday(queue, start_daemon, operator, watcher_command):
    daemon = start_daemon(queue, handler=["/bin/true"])
    operator.tells_soon(f"process {daemon.process.pid}")
    daemon.end(signal.SIGKILL)
    watcher.enqueue(queue, b"1")
    told = operator.tells()
    assert "no daemon runs" in told
    assert f"process {daemon.process.pid}" in told
    checked, _ = block("The daemon is dead since yesterday")
    line = checked.replace("QUEUE", str(queue))
    assert "no daemon runs" in operator.type(line, status=(1, 2))
    again = start_daemon(queue, handler=["/bin/true"])
    again.wait_for("finish")
    assert operator.type(line)


def test_two_daemons(queue, start_daemon, operator):
    first = start_daemon(queue, handler=["/bin/true"])
    second = start_daemon(queue, handler=["/bin/true"])
    told = operator.tells_soon("2 daemons")
    assert str(first.process.pid) in told
    assert str(second.process.pid) in told
    operator.cures("Two daemons", PROCESS=second.process.pid)
    operator.tells_soon("2 daemons", present=False)
    second.end()


@pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")
def test_the_limits_of_inotify(queue, start_daemon, operator, watcher_command):
    """The limit is a user namespace's own, and not the one of `sysctl`."""
    if subprocess.run(["unshare", "-Ur", "true"], check=False, capture_output=True).returncode:
        pytest.skip("no user namespaces here")
    limit = "/proc/sys/user/max_inotify_instances"
    shell = f'echo 0 > {limit}; exec "$@"'
    watcher_command[:] = ["unshare", "-Ur", "sh", "-c", shell, "sh", *watcher_command]
    daemon = start_daemon(*(queue, "--sweep-every", "1s"), handler=["/bin/true"], ready=False)
    daemon.wait_for("unhealthy")
    operator.tells_soon("max_user_instances")
    sysctl, status = block("The limits of inotify")
    assert sysctl.startswith("sysctl -w fs.inotify.max_user_instances=")
    raised = ["nsenter", "-U", "-t", str(daemon.process.pid), "sh", "-c", f"echo 100 > {limit}"]
    subprocess.run(raised, check=True)
    daemon.wait_for("armed")
    assert status == "watcher status QUEUE"
    operator.tells_soon("max_user_instances", present=False)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")
def test_events_do_not_arrive(queue, start_daemon, operator, watcher_command, steal):
    """No second inotify instance is to be had, so that the daemon cannot help itself."""
    if subprocess.run(["unshare", "-Ur", "true"], check=False, capture_output=True).returncode:
        pytest.skip("no user namespaces here")
    before = list(watcher_command)
    shell = 'echo 1 >/proc/sys/user/max_inotify_instances; exec "$@"'
    watcher_command[:] = ["unshare", "-Ur", "sh", "-c", shell, "sh", *watcher_command]
    daemon = start_daemon(
        *(queue, "--canary", "300ms", "--sweep-every", "1h"), handler=["/bin/true"]
    )
    steal(daemon, queue, steals=True)
    told = operator.tells_soon("events do not arrive")
    assert f"kill {daemon.process.pid}" in told
    commit(queue, 2)
    daemon.wait_for("finish", 2)
    kill, run, status = block("Events do not arrive")
    operator.type(kill.replace("PROCESS", str(daemon.process.pid)))
    assert daemon.process.wait(PATIENCE) == 0
    watcher_command[:] = before
    assert run == "watcher run QUEUE -- COMMAND &"
    start_daemon(queue, handler=["/bin/true"])
    assert status == "watcher status QUEUE"
    operator.tells_soon("events do not arrive", present=False)


def test_a_move_to_another_disk_or_host(queue, tmp_path, start_daemon, operator):
    daemon = start_daemon(queue, handler=["sh", "-c", "exit 75"])
    commit(queue, 3)
    daemon.wait_for("defer", 3)
    daemon.end()
    operator.queue = tmp_path / "elsewhere"
    subprocess.run(["cp", "-a", queue, operator.queue], check=True)
    operator.cures("A move to another disk or host")
    operator.type(f"watcher requeue {operator.queue} ALL")
    daemon = start_daemon(operator.queue, handler=["/bin/true"])
    daemon.wait_for("finish", 3)
    operator.audit()


def test_what_became_of_x(queue, tmp_path, start_daemon, operator):
    once = tmp_path / "once"
    text = f"[ -e {once} ] || {{ touch {once}; echo 'try later' >&2; exit 75; }}"
    daemon = start_daemon(queue, handler=handler(tmp_path, text))
    (name,) = commit(queue, 1)
    daemon.wait_for("defer")
    operator.type(f"watcher requeue {queue} {name}")
    daemon.wait_for("finish")
    daemon.end()
    (told,) = operator.cures("What became of X?", NAME=name)
    assert "try later" in told
    assert str(daemon.process.pid) in told
    assert re.search("handled", told)


def test_entries_are_slow(queue, tmp_path, start_daemon, operator):
    daemon = start_daemon(queue, handler=handler(tmp_path, "sleep 0.3"))
    commit(queue, 3)
    daemon.wait_for("finish", 3)
    assert block("Entries are slow") == ["watcher status QUEUE"]
    told = operator.tells_soon("settle")
    assert re.search(r"wait .* handler \d\d\dms .* settle", told), told


def test_a_typing_error_before_a_reload(queue, tmp_path, start_daemon, operator):
    config = tmp_path / "w.toml"
    good = f'[queues.q]\npath = "{queue}"\nhandler = {{ exec = ["/bin/true"] }}\n'
    config.write_text(good)
    daemon = start_daemon(None, "--config", str(config))
    config.write_text(good + "concurency = 2\n")
    daemon.send(signal.SIGHUP)
    daemon.wait(lambda: "concurency" in daemon.log())
    operator.tells_soon("concurency")
    told, _ = (
        operator.type(line.replace("FILE", str(config)), status=(0, 78))
        if line.startswith("watcher")
        else ""
        for line in block("A typing error before a reload")
    )
    assert "concurency" in told
    config.write_text(good)
    operator.cures("A typing error before a reload", FILE=config, PROCESS=daemon.process.pid)
    daemon.wait_for("reloaded")
    operator.tells_soon("concurency", present=False)


def test_a_pause_for_maintenance(queue, start_daemon, operator):
    daemon = start_daemon(queue, handler=["/bin/true"])
    pause, resume = (line.replace("QUEUE", str(queue)) for line in block("A pause for maintenance"))
    operator.type(pause)
    watcher.enqueue(queue, b"1")
    told = operator.tells()
    assert "paused since" in told
    assert "database upgrade" in told
    operator.type(resume)
    daemon.wait_for("finish")
    assert "paused" not in operator.tells()


def test_one_entry_now_with_its_output(queue, operator):
    first, second = commit(queue, 2)
    (printed,) = operator.cures(
        "One entry now, with its output", NAME=second, COMMAND="sh -c 'cat; echo to the terminal'"
    )
    assert "to the terminal" in printed
    assert operator.states() == {"ready": 1}
    assert first


@pytest.mark.slow  # the rate is known when the oldest entry has waited for ten seconds
def test_100000_waiting_when_is_it_done(queue, tmp_path, start_daemon, operator):
    """Five hundred of them here."""
    commit(queue, 500)
    start_daemon(queue, handler=handler(tmp_path, "sleep 0.05"))
    assert block("100,000 waiting: when is it done?")[0] == "watcher status QUEUE"
    assert re.search(r"done in [0-9ms]+ at this rate", operator.tells_soon("at this rate"))


def test_an_auditor_asks_for_a_month(queue, start_daemon, operator):
    daemon = start_daemon(queue, handler=["/bin/true"])
    commit(queue, 3)
    daemon.wait_for("finish", 3)
    daemon.end()
    (line,) = block("An auditor asks for a month")
    line = line.replace("QUEUE", str(queue))
    today = re.sub("--since .* --by", "--since 1d --by", line)
    assert re.search(r"\b3\b", operator.type(today))
    assert "accounted for since 2026-10-01" in operator.type(line)
