"""Metadata for handlers: one line of JSON, whatever it holds, and no longer than allowed."""

from __future__ import annotations

import datetime as dt
import json
import math
import pickle
import time

import pytest
from hypothesis import given, strategies as st

from watcher import mailman
from watcher.errors import Undecodable
from watcher.mailman import jsonline


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("caf\u00e9\n", '"caf\\u00e9\\n"'),
        (5, "5"),
        (1.5, "1.5"),
        (True, "true"),
        (None, "null"),
        ([1, ["a"]], '[1, ["a"]]'),
        ((1, 2), "[1, 2]"),
        ({3, 1, 2}, "[1, 2, 3]"),
        (frozenset({10, 9}), "[9, 10]"),
        ({"b", "a", 2, None}, '[2, null, "a", "b"]'),
        ({"a": {"b": 1}}, '{"a": {"b": 1}}'),
        (b"ascii", '"ascii"'),
        (b"\xff", '{"$bytes_b64": "/w=="}'),
        (math.inf, '{"$float": "inf"}'),
        (-math.inf, '{"$float": "-inf"}'),
        (math.nan, '{"$float": "nan"}'),
        (dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC), '"2026-01-02T03:04:05+00:00"'),
        (dt.timedelta(days=1, microseconds=500_000), "86400.5"),
        ({1: "a"}, '{"1": "a"}'),
        ({1: "a", "1": "b"}, '{"$dict": [[1, "a"], ["1", "b"]]}'),
        ({b"a": 1}, '{"a": 1}'),
        ({(1, 2): 3}, '{"[1, 2]": 3}'),
        ("\ud800", '"\\ud800"'),
        (1 << 70, "1180591620717411303424"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_kind_of_value(value, text):
    assert mailman.to_json({"k": value}) == f'{{"k": {text}}}'


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.datetimes()
    | st.timedeltas()
    | st.sets(st.integers() | st.text(), max_size=3),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text() | st.integers() | st.binary() | st.none(), inner, max_size=4)
    ),
    max_leaves=15,
)


@given(st.dictionaries(st.text(), values, max_size=4))
def test_anything_read_becomes_one_line_that_every_json_reader_reads(metadata):
    text = mailman.to_json(metadata)
    assert text.isascii()
    assert text.isprintable()
    assert set(json.loads(text, parse_constant=pytest.fail)) == set(metadata)


def test_a_long_text_a_million_times_is_refused_before_it_is_written():
    long = "x" * 500_000
    for value in (
        [long] * 1000,
        dict.fromkeys(map(str, range(1000)), long),
        (b"\xff" * 500_000,) * 1000,
        ["\u20ac" * 100_000] * 1000,
        [1 << 7000] * 100_000,
    ):
        began = time.process_time()
        with pytest.raises(Undecodable, match="JSON"):
            mailman.to_json({"k": value})
        assert time.process_time() - began < 2


def test_the_limit_holds_for_what_needs_escapes():
    with pytest.raises(Undecodable, match="JSON"):
        mailman.to_json({"k": "\0" * (jsonline.MAX_LENGTH // 3)})
    assert len(mailman.to_json({"k": "a" * (jsonline.MAX_LENGTH - 100)})) <= jsonline.MAX_LENGTH


def test_billion_laughs_are_refused_when_read_and_cost_nothing():
    laughs = "lol"
    for _ in range(40):
        laughs = [laughs] * 10
    data = pickle.dumps(b"", 2) + pickle.dumps({"a": laughs}, 2)
    assert len(data) < 2_000
    began = time.process_time()
    with pytest.raises(Undecodable, match="too many values"):
        mailman.read_pck(data)
    assert time.process_time() - began < 1
