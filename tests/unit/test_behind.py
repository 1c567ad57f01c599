"""The modes of a queue that may be behind: every mode and every cause, and what never happens."""

from __future__ import annotations

import itertools

import pytest

from watcher.rules.behind import CHANGES, Cause, Mode, after

PAIRS = list(itertools.product(Mode, Cause))
TABLE = """
                 FALL_BEHIND      WANT          BEGIN            READ      END      GIVE_UP
CURRENT          BEHIND           WANTED        .                .         .        .
WANTED           BEHIND           .             SCANNING         .         .        .
BEHIND           .                .             SCANNING_BEHIND  WANTED    .        .
SCANNING         SCANNING_BEHIND  AGAIN         .                .         CURRENT  WANTED
SCANNING_BEHIND  .                AGAIN_BEHIND  .                SCANNING  BEHIND   BEHIND
AGAIN            AGAIN_BEHIND     .             .                .         WANTED   WANTED
AGAIN_BEHIND     .                .             .                AGAIN     BEHIND   BEHIND
"""


def by_hand():
    head, *rows = TABLE.strip("\n").splitlines()
    for mode, *words in map(str.split, rows):
        for cause, word in zip(head.split(), words, strict=True):
            yield (Mode[mode], Cause[cause]), Mode[mode if word == "." else word]


def reachable(modes, causes):
    """Return every mode that follows from these by these causes, in any order."""
    found = set(modes)
    while more := {after(mode, cause) for mode in found for cause in causes} - found:
        found |= more
    return found


def test_every_mode_and_every_cause_is_as_in_the_table():
    expected = dict(by_hand())
    assert {pair: after(*pair) for pair in PAIRS} == expected
    assert len(expected) == len(PAIRS)
    assert all(mode is not to for row in CHANGES.values() for mode, to in row.items())


def test_no_mode_drops_events_and_wants_no_scan():
    assert all(mode.scanning or mode.wanted for mode in Mode if mode.drops)


@pytest.mark.promise2
@pytest.mark.parametrize("mode", Mode)
def test_what_no_scan_knows_of_is_wanted_until_another_scan_begins(mode):
    later = reachable({after(mode, Cause.WANT)}, set(Cause) - {Cause.BEGIN})
    assert all(each.wanted for each in later), later


@pytest.mark.parametrize("mode", [mode for mode in Mode if mode.drops])
def test_an_event_dropped_during_a_scan_leads_to_another_scan(mode):
    ended = after(after(mode, Cause.WANT), Cause.END)
    assert ended.wanted
    assert not ended.scanning
    assert after(ended, Cause.BEGIN).scanning


def test_only_falling_behind_begins_to_drop_and_only_a_read_ends_it():
    starts = {cause for mode, cause in PAIRS if not mode.drops and after(mode, cause).drops}
    ends = {cause for mode, cause in PAIRS if mode.drops and not after(mode, cause).drops}
    assert (starts, ends) == ({Cause.FALL_BEHIND}, {Cause.READ})


def test_a_scan_is_under_way_from_its_begin_to_its_end():
    starts = {cause for mode, cause in PAIRS if not mode.scanning and after(mode, cause).scanning}
    ends = {cause for mode, cause in PAIRS if mode.scanning and not after(mode, cause).scanning}
    assert (starts, ends) == ({Cause.BEGIN}, {Cause.END, Cause.GIVE_UP})


def test_a_scan_that_is_given_up_is_wanted_again():
    assert all(after(mode, Cause.GIVE_UP).wanted for mode in Mode if mode.scanning)


@pytest.mark.parametrize("mode", Mode)
def test_from_every_mode_two_scans_lead_to_a_queue_that_misses_nothing(mode):
    for cause in (Cause.READ, Cause.END, Cause.BEGIN, Cause.READ, Cause.END):
        mode = after(mode, cause)
    assert mode is Mode.CURRENT
