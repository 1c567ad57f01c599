"""`list --summary`: each entry once, by state, kind of reason and age; bounded memory."""

from __future__ import annotations

import json
import os
import time

import pytest

import watcher
from tests.command_server import run_command
from watcher.cli.summary_lines import MOST_ROWS, summary_lines
from watcher.inspect import summary as module
from watcher.inspect.list_entries import EntryInfo
from watcher.inspect.summary import AGES, OTHERS, Summary
from watcher.rules.lifecycle import State

NOW = 1_800_000_000.0


@pytest.fixture
def run(watcher_command, environment):
    def running(*arguments):
        argv = [*watcher_command, *map(str, arguments)]
        ended = run_command(argv, env=environment, text=True, timeout=30)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    return running


def dead(queue, number, why, hours):
    place = queue / ".watcher" / "dead"
    place.mkdir(parents=True, mode=0o700, exist_ok=True)
    (place / f"n{number}.pck").write_bytes(b"x")
    committed = time.time_ns() - int(hours * 3600e9)
    note = {"why": why, "committed_ns": committed, "files": [f"n{number}.pck"]}
    (place / f"n{number}.json").write_text(json.dumps(note))


def test_reasons_of_one_kind_are_one_row_with_a_column_for_each_age(queue, run):
    for number in range(10):
        dead(queue, number, f"exit status 75: connect to 10.0.0.{number}: refused", number)
    dead(queue, 10, "exit status 65: KeyError", 24 * 30)
    watcher.enqueue(queue, b"m")
    told = run("list", queue, "--summary").splitlines()
    assert told[0].startswith("ready: 1 entry, the oldest for")
    assert told[2].split(maxsplit=8)[8] == "waits for a worker"
    assert told[3:5] == ["", "dead: 11 entries, the oldest for 30d"]
    assert told[5].split() == ["TOTAL", *AGES, "REASON"]
    assert told[6].split() == ["11", "1", "-", "-", "5", "4", "-", "1", "(all)"]
    assert told[7].split(maxsplit=8) == [
        *("10", "1", "-", "-", "5", "4", "-", "-"),
        "exit status 75: connect to *: refused",
    ]
    assert told[8].split(maxsplit=8)[8] == "exit status 65: KeyError"
    only = run("list", queue, "--summary", "--error", "KeyError", "--json")
    assert json.loads(only)["states"]["dead"]["reasons"] == [
        {"reason": "exit status 65: KeyError", "total": 1, "ages": [0] * 6 + [1]}
    ]


def test_an_empty_queue_has_no_table(queue, run):
    assert run("list", queue, "--summary") == ""
    assert json.loads(run("list", queue, "--summary", "--json"))["states"] == {}


def entry(why, age=5.0, state=State.DEAD):
    return EntryInfo(state, b"x", (b"x.pck",), 1, age, why)


def test_no_entry_is_counted_twice_or_not_at_all_however_many_reasons(monkeypatch):
    monkeypatch.setattr(module, "MOST", 3)
    summary = Summary()
    words = [a + b for a in "abcdefghijklm" for b in "nopqrstuvwxyz"]
    for word in words:
        summary.add(entry(f"{word} failed"), NOW)
    ((_, _, rows),) = summary.states()
    assert len(rows) == 4
    assert rows[0].reason == OTHERS
    assert sum(row.total for row in rows) == len(words)


@pytest.mark.parametrize(
    ("age", "place"), [(0, 0), (59.9, 0), (60, 1), (600, 2), (3600, 3), (86400, 5), (1e9, 6)]
)
def test_each_age_has_one_column(age, place):
    summary = Summary()
    summary.add(entry("no", age), NOW)
    ((_, oldest, (row,)),) = summary.states()
    assert (oldest, row.ages.index(1)) == (age, place)


@pytest.mark.parametrize("width", [80, 100])
def test_it_fits_the_terminal_and_sums_up_what_is_not_shown(width):
    summary = Summary()
    for number in range(MOST_ROWS + 5):
        for _ in range(1_000 if number < 1 else 1):
            summary.add(entry(f"{chr(97 + number)} failed\x1b[2J " + "very " * 30), NOW)
    lines = list(summary_lines(summary, width))
    assert max(map(len, lines)) <= width
    assert all(line.isprintable() for line in lines)
    assert "(5 more kinds" in lines[-1]
    assert lines[-1].split()[0] == "5"


def test_the_age_is_since_the_commit_and_not_since_the_last_attempt(queue, run):
    dead(queue, 1, "no", 50)
    found = json.loads(run("list", queue, "--summary", "--json"))["states"]["dead"]
    assert found["reasons"][0]["ages"].index(1) == AGES.index("<7d")
    assert 49 * 3600 < found["oldest"] < 51 * 3600


def test_a_note_that_is_hostile_counts_as_any_other(queue, run):
    dead(queue, 1, ["\x1b[2J"] * 9, 0)
    place = queue / ".watcher" / "dead"
    (place / "n1.json").write_text('{"why": {"a": "\\u001b[2J"}, "committed_ns": "x"}')
    os.symlink("/etc/passwd", place / "n2.json")
    (place / "n2.pck").write_bytes(b"x")
    told = run("list", queue, "--summary")
    assert "dead: 2 entries" in told
    assert "\x1b" not in told
