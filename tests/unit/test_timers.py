"""Timers: each name once, moved forward only, bounded in names and in memory."""

from __future__ import annotations

from hypothesis import given, strategies as st

from watcher.daemon.timers import Due, Timers
from watcher.rules.evidence import Proof

NAMES = st.sampled_from([b"a", b"b", b"c", b"d"])
MOVES = st.one_of(
    st.tuples(st.just("set"), NAMES, st.integers(0, 9), st.sampled_from(Proof)),
    st.tuples(st.just("cancel"), NAMES, st.none(), st.none()),
    st.tuples(st.just("due"), st.none(), st.integers(0, 9), st.none()),
    st.tuples(st.just("next"), st.none(), st.none(), st.none()),
)


@given(st.lists(MOVES, max_size=60), st.integers(1, 4))
def test_every_order_of_moves(moves, limit):
    timers = Timers(limit)
    model: dict[bytes, tuple[int, Proof]] = {}
    for what, name, moment, proof in moves:
        if what == "set":
            known = model.get(name)
            earliest = all(moment < other for other, _ in model.values())
            taken = moment < known[0] if known else len(model) < limit
            said = timers.set(name, moment, proof)
            if taken:
                model[name] = (moment, proof)
            # "True when it is now the earliest": the daemon would sleep past it otherwise.
            assert said or not (taken and earliest)
            assert taken or not said
        elif what == "cancel":
            timers.cancel(name)
            model.pop(name, None)
        elif what == "due":
            expected = sorted((m, n) for n, (m, _) in model.items() if m <= moment)
            assert timers.due(moment) == [Due(n, model[n][1]) for _, n in expected]
            for _, n in expected:
                del model[n]
        else:
            assert timers.next() == min((m for m, _ in model.values()), default=None)
        assert len(timers) == len(model) <= limit
        assert {n for n in (b"a", b"b", b"c", b"d") if n in timers} == set(model)


def test_a_timer_is_moved_forward_never_back():
    timers = Timers()
    assert timers.set(b"a", 20.0, Proof.NONE)
    assert not timers.set(b"a", 30.0, Proof.NONE)
    assert timers.set(b"a", 10.0, Proof.NO_WRITER)
    assert timers.next() == 10.0
    assert timers.due(9.9) == []
    assert timers.due(10.0) == [Due(b"a", Proof.NO_WRITER)]
    assert timers.due(100.0) == []
    assert timers.next() is None


def test_one_that_finds_no_room_is_left_to_the_sweep():
    timers = Timers(2)
    assert timers.set(b"a", 1.0, Proof.NONE)
    timers.set(b"b", 2.0, Proof.NONE)
    assert not timers.set(b"c", 0.5, Proof.NONE)
    assert b"c" not in timers
    assert [due.name for due in timers.due(9.0)] == [b"a", b"b"]


def test_memory_is_bounded_however_often_a_name_is_set_and_cancelled():
    timers = Timers(100)
    for number in range(20_000):
        timers.set(b"%d" % (number % 100), 1e9 - number, Proof.NONE)
        if number % 3 == 0:
            timers.cancel(b"%d" % (number % 100))
    assert len(timers._heap) <= 1_000


def test_cancelled_and_set_again_it_is_due_once():
    timers = Timers()
    timers.set(b"a", 5.0, Proof.NONE)
    timers.cancel(b"a")
    timers.set(b"a", 5.0, Proof.NO_WRITER)
    assert timers.due(5.0) == [Due(b"a", Proof.NO_WRITER)]
    assert timers.due(5.0) == []


def test_that_a_name_found_no_room_is_told_once_when_there_is_room_again():
    timers = Timers(limit=4)
    for number in range(4):
        timers.set(b"%d" % number, float(number), Proof.NONE)
    assert not timers.overflowed()
    assert not timers.set(b"no room", 1.0, Proof.NONE)
    assert b"no room" not in timers
    timers.due(0.0)
    assert not timers.overflowed(), "three quarters of it are taken"
    timers.due(1.0)
    assert timers.overflowed()
    assert not timers.overflowed()
