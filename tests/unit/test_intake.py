"""Where what was noticed goes, as a table: to the workers, to a timer, or to the next scan."""

import pytest

from watcher.age import Ages
from watcher.arrive.intake import Intake
from watcher.arrive.scan import Mark, packed
from watcher.evidence import How
from watcher.spool.layout import Layout

GRACE = 300.0


class Clock:
    """Two clocks that stand still, a day after nothing."""

    def real(self):
        return 86_400 * 10**9

    mono = real


def intake(*, legacy=False, room=2):
    made = Intake(Layout(b".pck", False, legacy), Ages(Clock()), GRACE, lambda: 0.0)
    made.ready.limit = room
    made.begin_catch_up()
    made.end_scan()
    return made


def waiting(made):
    names = []
    while len(made.ready):
        names.append(made.ready.pop()[0])
    return names


def test_at_start_a_scan_is_wanted():
    assert Intake(Layout(b".pck", False, False), Ages(Clock()), GRACE, lambda: 0.0).scan_wanted


@pytest.mark.parametrize(
    ("catching_up", "anew", "wanted"),
    [(False, False, True), (True, False, False), (True, True, True)],
    ids=["nothing-under-way", "a-scan-finds-it", "its-order-is-in-doubt"],
)
def test_falling_behind_wants_a_scan_that_will_see_it(catching_up, anew, wanted):
    made = intake()
    made.catching_up = catching_up
    made.fall_behind(anew)
    assert (made.dropping, made.stirred, made.scan_wanted) == (True, True, wanted)


def test_what_has_no_room_or_is_dropped_wants_another_scan():
    made = intake(room=2)
    made.catching_up = True
    for name in (b"a.pck", b"b.pck", b"c.pck", b"d.pck"):
        made.offer(name, How.RENAMED)
    assert waiting(made) == [b"a.pck", b"b.pck"]
    assert not made.scan_wanted, "the one under way is not over"
    made.end_scan()
    assert made.scan_wanted


def test_a_backlog_is_fed_as_far_as_there_is_room_the_oldest_first():
    made = intake(room=2)
    left = [packed(moment, b"%d.pck" % moment) for moment in (3, 2, 1)]
    made.timers.set(b"2.pck", 60.0, How.SWEEP)
    made.feed(left)
    assert waiting(made) == [b"1.pck", b"2.pck"]
    assert left == [packed(3, b"3.pck")]
    assert b"2.pck" not in made.timers, "it is given out once"


@pytest.mark.parametrize(
    ("name", "how", "age", "orphans", "goes_to"),
    [
        (b"a.pck", How.SWEEP, 301, False, "ready"),
        (b"a.pck", How.SWEEP, 299, False, "timer"),
        (b"a.pck", How.CATCH_UP, 0, False, "ready"),  # renamed while nobody looked
        (b"a.msg", How.CATCH_UP, 0, False, "timer"),
        (b"a.msg", How.SWEEP, 301, False, "ready"),
        (b"a.db", How.SWEEP, 0, True, "ready"),  # its other half may be in orphans/
    ],
)
def test_a_scan_s_find_goes_where_its_age_says(name, how, age, orphans, goes_to):
    made = intake(legacy=True)
    made.orphans = orphans
    made.found(Mark(Clock().real() - age * 10**9, name), how)
    assert ("ready" if name in made.ready else "timer") == goes_to
    assert made.known(name)
    assert made.in_order(name) == (goes_to == "ready"), "who waits for its age may be taken sooner"


def test_while_behind_and_full_timers_wait_too():
    made = intake(room=4)
    assert made.keeps_time()
    made.offer(b"a.pck", How.RENAMED)
    made.offer(b"b.pck", How.RENAMED)
    made.fall_behind()
    assert not made.keeps_time()
    assert waiting(made)
    assert made.keeps_time()
