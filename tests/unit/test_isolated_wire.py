"""What passes between the daemon and a worker process: there and back, and hostile packets."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given, strategies as st

from watcher.durations import LONGEST
from watcher.entry import Entry, Part
from watcher.handle import isolated_wire as wire
from watcher.handle.outcome import Outcome, Verdict

names = st.binary(min_size=1, max_size=40).filter(lambda name: not {0, 0x2F} & set(name))
numbers = st.integers(0, 2**63)
parts = st.builds(
    Part, names, st.just(-1), numbers, numbers, numbers, numbers, own=names, directory=numbers
)
low = st.integers(0xDC80, 0xDCFF).map(chr)  # what os.fsdecode makes of bytes that are no UTF-8
texts = st.lists(st.characters(exclude_categories=["Cs"]) | low, max_size=50).map("".join)


@given(
    st.builds(
        Entry,
        queue=texts,
        name=names,
        directory=st.just(b"/spool/\xff"),
        parts=st.lists(parts, min_size=1, max_size=2).map(tuple),
        kind=st.sampled_from(["pck", "pair", "pck+db", "raw"]),
        attempt=numbers,
        crashes=numbers,
        limit=numbers,
    ),
    st.none() | st.floats(1, 1e6),
)
def test_an_entry_arrives_as_it_is_with_the_descriptors_that_came_along(entry, cpu):
    packet = wire.errand(entry, cpu)
    arrived, its_cpu = wire.entry_of(packet, range(7, 7 + len(entry.parts)))
    assert its_cpu == cpu
    expected = tuple(  # a descriptor that did not come along is nothing there
        part._replace(fd=7 + place, directory=-1) for place, part in enumerate(entry.parts)
    )
    assert arrived.parts == expected
    for fact in ("queue", "name", "path", "kind", "attempt", "crashes", "limit"):
        assert getattr(arrived, fact) == getattr(entry, fact)


outcomes = st.builds(
    Outcome, st.sampled_from(Verdict), texts, st.none() | st.floats(0, LONGEST), texts
)


@given(st.builds(wire.Answer, outcomes, st.none() | texts, st.booleans()))
def test_an_outcome_arrives_as_it_is(told):
    assert wire.answer_of(wire.answer(told)) == told


def test_what_is_long_is_cut_before_it_is_sent_and_again_when_it_is_read():
    wide = "\U0001f600" * 10**6
    told = wire.Answer(Outcome(Verdict.REJECT, wide, None, wide), wide)
    packet = wire.answer(told)
    assert len(packet) < 200 << 10  # what a socket takes as one packet
    outcome, damage, _last = wire.answer_of(packet)
    assert {len(outcome.reason), len(outcome.stderr), len(damage)} == {wire.LONGEST_TEXT}
    hostile = json.dumps({"verdict": "retry", "reason": wide, "stderr": wide, "damage": wide})
    outcome, damage, _last = wire.answer_of(hostile.encode())
    assert {len(outcome.reason), len(outcome.stderr), len(damage)} == {wire.LONGEST_TEXT}


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["retry", "done", ""]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)
records = st.dictionaries(
    st.sampled_from(["verdict", "reason", "after", "stderr", "damage", "last", "broken"]), values
)


@given(
    st.binary()
    | values.map(lambda value: json.dumps(value).encode())
    | records.map(lambda record: json.dumps(record).encode())
)
@example(b"[" * 100_000)
@example(b"9" * 10_000)
@example(b'{"verdict": []}')
def test_a_packet_that_makes_no_sense_is_a_value_error_and_no_other(packet):
    try:
        outcome, damage, last = wire.answer_of(packet)
    except ValueError:
        return
    assert isinstance(outcome.verdict, Verdict)
    assert outcome.after is None or 0 <= outcome.after <= LONGEST
    assert isinstance(outcome.reason, str)
    assert isinstance(outcome.stderr, str)
    assert damage is None or isinstance(damage, str)
    assert isinstance(last, bool)


@pytest.mark.parametrize("why", [None, "", "handler 'x': no", "x" * 10**6])
def test_the_greeting_says_whether_the_worker_is_ready(why):
    assert wire.broken(wire.ready(why)) == (None if why is None else why[: wire.LONGEST_TEXT])
