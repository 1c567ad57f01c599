"""The table in docs/spool-format.md, row by row: build it, sweep, compare."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import pytest

from watcher.rules.age import Ages, SystemClock
from watcher.rules.names import Layout
from watcher.rules.results import HANDLED
from watcher.rules.retry import Policy
from watcher.spool.claimed import ClaimOptions
from watcher.spool.ledger import SLOT
from watcher.sweep import Limits, Sweep, SweepOptions

PAGE = Path(__file__).parents[2] / "docs/spool-format.md"
DUE = "20200101T000000.000Z-a1-c0-d1-w1-"
LATER = "21000101T000000.000Z-a1-c0-d9999999999-w1-"
LINE = b"1763895193.250113 1 claimed finish 7 Y.pck\n"
ONE_PICKLE = pickle.dumps("Subject: one\n\nmessage\n", 2)
WHOLE = pickle.dumps(b"message", 2) + pickle.dumps({}, 2)


def rows(heading="## Every combination"):
    table = PAGE.read_text().partition(heading)[2].partition("\n## ")[0]
    for line in table.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `"):
            yield pytest.param(names_in(cells[0]), names_in(cells[3]), id=cells[0].replace("`", ""))


def names_in(cell):
    return [name for name in cell.split("`") if name.strip()]


def real(name):
    """Return the path that a name of the table stands for."""
    name = name.removesuffix("(1)")
    place, slash, file = name.rpartition("/")
    file = file.replace("S-X", f"{DUE}X").replace("T-X", f"{LATER}X")
    return (f".watcher/{place}/" if slash else "") + file


def build(queue, names):
    for name in names:
        one, equals, other = name.partition(" = ")
        path = queue / real(one)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.write_bytes(contents(queue, one, names))
        after_last(path)
        if equals:
            (queue / real(other)).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.link(path, queue / real(other))


def after_last(path):
    """Make the next file younger than this one, whatever the grain of the clock."""
    if path.suffix in {".csv", ".done"}:
        before, scratch = path.stat().st_mtime_ns, path.parent / ".scratch"
        while before == before_now(scratch):
            pass
        scratch.unlink()


def before_now(scratch):
    scratch.write_bytes(b"x")
    return scratch.stat().st_mtime_ns


def contents(queue, name, names):
    if name.endswith(".ledger"):
        there = [other for other in names if other.endswith(("X.pck", "X.csv"))][
            ::-1
        ]  # rather what is aside
        if not there:
            return b"1 1 queue/X.pck\n".ljust(SLOT, b"\0")
        path = queue / real(there[0])
        place = "deferred" if path.parent.name == "deferred" else "queue"
        status = path.stat()
        line = f"{status.st_ino} {status.st_ctime_ns} {place}/{path.name}\n"
        return line.encode().ljust(SLOT, b"\0")
    if name.endswith(".journal"):
        return b"%08d%b" % (8 + len(LINE), LINE)
    if name.endswith(".json"):
        stem = name.rpartition("/")[2].removesuffix(".json")
        return json.dumps({"files": [f"{stem}.msg", f"{stem}.db"], "why": "a test"}).encode()
    if name.endswith("(1)"):
        return ONE_PICKLE
    if name.endswith(".db"):
        return b"{0"  # an empty dictionary, as Python 1.5's marshal wrote it
    return b"message" if name.endswith(".msg") else WHOLE


def on_disk(queue):
    files = (path for path in queue.rglob("*") if path.is_file())
    return sorted(str(path.relative_to(queue)) for path in files)


def messages(queue):
    """Count the files of messages, however many names each has."""
    paths = (path for path in queue.rglob("*") if path.suffix in {".pck", ".msg", ".csv"})
    return len({path.stat().st_ino for path in paths})


class Handler:
    """Calls everything done, and keeps what it got."""

    def __init__(self):
        self.got = []

    def run(self, entry):
        self.got.append((entry.message, entry.metadata))
        return HANDLED

    def terminate(self):
        raise AssertionError


@pytest.mark.parametrize(("before", "then"), list(rows()))
def test_a_sweep_takes_the_next_step(queue, open_spool, before, then):
    assert_next_step(queue, lambda: open_spool(Layout(legacy=True)), before, then)


@pytest.mark.parametrize(("before", "then"), list(rows("## A queue with markers")))
def test_a_sweep_takes_the_next_step_with_markers(queue, open_spool, before, then):
    layout = Layout(b".csv", raw=True, marker=b"{name}.done")
    assert_next_step(queue, lambda: open_spool(layout), before, then)


def assert_next_step(queue, opened, before, then):
    build(queue, before)
    there, handler = messages(queue), Handler()
    clock = SystemClock()
    orders = SweepOptions("q", ClaimOptions(0.0, Ages(clock)), Policy())
    for _ in range(3):  # the later ones find nothing left to do, or what the first made whole
        spool = opened()
        for _line in Sweep(spool, orders, handler, Limits()).lines(lambda _record: None):
            pass
        del spool
    found = [name for name in on_disk(queue) if "/journal" not in name]
    assert found == sorted(real(name) for name in then)
    assert len(handler.got) == there - messages(queue), "each was handled or is still there"
    if any(name.endswith(".journal") for name in before):
        assert LINE in (queue / ".watcher/journal").read_bytes()


def test_the_table_is_there():
    assert len(list(rows())) > 30
    assert len(list(rows("## A queue with markers"))) > 10
