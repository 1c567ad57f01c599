"""Where what was noticed goes, as a table: to the workers, to a timer, or to the next scan."""

import pytest

from watcher.arrive.scan import ScanPosition, packed
from watcher.daemon.pending import Pending
from watcher.rules.age import Ages
from watcher.rules.behind import Cause, Mode
from watcher.rules.evidence import Proof
from watcher.rules.names import Layout

GRACE = 300.0


class Clock:
    """Two clocks that stand still, a day after nothing."""

    def real(self):
        return 86_400 * 10**9

    mono = real


def intake(*, legacy=False, room=2):
    made = Pending(Layout(b".pck", False, legacy), Ages(Clock()), GRACE, lambda: 0.0)
    made.limit = room
    made.mode = Mode.CURRENT
    return made


def waiting(made):
    names = []
    while len(made):
        names.append(made.pop()[0])
    return names


def test_at_start_a_scan_is_wanted():
    assert (
        Pending(Layout(b".pck", False, False), Ages(Clock()), GRACE, lambda: 0.0).mode
        is Mode.WANTED
    )


@pytest.mark.parametrize(
    ("mode", "anew", "then"),
    [
        (Mode.CURRENT, False, Mode.BEHIND),
        (Mode.SCANNING, False, Mode.SCANNING_BEHIND),
        (Mode.SCANNING, True, Mode.AGAIN_BEHIND),
    ],
    ids=["nothing-under-way", "a-scan-finds-it", "its-order-is-in-doubt"],
)
def test_falling_behind_wants_a_scan_that_will_see_it(mode, anew, then):
    made = intake()
    made.mode = mode
    made.fall_behind(anew)
    assert (made.mode, made.tick_due) == (then, True)


def test_what_has_no_room_or_is_dropped_wants_another_scan():
    made = intake(room=2)
    made.mode = Mode.SCANNING
    for name in (b"a.pck", b"b.pck", b"c.pck", b"d.pck"):
        made.add((name,), Proof.RENAMED)
    assert waiting(made) == [b"a.pck", b"b.pck"]
    assert made.mode is Mode.AGAIN_BEHIND, "the one under way is not over"
    made.change(Cause.END)
    assert made.mode is Mode.BEHIND


def test_a_backlog_is_fed_as_far_as_there_is_room_the_oldest_first():
    made = intake(room=2)
    left = [packed(moment, b"%d.pck" % moment) for moment in (3, 2, 1)]
    made.timers.set(b"2.pck", 60.0, Proof.NONE)
    made.feed(left)
    assert waiting(made) == [b"1.pck", b"2.pck"]
    assert left == [packed(3, b"3.pck")]
    assert b"2.pck" not in made.timers, "it is given out once"


@pytest.mark.parametrize(
    ("name", "proof", "age", "orphans", "goes_to"),
    [
        (b"a.pck", Proof.NONE, 301, False, "ready"),
        (b"a.pck", Proof.NONE, 299, False, "timer"),
        (b"a.pck", Proof.NO_WRITER, 0, False, "ready"),  # renamed while no event was read
        (b"a.msg", Proof.NO_WRITER, 0, False, "timer"),
        (b"a.msg", Proof.NONE, 301, False, "ready"),
        (b"a.db", Proof.NONE, 0, True, "ready"),  # its other half may be in orphans/
    ],
)
def test_a_scan_s_find_goes_where_its_age_says(name, proof, age, orphans, goes_to):
    made = intake(legacy=True)
    made.orphans = orphans
    made.found(ScanPosition(Clock().real() - age * 10**9, name), proof)
    assert ("ready" if made.is_ready(name) else "timer") == goes_to
    assert made.known(name)
    assert made.in_order(name) == (goes_to == "ready"), (
        "an entry that waits for its age may be taken sooner"
    )


def test_while_behind_and_full_timers_wait_too():
    made = intake(room=4)
    assert made.keeps_time()
    made.add((b"a.pck",), Proof.RENAMED)
    made.add((b"b.pck",), Proof.RENAMED)
    made.fall_behind()
    assert not made.keeps_time()
    assert waiting(made)
    assert made.keeps_time()


def test_other_rules_for_names_take_what_was_renamed_in_and_is_an_entry_now():
    """What else waits is judged anew by the scan that follows."""
    before, after = (
        Pending(Layout(raw=True, suffix=suffix), Ages(Clock()), GRACE, lambda: 0.0)
        for suffix in (b"", b".csv")
    )
    before.fill([b"a.csv", b"b.txt"], Proof.RENAMED, 7)
    before.fill([b"c.csv"], Proof.NONE)
    before.timers.set(b"d.csv", 5.0, Proof.RENAMED, 8)
    before.timers.set(b"e.csv", 5.0, Proof.NONE, young=True)
    after.take_renamed(before)
    assert before.pop() is None, "it gives out no more"
    assert after.pop() == (b"a.csv", Proof.RENAMED, 7)
    assert not len(after)
    assert list(after.timers.names) == [b"d.csv"]


def test_the_settings_after_a_reload_take_what_waits_with_its_proof():
    before, after = intake(room=9), intake(room=9)
    before.fill([b"a.pck", b"b.pck"], Proof.RENAMED, 7)
    before.timers.set(b"later.pck", 5.0, Proof.RENAMED, 8)
    before.timers.set(b"young.pck", 5.0, Proof.NONE, young=True)
    after.take_over(before)
    assert before.pop() is None, "it gives out no more"
    assert len(after) == len([b"a.pck", b"b.pck"])
    assert after.pop() == (b"a.pck", Proof.RENAMED, 7)
    assert waiting(after) == [b"b.pck"]
    assert [(due.name, due.proof, due.event_time_ns) for due in after.timers.due(5.0)] == [
        (b"later.pck", Proof.RENAMED, 8)
    ], "the scan judges the age of the young one"
