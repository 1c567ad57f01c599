"""Names: what each stands for, and that ours never collide or grow too long."""

from __future__ import annotations

import os

import pytest
from hypothesis import example, given, strategies as st

from watcher.lifecycle import State
from watcher.spool import layout
from watcher.spool.layout import Kind, Layout, display, stored, text

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
    assert LEGACY.metadata_half(name) == stem + b".db"
    assert LEGACY.message_halves(name) == (stem + b".msg", stem + b".pck")


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
    names = [stored(stem, suffix, number) for number in numbers]
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
    stems = {stored(stem, suffix, number)[: -len(suffix)] for suffix in (*suffixes, b".json")}
    assert len(stems) == 1


@given(st.binary(min_size=1, max_size=240))
def test_a_name_that_fits_is_kept(stem):
    assert stored(stem, b".pck", 0) == stem + b".pck"
    assert stored(stem, b".pck", 3) == stem + b"~3.pck"


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
    assert set(layout.STATE_DIRECTORIES) == {
        State.DEFERRED, State.HELD, State.DEAD, State.ORPHAN
    }  # fmt: skip
    assert len(set(layout.STATE_DIRECTORIES.values())) == 4
