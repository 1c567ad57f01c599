"""`status`: one screen, one object, one line for monitoring systems; with and without a daemon."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

import pytest

from tests.command_server import run_command
from watcher.inspect import failure_reasons, state_counts
from watcher.rules.lifecycle import State
from watcher.rules.names import Layout
from watcher.rules.stamp import Schedule, stamped
from watcher.spool.spool import Spool


@pytest.fixture
def status(watcher_command, environment):
    """Run `watcher status`; return its exit status, its output, its error."""

    def run(*arguments):
        argv = [*watcher_command, "status", *map(str, arguments)]
        ended = run_command(argv, env=environment, capture_output=True, text=True, timeout=60)
        assert "Traceback" not in ended.stderr
        return ended.returncode, ended.stdout, ended.stderr

    return run


@pytest.fixture
def record(status):
    """Run `watcher status --json`; return the object."""

    def run(*arguments):
        code, out, err = status(*arguments, "--json")
        assert code == 0, err
        return json.loads(out)

    return run


def put(queue, place, name, why=""):
    """Put an entry into a state's directory, with its note."""
    directory = queue / ".watcher" / place
    directory.mkdir(parents=True, exist_ok=True)
    (directory / name).write_text("x")
    if why:
        (directory / f"{name.removesuffix('.pck')}.json").write_text(json.dumps({"why": why}))


def deferred_name(stem, due, waited=0.0, delay=60.0):
    """Return the name of a deferred entry; `due`: seconds from now."""
    due_ms = int((time.time() + due) * 1000)
    return os.fsdecode(stamped(Schedule(due_ms, 1, 0, delay, waited), stem.encode(), b".pck"))


def test_entries_of_every_state_are_counted_on_the_disk(queue, record):
    for number in range(3):
        (queue / f"r{number}.pck").write_text("x")
    (queue / "w.pck.tmp").write_text("x")
    put(
        queue,
        "deferred",
        deferred_name("a", -5, waited=300.0),
        "exit status 75: refused by 1.2.3.4",
    )
    put(queue, "deferred", deferred_name("b", 30), "exit status 75: refused by 1.2.3.5")
    put(queue, "dead", "c.pck", "exit status 65: KeyError: 'x'")
    put(queue, "held", "d.pck")
    put(queue, "orphans", "e.db")
    found = record(queue)
    assert {state: each["count"] for state, each in found["states"].items()} == {
        "arriving": 1,
        "ready": 3,
        "claimed": 0,
        "deferred": 2,
        "held": 1,
        "dead": 1,
        "orphan": 1,
    }
    deferred = found["states"]["deferred"]
    assert deferred["due"] == 1
    assert 0 < deferred["next_due"] <= 30
    assert 360 <= deferred["oldest"] < 500  # since its first failure, and not since its last
    assert [each["entry"] for each in deferred["first"]] == ["a", "b"]
    assert [(each["reason"], each["total"]) for each in found["failures"]["kinds"]] == [
        ("exit status 75: refused by *", 2),
        ("exit status 65: KeyError: *", 1),
    ]


def test_the_oldest_entries_of_a_state_have_their_names(queue, monkeypatch):
    spool = Spool(os.fsencode(queue), Layout())
    monkeypatch.setattr(state_counts, "_MANY", 2)  # the oldest are of several batches
    for number in range(6, -1, -1):
        (queue / f"r{number}.pck").write_text("x")
        put(queue, "deferred", deferred_name(f"d{number}", 30, waited=100.0 * number))
    put(queue, "deferred", deferred_name("b\nd", 30, waited=9_000.0))
    changed = {f"r{number}.pck": 1e9 + number for number in range(7)}  # a ctime cannot be set
    monkeypatch.setattr(state_counts, "_changed", lambda item: changed.get(item.name))
    found = state_counts.state_counts(spool)
    assert [each.entry for each in found[State.READY].first] == ["r0", "r1", "r2", "r3", "r4"]
    deferred = found[State.DEFERRED].first
    assert [each.entry for each in deferred] == ["b\\nd", "d6", "d5", "d4", "d3"]
    assert 9_000 < deferred[0].age < 9_100
    assert found[State.HELD].first == []


def test_a_screen_fits_80_columns_and_names_the_next_command(queue, status):
    (queue / "r.pck").write_text("x")
    put(queue, "dead", "c.pck", "no\x1b[31m such thing: " + "very long " * 50)
    code, out, _ = status(queue)
    assert code == 0
    assert "\x1b" not in out
    assert f"next: watcher run {queue}" in out
    assert f"next: watcher list {queue} --state dead" in out
    assert "no daemon runs, and 1 entry waits" in out
    long = [line for line in out.splitlines() if len(line) > 80]
    assert [line for line in long if "next: " not in line and str(queue) not in line] == []


def test_nothing_is_made_in_the_queue(queue, status):
    status(queue)
    assert list(queue.iterdir()) == []


def test_the_line_for_monitoring_systems(queue, status):
    code, out, _ = status(queue, "--check")
    assert code == 0
    text, _, data = out.partition(" | ")
    assert text == "WATCHER OK - healthy, 0 entries ready"
    assert data.split()[:2] == ["ready=0;;;0", "oldest=0s;600;3600;0"]
    assert data.split()[-2:] == ["dead=0;1;100;0", "daemons=0;;;0"]
    (queue / "r.pck").write_text("x")
    code, out, _ = status(queue, "--check")
    assert code == 1
    assert out.startswith("WATCHER WARNING - no daemon runs, and 1 entry waits")
    put(queue, "dead", "c.pck", "a | b")
    code, out, _ = status(queue, "--check", "--crit-dead", "1", "--crit-age", "90m")
    assert code == 2
    assert out.startswith("WATCHER CRITICAL - 1 entry is dead, ")
    assert "dead=1;1;1;0" in out
    assert re.search(r" oldest=\d+s;600;5400;0 ", out)
    assert out.count("\n") == out.count("|") == 1
    code, out, _ = status(queue / "none", "--check")
    assert code == 3
    assert out.startswith("WATCHER UNKNOWN - ")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--warn-age", "soon"), "--warn-age: expected a duration"),
        (("--warn-failing", "101"), "--warn-failing: expected a number from 0 to 100"),
        (("--warn-dead", "5", "--crit-dead", "4"), "--warn-dead: expected at most"),
        (("--check", "--json"), "--check goes with neither"),
        (("--watch", "0"), "--watch: expected a number of seconds"),
        (("--watch",), "standard output is no terminal"),
    ],
)
def test_wrong_options_are_one_line_and_64(queue, status, options, words):
    code, out, err = status(*options, queue)  # which is no number of seconds
    assert (code, out) == (64, "")
    assert words in err
    assert err.count("\n") == 1


def test_every_queue_of_a_configuration_has_a_block_and_a_label(tmp_path, status):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    (tmp_path / "two" / "r.pck").write_text("x")
    config = tmp_path / "w.toml"
    config.write_text(
        "".join(
            f"[queues.{name}]\npath = '{tmp_path / name}'\nhandler = {{ exec = ['true'] }}\n"
            for name in ("one", "two", "gone")
        )
    )
    code, out, err = status("--config", config)
    assert [line.partition(" ")[0] for line in out.splitlines() if line[:1] > " "] == ["one", "two"]
    assert "gone" in err
    assert code == 66
    lines = status("--config", config, "--json")[1].splitlines()
    assert [json.loads(line)["queue"] for line in lines] == ["one", "two"]
    code, out, _ = status("--config", config, "--check")
    assert code == 3
    assert "two: no daemon runs" in out
    assert "'one ready'=0;;;0" in out
    assert "'two ready'=1;;;0" in out


def test_hostile_names_and_notes_are_shown_safely(queue, status, record):
    (queue / "\x1b[31mred.pck").write_text("x")
    put(queue, "dead", "loop.pck")
    os.symlink("loop.json", queue / ".watcher" / "dead" / "loop.json")
    put(queue, "dead", "b.pck", "[" * 100_000)
    (queue / ".watcher" / "dead" / "b.json").write_text("[" * 100_000)
    (queue / ".watcher" / "deferred").mkdir()
    (queue / ".watcher" / "deferred" / "99999999T999999.999Z-a1-c0-d1-w1-x.pck").write_text("x")
    found = record(queue)
    assert found["states"]["deferred"]["count"] == 1
    assert [each["reason"] for each in found["failures"]["kinds"]] == ["no note says why"] * 2
    assert "\x1b" not in status(queue)[1]


def test_what_takes_too_long_is_said_to_be_a_part(queue, monkeypatch):
    for number in range(8):
        (queue / f"r{number}.pck").write_text("x")
        put(queue, "dead", f"d{number}.pck", "no")
    spool = Spool(os.fsencode(queue), Layout())
    monkeypatch.setattr(state_counts, "_MANY", 4)
    monkeypatch.setattr(state_counts, "LONGEST_AGES", 0.0)
    ready = state_counts.state_counts(spool)[State.READY]
    assert (ready.count, ready.whole, ready.all_ages) == (8, True, False)
    assert ready.oldest is not None
    monkeypatch.setattr(state_counts, "LONGEST", 0.0)
    ready = state_counts.state_counts(spool)[State.READY]
    assert (ready.whole, ready.all_ages) == (False, False)
    assert 0 < ready.count < 8
    monkeypatch.setattr(failure_reasons, "LONGEST", 0.0)
    assert not failure_reasons.failure_reasons(spool).whole


class Terminal:
    """A command on a terminal of its own, and what it shows."""

    def __init__(self, argv, environment):
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 100, 0, 0))
        self.process = subprocess.Popen(
            argv, env={**environment, "TERM": "xterm"}, stdin=slave, stdout=slave, stderr=slave
        )
        os.close(slave)
        self.shown = ""

    def wait_for(self, pattern, timeout=30.0):
        """Wait until the terminal shows a pattern after what was waited for before."""
        deadline = time.monotonic() + timeout
        while (found := re.search(pattern, self.shown)) is None:
            ready, _, _ = select.select([self._master], [], [], deadline - time.monotonic())
            assert ready, self.shown
            self.shown += os.read(self._master, 65536).decode()
        self.shown = self.shown[found.end() :]

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._master)


@pytest.fixture
def terminal(watcher_command, environment):
    opened = []

    def start(*arguments, **variables):
        argv = [*watcher_command, "status", *map(str, arguments)]
        opened.append(Terminal(argv, environment | variables))
        return opened[-1]

    yield start
    for each in opened:
        each.close()


def test_on_a_terminal_it_is_shown_again_until_it_is_interrupted(queue, terminal):
    pytest.importorskip("rich")
    shown = terminal(queue, "--watch", "0.2")
    shown.wait_for(r"ready +0")
    (queue / "r.pck").write_text("x")
    shown.wait_for(r"no daemon runs, and 1 entry waits")
    shown.process.send_signal(signal.SIGINT)
    shown.wait_for(r"\x1b\[\?1049l")  # the screen of before
    assert shown.process.wait(30) == 0


def test_objects_are_printed_again_without_a_terminal(queue, watcher_command, environment):
    argv = [*watcher_command, "status", str(queue), "--json", "--watch", "0.1"]
    with subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE) as process:
        first, second = (json.loads(process.stdout.readline()) for _ in range(2))
        process.send_signal(signal.SIGINT)
        process.stdout.read()
    assert first["at"] < second["at"]
    assert process.returncode == 0


def test_without_rich_a_line_says_what_to_install(queue, tmp_path, terminal):
    (tmp_path / "rich.py").write_text("raise ImportError('no rich here')")
    shown = terminal(queue, "--watch", PYTHONPATH=str(tmp_path))
    shown.wait_for(r"watcher: --watch needs the package rich: pip install 'spool-watcher\[rich\]'")
    assert shown.process.wait(30) == os.EX_UNAVAILABLE


def test_colours_are_for_a_terminal_alone(queue, status, terminal):
    assert "\x1b" not in status(queue)[1]
    terminal(queue).wait_for("\x1b\\[32m\x1b\\[1mhealthy")
