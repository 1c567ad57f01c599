"""The real writers that are installed: each file whole, once, and never early."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from real_writers import cases
from real_writers.case import ANY_NAME, Case
from real_writers.observer import Event, how
from real_writers.table import Row, as_markdown, as_text, on_page, summary
from real_writers.verdict import Handled, Setting, Times, When, judge, verdict

ROOT = Path(__file__).parent.parent.parent
PROGRAM = ROOT / "scripts" / "real_writers"
PAGE = ROOT / "docs" / "writers.md"
S = 1_000_000_000
QUEUE = "/q"
TIMES = Times(grace=12.0, settle=2.0)


def run_table(*options):
    # Not below tmp_path: the FTP server's user may not go there.
    ended = subprocess.run([sys.executable, PROGRAM, *options], capture_output=True, text=True)
    print(ended.stdout)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.mark.slow
@pytest.mark.long  # alone on the machine: the table says what is late
@pytest.mark.timeout(300)
def test_every_installed_writer_is_taken_whole_and_once():
    run_table()


def test_a_slice_of_the_writers_is_taken_whole_and_once():
    names = (
        "cp, then x.csv.done",
        "mktemp",
        "ln, then rm",
        "sed -i.bak",
        "Windows: ~",
        "Maildir: Python",
    )
    told = run_table("--grace=2", "--settle=0.5", *(f"--only={name}" for name in names))
    assert f"{len(names)} writers: {len(names)} as they should be" in told


# -- of the test: each wrong is found ---------------------------------------------------------

WHOLE, PART = b"whole", b"wh"


def event(second, what, name="x.csv", source=""):
    return Event(int(second * S), QUEUE, what, name, source)


def handled(second, data=WHOLE, name="x.csv"):
    return Handled(QUEUE, name, int(second * S), len(data), hashlib.sha256(data).hexdigest())


IN_PLACE = [event(1, "IN_CREATE"), event(1, "IN_MODIFY"), event(2, "IN_CLOSE_WRITE")]
RENAMED = [event(2, "IN_MOVED_TO")]
MARKED = {"marker": "{stem}.ok"}


def a_case(**fields):
    return Case("cp", (), lambda _place: {}, **fields)


def judged(*calls, setting=Setting.DEFAULTS, case=None, events=IN_PLACE, expected=None):
    wanted = {"x.csv": [WHOLE]} if expected is None else expected
    return judge(case or a_case(), setting, wanted, calls, list(events), TIMES)


@pytest.mark.parametrize(
    ("setting", "events", "taken", "when", "late"),
    [
        (Setting.DEFAULTS, RENAMED, 2.1, When.AT_ONCE, False),
        (Setting.DEFAULTS, RENAMED, 14, When.AT_GRACE_AGE, True),
        (Setting.DEFAULTS, IN_PLACE, 14, When.AT_GRACE_AGE, False),
        (Setting.SETTLE, RENAMED, 2.1, When.AT_ONCE, False),
        (Setting.SETTLE, RENAMED, 4.1, When.WITHIN_SETTLE, False),
        (Setting.SETTLE, IN_PLACE, 4.1, When.WITHIN_SETTLE, False),
        (Setting.SETTLE, IN_PLACE, 14, When.AT_GRACE_AGE, True),
        (Setting.MARKER, IN_PLACE, 2.1, When.AT_ONCE, False),
        (Setting.MARKER, IN_PLACE, 14, When.AT_GRACE_AGE, True),
    ],
)
def test_each_setting_says_when_a_file_is_late(setting, events, taken, when, late):
    outcome = judged(handled(taken), setting=setting, events=events)
    assert (outcome.when, outcome.late) == (when, late)
    assert ("late" in outcome.wrongs) == late


def test_with_a_marker_the_time_counts_from_the_marker():
    events = [*IN_PLACE, event(20, "IN_CREATE", "x.ok"), event(20, "IN_CLOSE_WRITE", "x.ok")]
    marked = judged(
        handled(20.5), setting=Setting.MARKER, case=a_case(marker=MARKED), events=events
    )
    assert str(marked) == "at once 0.5 s"


def test_with_companions_a_file_settles():
    case = a_case(marker={"companions": ["{name}.aria2"]})
    outcome = judged(handled(4.1), setting=Setting.MARKER, case=case)
    assert outcome.when is When.WITHIN_SETTLE


@pytest.mark.parametrize(
    ("calls", "wrong"),
    [
        ([], "never whole"),
        ([handled(2, PART)], "never whole, early"),
        ([handled(2, PART), handled(14)], "early"),
        ([handled(14), handled(15)], "twice"),
        ([handled(14), handled(15, PART, "x.csv~")], "foreign file"),
    ],
)
def test_what_is_wrong_is_named(calls, wrong):
    told = {Setting.DEFAULTS: judged(*calls)}
    assert verdict(a_case(), told) == f"wrong: defaults: {wrong}"
    assert Row(a_case(), told).wrong


def test_what_nothing_can_know_is_no_fault_if_it_is_whole_in_the_end():
    case = a_case(unknown="it is so", marker=MARKED)
    early, never = judged(handled(2, PART), handled(14)), judged(handled(2, PART))
    assert verdict(case, {Setting.DEFAULTS: early}) == "cannot know: it is so; `marker` tells"
    assert verdict(case, {Setting.DEFAULTS: never}) == "wrong: defaults: never whole"
    assert verdict(case, {Setting.MARKER: early}) == "wrong: marker: early"


def test_a_writer_that_the_machine_held_up_for_longer_than_the_wait_is_not_judged():
    events = [event(1, "IN_CREATE"), event(1, "IN_CLOSE_WRITE"), event(15, "IN_CLOSE_WRITE")]
    late = judged(handled(13.5, PART), handled(27), events=events)
    assert verdict(a_case(), {Setting.DEFAULTS: late}).startswith("good, but this machine")
    events = [event(1, "IN_CREATE"), event(1, "IN_CLOSE_WRITE"), event(3, "IN_CLOSE_WRITE")]
    soon = judged(handled(2, PART), handled(15), events=events)
    assert verdict(a_case(), {Setting.DEFAULTS: soon}) == "wrong: defaults: early"


def test_a_name_that_the_writer_draws_is_found_and_another_one_is_foreign():
    one = judged(handled(2.1, name="17.M1"), events=[], expected={ANY_NAME: [WHOLE]})
    assert one.wrongs == ()
    two = judged(
        handled(2.1, name="17.M1"),
        handled(3, PART, "18.M2"),
        events=[],
        expected={ANY_NAME: [WHOLE]},
    )
    assert two.foreign == ("18.M2",)


def test_what_should_be_left_alone_is_left_alone():
    assert judged(expected={}).when is When.LEFT_ALONE
    assert judged(handled(2), expected={}).wrongs == ("foreign file",)


def test_the_summary_counts_each_writer_once():
    unknown = a_case(unknown="it is so")
    rows = [
        Row(a_case(), {Setting.DEFAULTS: judged(handled(14))}),
        Row(a_case(), {Setting.DEFAULTS: judged(handled(2.1), events=RENAMED)}),
        Row(a_case(), {Setting.DEFAULTS: judged(handled(2, PART), handled(14), handled(15))}),
        Row(unknown, {Setting.DEFAULTS: judged(handled(2, PART), handled(14))}),
        Row(a_case(), {}, failed="skipped: not installed: cp"),
    ]
    assert summary(rows, Setting.DEFAULTS) == (
        "4 writers: 1 at once, 0 within settle, 1 at the grace age, 0 left alone, 0 never whole,"
        " 1 early, 0 twice, 0 foreign file, 1 cannot be known"
    )
    assert as_text(rows).splitlines()[-1].endswith("skipped: not installed: cp")
    assert len(as_markdown(rows).splitlines()) == 2 + len(rows)


@pytest.mark.parametrize(
    ("events", "told"),
    [
        ([event(1, "IN_MOVED_TO")], "renamed in"),
        ([event(1, "IN_MOVED_TO", source=".x")], "renamed from .x"),
        ([event(1, "IN_MOVED_TO"), event(2, "IN_CLOSE_WRITE")], "renamed in, open"),
        ([event(1, "IN_CREATE")], "linked"),
        (IN_PLACE, "in place, 1 close"),
        ([], "not seen"),
    ],
)
def test_the_events_say_how_it_was_committed(events, told):
    assert how(events, "x.csv") == told


def test_every_writer_has_a_name_of_its_own():
    names = [case.name for case in cases.CASES]
    assert len(set(names)) == len(names) > 95
    assert len(cases.UNKNOWABLE) < 6


def test_the_page_has_every_writer_once():
    rows = [line.split(" | ")[0] for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    for case in cases.CASES:
        assert f"| {case.name}" in rows, f"scripts/real_writers --page {PAGE.name} writes it"


def test_a_table_replaces_the_one_on_the_page():
    page = PAGE.read_text()
    written = on_page(page, "a table")
    assert "a table" in written
    assert on_page(written, "a table") == written
    assert len(written) < len(page)
