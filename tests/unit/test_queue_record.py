"""What a queue records of itself: read back as it was written, and nothing else is believed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, strategies as st

from watcher.rules.patterns import never_taken, wrong_pattern
from watcher.rules.queue_record import (
    LARGEST,
    VERSION,
    Damaged,
    Newer,
    QueueRecord,
    decode,
    differences,
    encode,
)

RAW = QueueRecord("raw", ("*.csv", "*.CSV"), ("*.part",), True, False, True)
PATTERN = st.text(min_size=1, max_size=20).filter(
    lambda text: (
        not any(0xD800 <= ord(one) <= 0xDFFF for one in text)
        and wrong_pattern(text) is None
        and never_taken(text) is None
    )
)
LISTS = st.lists(PATTERN, min_size=1, max_size=5).map(tuple)


@given(LISTS, LISTS, st.booleans(), st.booleans())
def test_a_record_is_read_back_as_it_was_written(match, ignore, ignore_case, hard_links):
    raw = QueueRecord("raw", match, ignore, ignore_case, False, hard_links)
    assert decode(encode(raw)) == raw
    mailman = QueueRecord(legacy=ignore_case, hard_links=hard_links)
    assert decode(encode(mailman)) == mailman


def test_a_pattern_of_undecodable_bytes_is_read_back():
    record = QueueRecord("raw", ("*.\udcff",), ())
    assert decode(encode(record)) == record


def test_the_largest_record_is_within_the_limit():
    pattern = "\udcff" * 255
    assert len(encode(QueueRecord("raw", (pattern,) * 64, (pattern,) * 64))) < LARGEST


def changed(**fields):
    """Return the contents of the file of RAW with other fields."""
    return json.dumps(json.loads(encode(RAW)) | fields).encode()


@pytest.mark.parametrize("marker", ["{name}.done", "{stem}.ok"])
def test_a_marker_and_companions_are_read_back(marker):
    beside = ("{name}.aria2", ".~lock.{name}#")
    record = QueueRecord("raw", ("*.csv",), marker=marker, companions=beside)
    assert decode(encode(record)) == record
    assert f"marker={marker}, companions={' '.join(beside)}" in str(record)


DAMAGED = {
    "nothing": b"",
    "half": encode(RAW)[:40],
    "no JSON": b"{'version': 1}",
    "no UTF-8": b'{"version": 1, "format": "\xff"}',
    "no object": b"[1]",
    "deep": b"[" * 100_000,
    "digits": b'{"version": ' + b"1" * 10_000 + b"}",
    "huge": b" " * (LARGEST + 1),
    "no version": b"{}",
    "version is true": changed(version=True),
    "version 0": changed(version=0),
    "format": changed(format="maildir"),
    "format is a list": changed(format=[]),
    "legacy is a number": changed(legacy=1),
    "raw and legacy": changed(legacy=True),
    "no match": changed(match=[]),
    "match is a text": changed(match="*.csv"),
    "match of numbers": changed(match=[1]),
    "a pattern with a directory": changed(match=["../*"]),
    "a pattern of nothing": changed(match=[""]),
    "a pattern of hidden files": changed(match=[".*"]),
    "a pattern with a NUL": changed(ignore=["a\0"]),
    "a lone surrogate": changed(ignore=["\ud800"]),
    "many patterns": changed(ignore=["x"] * 65),
    "a long pattern": changed(ignore=["x" * 256]),
    "mailman with patterns": changed(format="mailman"),
    "mailman with a marker": json.dumps(
        {"version": 1, "format": "mailman", "marker": "{name}.done"}
    ).encode(),
    "a marker that is a list": changed(marker=["{name}.done"]),
    "a marker without a place": changed(marker="done"),
    "a marker in a directory": changed(marker="../{name}"),
    "a marker that two entries share": changed(marker="{stem}.ok"),
    "a long marker": changed(marker="{name}" + "x" * 60),
    "a companion that is a number": changed(companions=[1]),
    "a companion that is the entry": changed(companions=["{name}"]),
    "many companions": changed(companions=["{name}.a"] * 17),
    "companions of a lone surrogate": changed(companions=["{name}\ud800"]),
}


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED.keys())
def test_what_is_no_record_is_not_believed(data):
    with pytest.raises(Damaged):
        decode(data)


def test_a_newer_version_is_not_guessed_at():
    with pytest.raises(Newer, match=f"version {VERSION + 1}; this program knows"):
        decode(changed(version=VERSION + 1, format="unheard of"))


def test_an_unknown_key_of_this_version_is_left_out():
    assert decode(changed(colour="red")) == RAW


def test_the_difference_of_two_records_names_both_sides():
    other = RAW._replace(match=("*.txt",), ignore=(), ignore_case=False)
    marked = RAW._replace(marker="{name}.done")
    assert differences(marked, RAW) == "marker {name}.done, not nothing"
    assert differences(RAW, RAW) == ""
    assert differences(RAW, other) == (
        "match *.csv *.CSV, not *.txt; ignore *.part, not nothing; ignore_case true, not false"
    )
    assert str(RAW) == "format=raw, match=*.csv *.CSV, ignore_case, hard_links"
