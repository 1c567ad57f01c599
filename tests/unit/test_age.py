"""Ages under every order of clock steps, changes and sweeps: never early, and never without end."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given, strategies as st

from watcher.rules import age
from watcher.rules.age import SECOND, STEP, Ages, Step, age_ns

GRACE = 300 * SECOND


class World:
    """A clock to turn by hand, and files whose true last change is known."""

    def __init__(self) -> None:
        self._real, self._mono = 1_700_000_000 * SECOND, 5_000 * SECOND
        self.files: dict[bytes, tuple[int, int]] = {}  # name -> ctime, the true moment (mono)

    def real(self) -> int:
        return self._real

    def mono(self) -> int:
        return self._mono

    def pass_time(self, nanoseconds: int) -> None:
        self._real += nanoseconds
        self._mono += nanoseconds

    def step(self, nanoseconds: int) -> None:
        self._real += nanoseconds

    def change(self, name: bytes) -> None:
        self.files[name] = (self._real, self._mono)


@pytest.fixture
def world():
    return World()


TENTH = SECOND // 10
NAMES = st.sampled_from([b"a.pck", b"b.pck"])
LENGTHS = st.one_of(
    st.integers(0, 20), st.integers(0, 40_000), st.just(3_000), st.just(36_000_000)
).map(lambda tenths: tenths * TENTH)
STEPS = st.one_of(
    st.integers(-10, 10), st.integers(-100_000, 100_000), st.sampled_from([-(10**10), 10**10])
).map(lambda tenths: tenths * TENTH)
MOVES = st.one_of(
    st.tuples(st.just("pass"), LENGTHS),
    st.tuples(st.just("step"), STEPS),
    st.tuples(st.just("change"), NAMES),
    st.tuples(st.just("look"), NAMES),
    st.tuples(st.just("sweep"), st.booleans()),
)


def play(world, ages, moves):
    """Make the moves; before a second step the clocks are compared, as each tick does."""
    looked = True
    for what, value in moves:
        world.pass_time(1)  # no two changes at one ctime, as on a disk
        if what == "pass":
            world.pass_time(value)
        elif what == "step":
            if not looked:
                ages.notice_step()
            world.step(value)
            looked = False
        elif what == "change":
            world.change(value)
        elif what == "sweep":
            ages.forget_unseen(lambda _name, kept=value: kept)
        elif value in world.files:
            looked = True
            yield value, ages.age(value, world.files[value][0])


@given(st.lists(MOVES, max_size=40), NAMES)
def test_no_file_is_called_older_than_it_is_by_more_than_the_smallest_step(moves, last):
    world = World()
    ages = Ages(world)
    moves = [("change", last), *moves, ("look", last)]
    for name, found in play(world, ages, moves):
        true = world.mono() - world.files[name][1]
        assert 0 <= found * SECOND <= true + STEP + 1_000


@given(st.lists(MOVES, max_size=40), NAMES)
def test_once_the_clock_stays_every_file_comes_of_age(moves, last):
    world = World()
    ages = Ages(world)
    for _ in play(world, ages, [*moves, ("change", last)]):
        pass
    ages.notice_step()
    # Its ctime may be in the future now and pass by later: then it counts anew, from then, once.
    for _try in range(4):
        left = GRACE - ages.age(last, world.files[last][0]) * SECOND
        if left <= 0:
            return
        for _sweep in range(5):  # sweeps pass it by: it has a timer
            ages.forget_unseen(lambda _name: True)
            world.pass_time(int(left / 5) + 1)
    pytest.fail("it waits without end")


@pytest.mark.parametrize(
    ("ctime", "real", "mono", "step", "first_seen", "expected"),
    [
        (100, 400, 50, None, None, 300),
        (400, 400, 50, None, None, 0),
        (500, 400, 50, None, None, 0),
        (500, 400, 50, None, 20, 30),
        (100, 9_000, 50, Step(8_990, 40), None, 10),
        (8_989, 9_000, 50, Step(8_990, 40), None, 10),
        (8_990, 9_000, 50, Step(8_990, 40), None, 10),
        (8_995, 9_000, 50, Step(8_990, 40), None, 5),
        (9_500, 9_000, 50, Step(8_990, 40), 45, 5),
    ],
    ids=[
        "by its ctime",
        "this instant",
        "future, never seen before",
        "future, seen before",
        "before the step",
        "just before the step",
        "at the step",
        "since the step",
        "future, after a step",
    ],
)
def test_the_rule(ctime, real, mono, step, first_seen, expected):
    assert age_ns(ctime, real, mono, step, first_seen) == expected


@pytest.mark.parametrize("hours", [-24 * 365, -1, 1, 24 * 365])
def test_a_step_makes_nothing_old_and_a_grace_age_later_it_is(world, hours):
    ages = Ages(world)
    world.change(b"x")
    world.pass_time(SECOND)
    world.step(hours * 3600 * SECOND)
    assert ages.age(b"x", world.files[b"x"][0]) <= 1.0
    world.pass_time(GRACE)
    assert ages.age(b"x", world.files[b"x"][0]) >= 300.0


def test_a_future_file_that_changes_again_counts_anew(world):
    ages = Ages(world)
    ctime = world.real() + 3600 * SECOND
    assert ages.age(b"x", ctime) == 0.0
    world.pass_time(100 * SECOND)
    assert ages.age(b"x", ctime) == 100.0
    assert ages.age(b"x", ctime + 1) == 0.0


def test_a_future_file_with_a_timer_keeps_its_first_sight_over_the_sweeps(world):
    ages = Ages(world)
    ctime = world.real() + 3600 * SECOND
    ages.age(b"x", ctime)
    for _sweep in range(5):
        world.pass_time(60 * SECOND)
        ages.forget_unseen(lambda name: name == b"x")
    assert ages.age(b"x", ctime) == 300.0


def test_names_that_are_not_asked_about_are_forgotten(world):
    ages = Ages(world)
    ctime = world.real() + 3600 * SECOND
    ages.age(b"x", ctime)
    ages.forget_unseen()
    ages.forget_unseen()
    world.pass_time(SECOND)
    assert ages.age(b"x", ctime) == 0.0


def test_memory_is_bounded(world, monkeypatch):
    monkeypatch.setattr(age, "MAX_FUTURE", 10)
    ages = Ages(world)
    ctime = world.real() + 3600 * SECOND
    for number in range(100):
        ages.age(b"%d" % number, ctime)
    world.pass_time(SECOND)
    remembered = sum(ages.age(b"%d" % number, ctime) == 1.0 for number in range(100))
    assert remembered == 10


def test_small_steps_do_not_add_up(world):
    ages = Ages(world)
    world.change(b"x")
    for _ in range(1_000):  # ntpd steps by less than a second
        world.step(9 * TENTH)
        ages.notice_step()
    assert ages.age(b"x", world.files[b"x"][0]) <= 1.0


def test_the_watcher_is_told_of_a_step_that_a_worker_ran_into(world):
    ages = Ages(world)
    assert not ages.notice_step()
    world.step(-3600 * SECOND)
    worker = threading.Thread(target=ages.age, args=(b"x", world.real()))
    worker.start()
    worker.join()
    assert ages.notice_step()
    assert not ages.notice_step()


def test_why_says_which_clock_an_age_comes_from(world):
    ages = Ages(world)
    world.change(b"x")
    ctime = world.files[b"x"][0]
    assert ages.why(ctime) == "by its ctime"
    assert "future" in ages.why(ctime + SECOND)
    world.pass_time(SECOND)
    world.step(3600 * SECOND)
    ages.notice_step()
    assert "stepped" in ages.why(ctime)
