"""Markers and companions by their names alone, and the table that decides by a marker."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, strategies as st

from watcher.rules.companions import (
    Times,
    is_of_newer,
    last_ending,
    parsed,
    rule_marked,
    stem_of,
    written_after,
    wrong_for_ending,
    wrong_marker,
    wrong_template,
)
from watcher.rules.evidence import Action, Writer
from watcher.rules.kinds import Kind
from watcher.rules.names import Layout

pytestmark = [pytest.mark.promise1]

DONE = Layout(b"", raw=True, marker=b"{name}.done")
CSV = Layout(b".csv", raw=True, marker=b"{stem}.ok", companions=(b"{name}.aria2", b".~{name}#"))


def test_a_template_gives_the_companions_name_and_back():
    assert DONE.marker_of(b"report.csv") == b"report.csv.done"
    assert CSV.marker_of(b"report.csv") == b"report.ok"
    assert CSV.companions_of(b"report.csv") == (b"report.csv.aria2", b".~report.csv#")
    assert DONE.entry_beside(b"report.csv.done") == b"report.csv"
    assert CSV.entry_beside(b"report.ok") == b"report.csv"
    assert CSV.entry_beside(b".~report.csv#") == b"report.csv"
    assert DONE.entry_beside(b"report.csv") is None
    assert Layout(b"", raw=True).marker_of(b"report.csv") == b""
    assert Layout(b"", raw=True).entry_beside(b"report.csv.done") is None


@pytest.mark.parametrize(
    ("layout", "name", "kind"),
    [
        (DONE, b"report.csv", Kind.ENTRY),
        (DONE, b"report.csv.done", Kind.MARKER),
        (DONE, b"report.csv.done.done", Kind.MARKER),  # never an entry, whatever it is beside
        (DONE, b".done", Kind.TEMPORARY),  # nothing stands for the entry's name
        (CSV, b"report.csv", Kind.ENTRY),
        (CSV, b"report.ok", Kind.MARKER),
        (CSV, b"report.txt", Kind.FOREIGN),
        (CSV, b"report.csv.aria2", Kind.COMPANION),
        (CSV, b"report.txt.aria2", Kind.FOREIGN),  # no entry waits for it
        (CSV, b".~report.csv#", Kind.COMPANION),
        (CSV, b".~report.txt#", Kind.TEMPORARY),
        (Layout(b".csv", raw=True, marker=b"{name}.ok.csv"), b"a.csv.ok.csv", Kind.MARKER),
        (Layout(b".csv", raw=True, marker=b"{name}.ok.csv"), b"a.ok.csv", Kind.MARKER),
        (Layout(b"", raw=True, companions=(b"{stem}.part",)), b"a.part", Kind.COMPANION),
        (DONE.in_state_dir(), b"20261123T105313.250Z-a1-c0-d1-w0-x.done", Kind.ENTRY),
    ],
)
def test_a_name_that_fits_a_template_is_never_an_entry(layout, name, kind):
    assert layout.kind(name) is kind


names = st.binary(min_size=1, max_size=40).filter(lambda name: not {0, 47} & set(name))


@given(names, st.sampled_from([b"{name}.done", b"ok-{name}", b"{name}~", b"<{name}>"]))
def test_no_entry_has_its_own_name_for_its_marker_and_no_two_share_one(name, template):
    layout = Layout(b"", raw=True, marker=template)
    marker = layout.marker_of(name)
    assert marker != name
    assert layout.entry_beside(marker) == name


@given(names)
def test_entries_of_one_ending_do_not_share_a_marker_of_their_stem(name):
    layout = Layout(b".tar.gz", raw=True, marker=b"{stem}.ok")
    entry = name + b".tar.gz"
    assert layout.entry_beside(layout.marker_of(entry)) == entry


@pytest.mark.parametrize(
    "text", ["", "done", "{name}", "{stem}", "{name}{stem}", "{name}.{x}", "a/{name}", "{name}.tmp"]
)
def test_a_template_that_could_not_work_is_refused_with_a_word(text):
    assert wrong_template(text)
    assert wrong_marker(text)


def test_a_companion_may_be_hidden_and_a_marker_may_not():
    assert wrong_template(".~lock.{name}#") is None
    assert wrong_marker("{name}.done") is wrong_marker("{stem}.ok") is None
    assert 'write "{name}.done"' in wrong_marker(".{name}")


@pytest.mark.parametrize(
    ("text", "ending", "right"),
    [
        ("{name}.done", b"", True),
        ("{stem}.ok", b".csv", True),
        ("{stem}.ok", b".tar.gz", True),
        ("{stem}.ok", b"", False),  # a.csv and a.txt would share it
        ("{stem}.ok", b"_done", False),
        ("{stem}.csv", b".csv", False),  # the entry itself
        ("{stem}.gz", b".tar.gz", False),
    ],
)
def test_a_stem_is_refused_if_two_entries_could_have_one_marker(text, ending, right):
    assert (wrong_for_ending(text, ending) is None) is right


def test_the_stem_is_the_name_without_its_last_ending():
    assert [stem_of(name) for name in (b"a.csv", b"a.b.csv", b"a", b"a.")] == [
        *(b"a", b"a.b", b"a", b"a"),
    ]
    assert [last_ending(each) for each in (b".csv", b".tar.gz", b"~", b"")] == [
        *(b".csv", b".gz", b"", b""),
    ]
    assert parsed(b"{stem}.ok").name_for(b"a.csv") == b"a.ok"


MARKER = 100
AGES = (0.0, 299.9, 300.0, 1e9)


@pytest.mark.parametrize(
    ("mtime", "ctime", "later"),
    [
        (90, 90, False),
        (100, 100, False),  # one moment
        (90, 110, False),  # renamed, or its mode set, after the marker was made
        (101, 101, True),
        (105, 110, True),
        (200, 110, False),  # set by hand: nothing wrote to it in the future
    ],
)
def test_an_entry_that_was_written_to_after_its_marker_is_known_by_its_times(mtime, ctime, later):
    assert written_after(Times(mtime, ctime), MARKER) is later


@pytest.mark.parametrize(
    ("writer", "age", "mtime"), [*itertools.product(Writer, AGES, (MARKER - 1, MARKER + 1))]
)
def test_every_row_of_the_table(writer, age, mtime):
    decision = rule_marked(Times(mtime, MARKER + 5), MARKER, writer, age, 300.0)
    if writer is Writer.SOME:
        assert decision.action is Action.LEAVE
    elif mtime < MARKER or age >= 300.0:
        assert decision.action is Action.TAKE
    else:
        assert (decision.action, decision.wait) == (Action.WAIT, 300.0 - age)


def test_a_marker_goes_with_the_old_file_unless_it_was_given_for_the_new_one():
    assert not is_of_newer(changed_ns=101, marker_ns=100)
    assert is_of_newer(changed_ns=100, marker_ns=100)
    assert is_of_newer(changed_ns=99, marker_ns=100)
