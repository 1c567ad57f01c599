"""`list` on a terminal: a table that fits; in a pipe: whole lines, as programs read them."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import termios
import unicodedata

import pytest

import watcher
from tests.command_server import run_command
from watcher.cli.entry_lines import Table, short_age, short_size, shortened, summed, whole_line
from watcher.inspect.list_entries import EntryInfo
from watcher.rules.lifecycle import State

LONG = "1795741526.5912345+" + "c0ffee" * 7


@pytest.fixture
def run(watcher_command, environment):
    def running(*arguments, status=0):
        argv = [*watcher_command, *map(str, arguments)]
        ended = run_command(argv, env=environment, text=True, timeout=30)
        assert ended.returncode == status, (ended.stdout, ended.stderr)
        return ended.stdout if not status else ended.stderr

    return running


@pytest.fixture
def on_terminal(watcher_command, environment):
    """Run a command with a terminal of `columns` as its standard output; return its lines."""

    def running(*arguments, columns=80):
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        without = {key: value for key, value in environment.items() if key != "COLUMNS"}
        with subprocess.Popen(
            [*watcher_command, *map(str, arguments)],
            env=without,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        ) as process:
            os.close(theirs)
            told = b""
            while True:
                try:
                    told += (some := os.read(ours, 65536))
                except OSError:  # EIO: the last writer has closed the terminal
                    break
                if not some:
                    break
            assert process.wait(30) == 0
        os.close(ours)
        return told.decode().replace("\r\n", "\n").splitlines()

    return running


def put_dead(queue, name, why):
    place = queue / ".watcher" / "dead"
    place.mkdir(parents=True, mode=0o700, exist_ok=True)
    (place / f"{name}.pck").write_bytes(b"x")
    (place / f"{name}.json").write_text(json.dumps({"why": why, "files": [f"{name}.pck"]}))


def test_on_a_terminal_it_is_a_table_that_fits_with_the_states_in_order(queue, run, on_terminal):
    put_dead(queue, LONG, "exit status 65: KeyError: 'a key that is not in the table' " * 3)
    ready = watcher.enqueue(queue, b"m" * 5000)
    for columns in (80, 132):
        heading, first, second, total = on_terminal("list", queue, columns=columns)
        assert re.fullmatch(r"STATE +AGE +SIZE +ENTRY", heading)
        assert first.split()[0] == "ready"
        assert first.endswith(ready if columns > 80 else ready[-9:])
        assert second.split()[0] == "dead"
        assert "exit status 65" in second
        assert max(map(len, (first, second))) <= columns
        assert total == "2 entries: 1 ready, 1 dead"
    piped = run("list", queue)
    assert LONG in piped
    assert "STATE" not in piped
    assert "…" not in piped


def test_on_a_terminal_an_empty_queue_is_one_plain_line(queue, on_terminal):
    (queue / ".watcher").mkdir()
    assert on_terminal("list", queue) == ["no entries (for format=mailman, suffix=.pck)"]


def _entry(name, why="", files=1):
    names = tuple(b"%d" % number for number in range(files))
    return EntryInfo(State.DEAD, name, names, 123456, 90061.0, why)


@pytest.mark.parametrize("width", [60, 80, 81, 200])
@pytest.mark.parametrize("why", ["", "short", "long " * 60, "漢字" * 80, "\x1b[31mred\n" * 9])
@pytest.mark.parametrize("name", ["a", LONG, "漢" * 60, "\N{COMBINING ACUTE ACCENT}e" * 99, "x\n"])
def test_no_line_is_wider_than_the_terminal(width, why, name):
    line = Table(width).line(_entry(name.encode(), why, files=2))
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in line)
    marks = sum(unicodedata.combining(character) != 0 for character in line)
    assert len(line) + wide - marks <= width
    assert line.isprintable()
    assert "2 files" in line or width == 60


def test_a_name_that_is_too_long_loses_its_middle():
    assert shortened("abcdefghij", 10) == "abcdefghij"
    assert shortened("a" * 20 + "z" * 20 + ".csv", 17) == "a" * 12 + "….csv"
    assert whole_line(_entry(LONG.encode())).endswith(LONG)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1.0K"),
        (10_240, "10K"),
        (1 << 20, "1.0M"),
        (1 << 60, "1024P"),
    ],
)
def test_a_size_has_at_most_five_characters(size, text):
    assert short_size(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((0.0, "0ms"), (0.25, "250ms"), (59.9, "59s"), (61, "1m1s"), (3601, "1h")),
        *((7265, "2h1m"), (86403, "1d"), (3 * 86400 + 7201, "3d2h"), (864_001, "10d")),
    ],
)
def test_an_age_has_units_that_follow_each_other(seconds, text):
    assert short_age(seconds) == text


def test_the_last_line_counts():
    assert summed({State.DEAD: 1}) == "1 entry"
    assert summed({State.DONE: 2, State.READY: 1}) == "3 entries: 1 ready, 2 archived"


def test_a_retry_in_hand_is_claimed_by_which_process(queue, run, on_terminal):
    place = queue / ".watcher" / "deferred"
    place.mkdir(parents=True, mode=0o700)
    file = place / "20990101T000000.000Z-a1-c0-d30-w0-x.pck"
    file.write_bytes(b"x")
    with open(file, "rb") as claim:
        fcntl.flock(claim, fcntl.LOCK_EX)
        for told in (run("list", queue), "\n".join(on_terminal("list", queue, columns=120))):
            assert re.search(rf"claimed .* x .*by process {os.getpid()}, a retry", told)


def test_archived_lists_what_was_handled_and_kept_and_makes_nothing(queue, run, tmp_path):
    archive = ("--archive", "done", "--archive-dated")
    assert "does not exist yet" in run(
        "list", queue, "--state", "archived", "--archive", "done", status=os.EX_NOINPUT
    )
    assert not (queue / "done").exists()
    name = watcher.enqueue(queue, b"m")
    run("sweep", queue, *archive, "--grace-age", "0s", "--", "true")
    (day,) = (queue / "done").iterdir()
    (queue / "done" / "link").symlink_to("/etc/passwd")
    (found,) = map(
        json.loads,
        run("list", queue, "--state", "archived", "--archive", "done", "--json").splitlines(),
    )
    assert (found["state"], found["entry"], found["why"]) == ("archived", name, f"in {day.name}/")
    configuration = tmp_path / "watcher.toml"
    configuration.write_text(
        f'[queues.q]\npath = "{queue}"\narchive = "done"\nhandler.exec = ["true"]\n'
    )
    assert name in run("list", "--config", configuration, "q", "--state", "archived")
    told = run("list", queue, "--state", "archived", status=os.EX_USAGE)
    assert "no archive is configured" in told


def test_it_keeps_no_more_than_a_terminal_needs_in_memory(queue, monkeypatch):
    """Above `MOST_SORTED` the lines come as they are found."""
    from watcher.cli import list as module

    monkeypatch.setattr(module, "MOST_SORTED", 2)
    asked = 0

    def many():
        nonlocal asked
        for number in range(9):
            asked += 1
            yield _entry(b"%d" % number)

    table = module._table(many())
    assert next(table).startswith("STATE")
    next(table)
    assert asked == 3
    assert list(table)[-1] == "9 entries"
