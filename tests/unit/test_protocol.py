"""The messages between the daemon and a worker process: sent and read, and hostile packets."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given, strategies as st

from watcher.durations import LONGEST
from watcher.handle.entry import Entry
from watcher.handle.isolated import protocol
from watcher.rules.form import Form
from watcher.rules.results import HandlerResult, Verdict
from watcher.spool.part import Part

names = st.binary(min_size=1, max_size=40).filter(lambda name: not {0, 0x2F} & set(name))
numbers = st.integers(0, 2**63)
parts = st.builds(
    Part, names, st.just(-1), numbers, numbers, numbers, numbers, unstamped=names, directory=numbers
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
        form=st.sampled_from(Form),
        attempt=numbers,
        crashes=numbers,
        limit=numbers,
    ),
    st.none() | st.floats(1, 1e6),
)
def test_an_entry_arrives_as_it_is_with_the_descriptors_that_came_along(entry, cpu):
    packet = protocol.request(entry, cpu)
    request = protocol.read(packet, protocol.Request)
    arrived = request.entry(range(7, 7 + len(entry.parts)))
    assert request.cpu == cpu
    expected = tuple(  # a descriptor that did not come along is nothing there
        part._replace(fd=7 + place, directory=None) for place, part in enumerate(entry.parts)
    )
    assert arrived.parts == expected
    for fact in ("queue", "name", "path", "form", "attempt", "crashes", "limit"):
        assert getattr(arrived, fact) == getattr(entry, fact)


outcomes = st.builds(
    HandlerResult, st.sampled_from(Verdict), texts, st.none() | st.floats(0, LONGEST), texts
)


@given(st.builds(protocol.Response, outcomes, st.none() | texts, st.booleans()))
def test_an_outcome_arrives_as_it_is(told):
    assert protocol.read_response(protocol.response(told)) == told


def lengths(reply):
    return {len(reply.result.reason), len(reply.result.stderr), len(reply.damage)}


def test_what_is_long_is_cut_before_it_is_sent_and_again_when_it_is_read():
    wide = "\U0001f600" * 10**6
    told = protocol.Response(HandlerResult(Verdict.REJECT, wide, None, wide), wide)
    packet = protocol.response(told)
    assert len(packet) < 200 << 10  # what a socket takes as one packet
    reply = protocol.read_response(packet)
    assert lengths(reply) == {protocol.LONGEST_TEXT}
    result = {"verdict": "retry", "reason": wide, "stderr": wide}
    hostile = json.dumps({"result": result, "damage": wide})
    reply = protocol.read_response(hostile.encode())
    assert lengths(reply) == {protocol.LONGEST_TEXT}


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["retry", "done", ""]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)
results = st.fixed_dictionaries(
    {"verdict": st.sampled_from(["retry", "done"]) | values},
    optional={
        key: values | st.text(max_size=3) | st.floats()
        for key in ("reason", "after", "stderr", "exit_status", "attempted", "ran")
    },
)
records = st.fixed_dictionaries(
    {"result": results | values},
    optional=dict.fromkeys(("damage", "last", "broken"), values),
)


@given(
    st.binary()
    | values.map(lambda value: json.dumps(value).encode())
    | records.map(lambda record: json.dumps(record).encode())
)
@example(b"[" * 100_000)
@example(b"9" * 10_000)
@example(b'{"verdict": []}')
@example(b'{"result": {"verdict": []}}')
@example(b'{"result": {"verdict": "retry", "after": NaN}}')
@example(b'{"result": {"verdict": "retry", "after": 1' + b"0" * 400 + b"}}")
@example(b'{"result": {"verdict": "retry", "attempted": false, "ran": false, "exit_status": 7}}')
def test_a_packet_that_makes_no_sense_is_a_value_error_and_no_other(packet):
    try:
        reply = protocol.read_response(packet)
    except ValueError:
        return
    outcome, damage, last = reply.result, reply.damage, reply.last
    assert isinstance(outcome.verdict, Verdict)
    assert outcome.after is None or 0 <= outcome.after <= LONGEST
    assert isinstance(outcome.reason, str)
    assert isinstance(outcome.stderr, str)
    assert damage is None or isinstance(damage, str)
    assert isinstance(last, bool)
    assert outcome == HandlerResult(outcome.verdict, outcome.reason, outcome.after, outcome.stderr)


@given(
    st.binary()
    | values.map(lambda value: json.dumps(value).encode())
    | records.map(lambda record: json.dumps(record).encode())
)
@example(b"[" * 100_000)
@example(b'{"ready": true}')
def test_a_first_packet_says_ready_or_why_not_or_is_a_value_error(packet):
    try:
        broken = protocol.read(packet, protocol.Started).broken
    except ValueError:
        return
    assert b'"broken"' in packet
    assert broken is None or isinstance(broken, str)


@pytest.mark.parametrize("why", [None, "", "handler 'x': no", "caf\udce9"])
def test_the_worker_says_whether_it_is_ready(why):
    packet = protocol.pack(protocol.Started(why))
    assert protocol.read(packet, protocol.Started).broken == why


def test_where_to_import_from_arrives_as_it_is():
    init = protocol.Init(["/usr/lib", "", "/caf\udce9"], "m:f", 1 << 30)
    assert protocol.read(protocol.pack(init), protocol.Init) == init
