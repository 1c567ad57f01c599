"""What a name stands for; the names that the watcher gives never collide and are never too long."""

from __future__ import annotations

import os

import pytest
from hypothesis import example, given, strategies as st

from watcher.rules.kinds import Kind
from watcher.rules.lifecycle import State
from watcher.rules.names import (
    NAME_MAX,
    STATE_DIRECTORIES,
    Layout,
    Location,
    display,
    in_deferred,
    is_deferred,
    is_note,
    is_stored,
    note_of,
    numbered_name,
    text,
    wrong_suffix,
)
from watcher.rules.pair_names import (
    message_names,
    metadata_name,
    names_of_entry,
    other_half_names,
    pair_stem,
)

MAILMAN, LEGACY = Layout(), Layout(legacy=True)
RAW, CSV = Layout(b"", raw=True), Layout(b".csv", raw=True)

KINDS = [
    (b"1.0+ab.pck", Kind.ENTRY, Kind.ENTRY),
    (b"noplus.pck", Kind.ENTRY, Kind.ENTRY),
    (b"abc+def.pck", Kind.ENTRY, Kind.ENTRY),
    (b"-rf.pck", Kind.ENTRY, Kind.ENTRY),
    (b"\xff\xfe.pck", Kind.ENTRY, Kind.ENTRY),
    (b"two\nlines.pck", Kind.ENTRY, Kind.ENTRY),
    (b"x.msg", Kind.FOREIGN, Kind.MESSAGE_HALF),
    (b"x.db", Kind.FOREIGN, Kind.METADATA_HALF),
    (b"x.pck.tmp", Kind.TEMPORARY, Kind.TEMPORARY),
    (b"x.msg.tmp", Kind.TEMPORARY, Kind.TEMPORARY),
    (b".x.pck", Kind.TEMPORARY, Kind.TEMPORARY),
    (b".pck", Kind.TEMPORARY, Kind.TEMPORARY),
    (b".watcher", Kind.TEMPORARY, Kind.TEMPORARY),
    (b".db", Kind.TEMPORARY, Kind.TEMPORARY),
    (b"x.bak", Kind.LEFTOVER, Kind.LEFTOVER),
    (b"x.psv", Kind.LEFTOVER, Kind.LEFTOVER),
    (b"x.txt", Kind.FOREIGN, Kind.FOREIGN),
    (b"pck", Kind.FOREIGN, Kind.FOREIGN),
    (b"x.PCK", Kind.FOREIGN, Kind.FOREIGN),
    (b"x.pck ", Kind.FOREIGN, Kind.FOREIGN),
    (b"x.pck\n", Kind.FOREIGN, Kind.FOREIGN),
]


@pytest.mark.parametrize(("name", "mailman", "legacy"), KINDS, ids=[ascii(k[0]) for k in KINDS])
def test_what_a_name_stands_for(name, mailman, legacy):
    assert MAILMAN.kind(name) is mailman
    assert LEGACY.kind(name) is legacy


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (b"report.csv", Kind.ENTRY),
        (b"report.csv.tmp", Kind.TEMPORARY),
        (b".report.csv", Kind.TEMPORARY),
        (b"report.bak", Kind.FOREIGN),
        (b"report.pck", Kind.FOREIGN),
    ],
)
def test_what_a_name_stands_for_in_a_drop_folder(name, kind):
    assert CSV.kind(name) is kind


def test_a_drop_folder_without_a_suffix_takes_every_finished_file():
    names = [b"x", b"x.pck", b"x.bak", b"x.db", b"x.tmp", b".x"]
    assert [name for name in names if RAW.kind(name) is Kind.ENTRY] == names[:4]


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        (b"x.pck", b"x"),
        (b"x.msg", b"x"),
        (b"x.db", b"x"),
        (b"x.msg.pck", b"x.msg"),
        (b"x.t", b"x.t"),
    ],
)
def test_the_halves_of_an_entry_share_its_stem(name, stem):
    assert LEGACY.stem(name) == stem
    assert pair_stem(name) == stem
    assert metadata_name(name) == stem + b".db"
    assert message_names(name) == (stem + b".msg", stem + b".pck")
    assert (name in names_of_entry(stem)) == (name != b"x.t")


def test_a_half_and_its_other_half_name_each_other():
    for message in message_names(b"x.db"):
        assert other_half_names(message) == (b"x.db",)
        assert message in other_half_names(b"x.db")


@given(st.binary(min_size=1, max_size=255).filter(lambda n: not set(n) & set(b"/\0")))
def test_a_location_says_where_a_file_is_and_its_name(name):
    assert Location.parse(name) == (State.READY, name)
    assert Location.parse(in_deferred(name)) == (State.DEFERRED, name)
    assert is_deferred(in_deferred(name))
    assert not is_deferred(name)


def test_without_legacy_a_half_is_nothing_special():
    assert MAILMAN.stem(b"x.msg") == b"x.msg"
    assert RAW.stem(b"x.csv") == b"x.csv"


NAME_BYTES = st.binary(min_size=1, max_size=255).filter(lambda n: not set(n) & set(b"/\0"))
SUFFIXES = st.sampled_from([b".pck", b".msg", b".db", b".json", b".csv", b"", b".long-suffix"])
LONG_STEMS = st.builds(
    lambda size, tail: (b"n" * size)[: size - len(tail)] + tail,
    st.integers(235, 255),
    st.sampled_from([b"", b"~0", b"~1", b"~10", b"~", b"1"]),
)


@given(st.one_of(NAME_BYTES, LONG_STEMS), SUFFIXES, st.sets(st.integers(0, 12_000), max_size=20))
@example(b"n" * 248 + b"~1", b".pck", {0, 1})
@example(b"n" * 247 + b"~10", b".pck", {0, 10})
@example(b"n" * 251, b".pck", {0, 1, 9, 10, 11, 100})
def test_no_name_of_ours_is_too_long_and_each_number_has_its_own(stem, suffix, numbers):
    stem = stem[: 255 - len(suffix)]
    names = [numbered_name(stem, suffix, number) for number in numbers]
    assert len(set(names)) == len(names)
    for name in names:
        assert 0 < len(name) <= 255
        assert name.endswith(suffix)
        assert not set(name) & set(b"/\0")


@given(st.one_of(NAME_BYTES, LONG_STEMS), st.integers(0, 12_000))
@example(b"n" * 251, 0)
@example(b"n" * 250, 0)
def test_an_entrys_files_and_its_note_share_a_stem(stem, number):
    stem = stem[:252]  # `.db` fits
    suffixes = [suffix for suffix in (b".pck", b".msg", b".db") if len(stem + suffix) <= 255]
    stems = {
        numbered_name(stem, suffix, number)[: -len(suffix)] for suffix in (*suffixes, b".json")
    }
    assert len(stems) == 1


@given(st.binary(min_size=1, max_size=240))
def test_a_name_that_fits_is_kept(stem):
    assert numbered_name(stem, b".pck", 0) == stem + b".pck"
    assert numbered_name(stem, b".pck", 3) == stem + b"~3.pck"


@given(NAME_BYTES)
@example(b"\x85\xe2\x80\xa8\x0b\x0c\x1c")
@example(b"\xe2\x80\xa8\xe2\x80\xae\xef\xbb\xbf")
def test_any_name_is_shown_on_one_line(name):
    shown = display(name)
    assert shown.isprintable()
    assert len(shown.splitlines()) == 1
    shown.encode()  # no lone surrogates: it can be written to any log


def test_names_are_shown_as_they_are_where_that_can_be():
    assert display("grüß.pck".encode()) == "grüß.pck"
    assert display(b"a\nb\xff") == "a\\nb\\xff"


@given(NAME_BYTES)
def test_a_name_survives_as_text(name):
    assert os.fsencode(text(name)) == name


def test_every_state_that_keeps_files_has_its_directory():
    assert set(STATE_DIRECTORIES) == {
        State.DEFERRED, State.HELD, State.DEAD, State.ORPHAN
    }  # fmt: skip
    assert len(set(STATE_DIRECTORIES.values())) == 4


endings = st.one_of(
    st.sampled_from(
        ["", ".json", ".x.json", ".n", ".journal", "~", ".", ".js", ".~1", "json", "n"]
    ),
    st.text("jsonx.~-_", max_size=8),
)


@given(endings, st.binary(min_size=1, max_size=260), st.integers(0, 12), st.booleans())
@example("json", b"a", 0, True)
@example("n", b"a", 0, True)
@example(".json", b"a.json", 0, True)
@example("", b"a.json", 0, True)
def test_no_note_is_an_entry_and_no_entry_a_note(suffix, stem, number, raw):
    if b"/" in stem or b"\0" in stem or (suffix and wrong_suffix(suffix) and number):
        return
    ending = suffix.encode() if raw else b".pck"
    layout = Layout(ending, raw=raw)
    own = (stem + ending)[-255:]
    if layout.kind(own) is not Kind.ENTRY:
        return
    lies = numbered_name(layout.stem(own), own[len(layout.stem(own)) :], number)
    note = note_of(lies, layout)
    assert is_stored(lies, layout)
    assert not is_note(lies, layout)
    assert not is_stored(note, layout)
    assert layout.kind(note) is not Kind.ENTRY
    assert note != lies
    assert len(note) <= NAME_MAX


@pytest.mark.parametrize(
    ("suffix", "cure"),
    [
        ("csv", 'write ".csv"'),
        ("json", 'write ".json"'),
        ("*.csv", 'write ".csv"'),
        ("**csv", 'write ".csv"'),
        ("*", 'write "" for every name'),
        ("?.csv", "no pattern"),
        (".[ct]sv", "no pattern"),
        (".tmp", "no watcher looks"),
        ("a/b", "no watcher looks"),
    ],
)
def test_an_ending_that_is_none_is_refused_with_its_cure(suffix, cure):
    assert cure in wrong_suffix(suffix)


@pytest.mark.parametrize("suffix", ["", ".csv", ".json", "~", ".tar.gz", "\u00e9", "-done"])
def test_an_ending_is_an_ending(suffix):
    assert wrong_suffix(suffix) is None
