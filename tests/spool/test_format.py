"""The table in docs/spool-format.md, row by row: build it, sweep, compare."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import pytest

from watcher.age import Ages, SystemClock
from watcher.claim.ledger import SLOT
from watcher.claim.take import Terms
from watcher.handle.outcome import DONE
from watcher.settle.policy import Policy
from watcher.spool.layout import Layout
from watcher.sweep import Limits, Orders, Sweep

PAGE = Path(__file__).parents[2] / "docs/spool-format.md"
DUE = "20200101T000000.000Z-a1-c0-d1-w1-"
LATER = "21000101T000000.000Z-a1-c0-d9999999999-w1-"
ONE_PICKLE = pickle.dumps("Subject: one\n\nmessage\n", 2)
WHOLE = pickle.dumps(b"message", 2) + pickle.dumps({}, 2)


def rows():
    table = PAGE.read_text().partition("## Every combination")[2]
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
        if equals:
            (queue / real(other)).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.link(path, queue / real(other))


def contents(queue, name, names):
    if name.endswith(".ledger"):
        there = [queue / real(other) for other in names if other == "X.pck"]
        status = there[0].stat() if there else None
        slot = b"%d %d queue/X.pck\n" % (
            (status.st_ino, status.st_ctime_ns) if status is not None else (1, 1)
        )
        return slot.ljust(SLOT, b"\0")
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


class Handler:
    """Calls everything done, and keeps what it got."""

    def __init__(self):
        self.got = []

    def run(self, entry):
        self.got.append((entry.message, entry.metadata))
        return DONE

    def abandon(self):
        raise AssertionError


@pytest.mark.parametrize(("before", "then"), list(rows()))
def test_a_sweep_takes_the_next_step(queue, open_spool, before, then):
    build(queue, before)
    handler = Handler()
    clock = SystemClock()
    orders = Orders("q", Terms(0.0, Ages(clock)), Policy())
    for _ in range(2):  # the second finds nothing left to do, or what the first made whole
        spool = open_spool(Layout(legacy=True))
        for _line in Sweep(spool, orders, handler, Limits()).lines(lambda _record: None):
            pass
        del spool
    found = [name for name in on_disk(queue) if "/journal" not in name]
    assert found == sorted(real(name) for name in then)
    messages = [name for name in before if name.endswith((".pck", ".msg", "(1)", ".dead/X.pck"))]
    kept = [name for name in then if name.endswith((".pck", ".msg", "(1)"))]
    assert len(handler.got) == len(messages) - len(kept), "each was handled or is still there"


def test_the_table_is_there():
    assert len(list(rows())) > 30
