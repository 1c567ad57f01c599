"""A backlog: read by the moments in its names, in large bites, given out in the order of commit."""

from __future__ import annotations

import os
import random

import pytest
from hypothesis import given, strategies as st

from watcher.arrive.scan import (
    START,
    ScanPosition,
    name_in,
    packed,
    scan,
    unpacked,
)
from watcher.arrive.sources import Sources
from watcher.config.queue_settings import Queue
from watcher.daemon import detector
from watcher.daemon.detector import Detector
from watcher.observe.health import Health
from watcher.recovery import Recovered
from watcher.rules.age import SystemClock
from watcher.rules.evidence import Proof

marks = st.builds(ScanPosition, st.integers(-(1 << 63), (1 << 63) - 1), st.binary(max_size=20))


@given(marks, marks)
def test_a_packed_mark_sorts_as_the_mark_and_comes_back(one, other):
    assert (packed(*one) < packed(*other)) == (one < other)
    assert unpacked(packed(*one)) == one
    assert name_in(packed(*one)) == one.name


@given(st.integers(), st.integers())
def test_a_moment_beyond_all_clocks_is_the_first_or_the_last(one, other):
    if one <= other:
        assert packed(one, b"x") <= packed(other, b"x")


def is_unique_name(moment: float, number: int) -> bytes:
    return b"%.7f+%040x.pck" % (moment, number)


@pytest.fixture
def backlog(put):
    """Commit entries in another order than their names tell; return the names by those."""
    moments = [1_700_000_000 + number * 7.25 for number in range(300)]
    named = [is_unique_name(moment, number) for number, moment in enumerate(moments)]
    for name in random.Random(1).sample(named, len(named)):
        put(name)
    return named


@pytest.mark.parametrize("limit", [7, 64, 299, 300, 1000])
def test_names_that_tell_their_moment_come_in_its_order(open_spool, backlog, limit):
    spool, mark, found = open_spool(), START, []
    while True:
        batch = scan(spool, mark, limit=limit, by_name=True)
        assert len(batch.packed) <= limit
        found += batch.packed
        if not batch.more:
            break
        mark = unpacked(batch.packed[-1])
    assert [name_in(each) for each in found] == backlog


def test_other_names_come_by_their_ctime_among_them(open_spool, put, backlog):
    odd = [b"plain.pck", b"a+b.pck", b"nan+x.pck", b"inf+x.pck", b"1e999+x.pck", b"\xff+.pck"]
    for name in odd:
        put(name)
    for name in (b".1.0+x.pck", b"1.0+x.pck.tmp", b"1.0+x.bak"):
        put(name)
    batch = scan(open_spool(), by_name=True)
    found = [name_in(each) for each in batch.packed]
    assert sorted(found) == sorted(backlog + odd)
    assert found[: len(backlog)] == backlog, "their names tell of years ago"
    assert {item.name for item in batch.bystanders} == {
        b".1.0+x.pck",
        b"1.0+x.pck.tmp",
        b"1.0+x.bak",
    }


def test_nothing_is_looked_at_but_what_is_no_file(open_spool, put, backlog, queue, monkeypatch):
    (queue / "1.0+link.pck").symlink_to("nowhere")
    (queue / "2.0+directory.pck").mkdir()
    looked = []
    real = os.stat
    monkeypatch.setattr(os, "stat", lambda *a, **k: looked.append(a) or real(*a, **k))
    batch = scan(open_spool(), by_name=True)
    assert [name_in(each) for each in batch.packed] == backlog
    assert {item.name for item in batch.bystanders} == {b"1.0+link.pck", b"2.0+directory.pck"}
    assert not [where for where, *_ in looked if isinstance(where, bytes) and b"+" in where]


class NoSource(Sources):
    """A source that never fires."""

    def arm(self, _tag, _spool, _wanted, **_renames):
        return "nothing"


def test_a_backlog_beyond_all_bounds_is_given_out_once_each_in_order(
    queue, put, backlog, monkeypatch
):
    monkeypatch.setattr(detector, "FIRST", 8)
    monkeypatch.setattr(detector, "MANY", 100)
    monkeypatch.setattr(detector.log, "event", lambda *_arguments: None)
    settings = Queue(name="q", path=str(queue))
    noticed = Detector(1, settings, NoSource(), SystemClock(), Health("q"), lambda _: Recovered())
    noticed.pending.limit = 32
    given_out, most = [], 0
    fresh_entry = is_unique_name(1_800_000_000, 999)
    for _ in range(1000):
        noticed.tick()
        most = max(most, len(noticed.pending))
        while len(noticed.pending):
            name, proof, _time = noticed.pending.pop()
            assert proof is Proof.NO_WRITER
            given_out.append(name)
            os.unlink(os.path.join(os.fsencode(queue), name))
            noticed.pending.finish(name)
            if len(given_out) == 150:
                put(fresh_entry)  # its event is dropped in a storm
                noticed.pending.fall_behind()
                noticed.pending.add((fresh_entry,), Proof.RENAMED)
    assert given_out == [*backlog, fresh_entry]
    assert most <= 32
    assert not noticed._left
