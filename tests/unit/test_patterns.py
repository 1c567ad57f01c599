"""Patterns of file names: what they match, how quickly, and how a wrong one is refused."""

from __future__ import annotations

import fnmatch
import os
import time

import pytest
from hypothesis import example, given, strategies as st

from watcher.rules.kinds import Kind
from watcher.rules.names import Layout, is_note, is_stored, note_of, numbered_name
from watcher.rules.patterns import (
    DEFAULT_IGNORE,
    LONGEST,
    MOST,
    compiled,
    contradicted,
    never_taken,
    plain_ending,
    without,
    wrong_pattern,
)

MATCHES = [
    ("*.csv", b"a.csv", True),
    ("*.csv", b"a.CSV", False),
    ("*.csv", b"a.csv\n", False),
    ("*.csv", b".csv", True),
    ("*", b"\xff\n", True),
    ("~$*", b"~$a.csv", True),
    ("~$*", b"a~$", False),
    ("#*#", b"#a#", True),
    ("#*#", b"#", False),
    ("Thumbs.db", b"Thumbs.db", True),
    ("Thumbs.db", b"xThumbs.db", False),
    ("a.c?v", "a.cév".encode(), True),
    ("a?", b"a\xff", True),
    ("a?", b"a", False),
    ("[ab]*.[cC][sS][vV]", b"bx.CsV", True),
    ("[!ab]*", b"bx", False),
    ("[!ab]*", b"cx", True),
    ("[é]*", "éa".encode(), True),
    ("[[]1].x", b"[1].x", True),
    ("in-*-*.dat", b"in-1-2.dat", True),
    ("in-*-*.dat", b"in-12.dat", False),
    ("a.*", b"aXb", False),
    ("a+(b)*", b"a+(b)", True),
]


@pytest.mark.parametrize(("pattern", "name", "expected"), MATCHES)
def test_what_a_pattern_matches(pattern, name, expected):
    assert compiled((pattern,)).match(name) is expected
    assert compiled(("nothing", pattern)).match(name) is expected
    assert compiled((pattern,)).which(name) == (pattern if expected else "")


def test_case_is_as_written_unless_it_is_ignored():
    patterns = ("*.Csv", "thumbs.db", "é[A-C]?")
    for name in (b"A.CSV", b"THUMBS.DB", "ÉBx".encode(), "éb\u00e9".encode()):
        assert compiled(patterns, ignore_case=True).match(name)
        assert not compiled(patterns).match(name)


PIECES = st.lists(st.sampled_from(["*", "?", "[ab]", "[!a]", "a", "b", ".", "~", "1"]), max_size=8)
SHORT = st.text("ab.~1é", min_size=1, max_size=9)


@given(PIECES.map("".join).filter(bool), SHORT)
def test_patterns_match_what_the_shell_matches(pattern, name):
    expected = fnmatch.fnmatchcase(name, pattern)
    assert compiled((pattern,)).match(os.fsencode(name)) is expected
    assert compiled((pattern,), ignore_case=True).match(os.fsencode(name)) is expected


@given(PIECES.map("".join).filter(bool), SHORT, st.integers(1, 12_000))
@example("report.csv", "report.csv", 3)
@example("*.[ab]", "x.a", 1)
@example("???", "111~1", 1)
def test_a_name_with_a_number_is_an_entrys_name_too(pattern, name, number):
    layout = Layout(b"", raw=True, match=compiled((pattern,), numbered=True))
    own = os.fsencode(name)
    if layout.kind(own) is not Kind.ENTRY:
        return
    stem, ending = layout.split(own)
    assert stem + ending == own
    assert layout.kind(numbered_name(stem, ending, number)) in {Kind.ENTRY, Kind.TEMPORARY}


@given(PIECES.map("".join).filter(bool), st.sampled_from(["", ".json", "a.json", ".n"]), SHORT)
@example("*.json", ".json", "a")
@example("*.js?n", "son", "a.j")
def test_no_note_is_an_entry_of_the_patterns_and_no_entry_a_note(pattern, ending, name):
    layout = Layout(b"", raw=True, match=compiled((pattern + ending,), numbered=True))
    own = os.fsencode(name + ending)
    if layout.kind(own) is not Kind.ENTRY:
        return
    assert is_stored(own, layout)
    assert not is_note(own, layout)
    assert not is_stored(note_of(own, layout), layout)
    assert layout.kind(note_of(own, layout)) is not Kind.ENTRY


HOSTILE = [
    ("*a" * 127,),
    ("*?" * 127,),
    ("a*" * 127 + "b",),
    tuple("*a" * count + "*?b*" for count in range(MOST)),
    ("*[a-z]" * 42,),
    tuple(f"*{'a' * count}*b" for count in range(MOST)),
]


@pytest.mark.parametrize("patterns", HOSTILE, ids=range(len(HOSTILE)))
def test_no_patterns_take_long_for_any_name(patterns):
    every = compiled(patterns)
    names = [b"a" * 255, b"ab" * 127, b"a" * 254 + b"c", "é".encode() * 127]
    began = time.process_time()
    for name in names * 10:
        every.match(name)
    assert (time.process_time() - began) / 40 < 0.01  # seconds a name; measured: 0.0001


def test_the_default_list_knows_what_programs_leave():
    ignored = compiled(DEFAULT_IGNORE)
    for name in (
        *(b"x.csv.part", b"x.csv.filepart", b"x.csv.1f2e.partial", b"x.crdownload", b"x.download"),
        *(b"x.iso.aria2", b"x.tmp", b"~WRL0001.tmp", b"ABC.TMP", b"x.swp", b"x.csv~", b"~$x.docx"),
        *(b"#x.txt#", b".x", b"Thumbs.db", b"desktop.ini", b"x.bak", b"x.lock"),
    ):
        assert ignored.match(name), name
    for name in (b"report.csv", b"a#b", b"#1.csv", b"~x", b"parts", b"x.lock.csv", b"data.db"):
        assert not ignored.match(name), name
    assert all(wrong_pattern(each) is None for each in DEFAULT_IGNORE)


def test_ignored_comes_before_an_entry_and_after_what_is_being_written():
    layout = Layout(b"", raw=True, ignore=compiled(DEFAULT_IGNORE))
    assert layout.kind(b"a.csv") is Kind.ENTRY
    assert layout.kind(b"a.csv.part") is Kind.IGNORED
    assert layout.kind(b".a.part") is Kind.TEMPORARY
    assert layout.kind(b"a.tmp") is Kind.TEMPORARY
    csv = layout._replace(suffix=b".csv")
    assert csv.kind(b"~$a.csv") is Kind.IGNORED
    assert csv.kind(b"Thumbs.db") is Kind.IGNORED
    assert csv.kind(b"a.txt") is Kind.FOREIGN


def test_layouts_of_equal_patterns_are_equal():
    def layout(*sources):
        return Layout(b"", raw=True, match=compiled(sources))

    assert layout("*.a", "?.b") == layout("*.a", "?.b")
    assert hash(layout("*.a", "?.b")) == hash(layout("*.a", "?.b"))
    assert layout("*.a") != layout("*.b")


WRONG = [
    ("", 'write "*"'),
    ("a/*.csv", "the name alone"),
    ("a\0", "the name alone"),
    ("x" * (LONGEST + 1), "longer"),
    ("é" * 128, "longer"),
    ("[abc", "write [[]"),
    ("*[", "write [[]"),
]


@pytest.mark.parametrize(("pattern", "said"), WRONG)
def test_a_wrong_pattern_is_refused_with_its_cure(pattern, said):
    assert said in wrong_pattern(pattern)


@pytest.mark.parametrize("pattern", ["*", "*.csv", "[]]x", "[!]]", "[a-z]?", "~$*", "a b", "]"])
def test_a_right_pattern_is_accepted(pattern):
    assert wrong_pattern(pattern) is None


def test_a_pattern_that_could_have_no_entry_is_refused_with_its_cure():
    assert 'write "*.csv"' in never_taken(".csv")
    assert "dot in front" in never_taken(".x*")
    assert ".tmp" in never_taken("*.tmp")
    assert never_taken("*.csv") is None


def test_what_ignore_contradicts():
    assert contradicted("*.bak", ("*.csv", "*.tar.bak")) == "*.tar.bak"
    assert contradicted("*", ("*.csv",)) == "*.csv"
    assert contradicted("x?", ("x?",)) == "x?"
    assert contradicted("*.bak", ("*", "*.csv", "*[k]")) is None
    assert "*.bak" not in without(DEFAULT_IGNORE, ("*.bak",))
    assert without(DEFAULT_IGNORE, ("*",)) == DEFAULT_IGNORE


def test_a_list_of_one_ending_is_a_suffix():
    assert plain_ending(("*.csv",)) == ".csv"
    assert plain_ending(("*",)) == ""
    for sources in (("*.csv", "*.CSV"), ("*.c?v",), ("a.csv",), ("a*.csv",), ("**",)):
        assert plain_ending(sources) is None
