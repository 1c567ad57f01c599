"""Which queues are ticked when the daemon's thread wakes (no daemon, no clock)."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, strategies as st

from watcher.daemon.rounds import EACH, Rounds


class Queue:
    """A queue worker that counts its ticks."""

    def __init__(self, tag, due=math.inf):
        self.tag, self.due, self.ticks = tag, due, 0

    def tick(self):
        self.ticks += 1
        return self.due


@pytest.fixture
def rounds():
    return Rounds()


def test_a_new_queue_is_ticked_at_the_next_wake(rounds):
    queues = [Queue(1), Queue(2)]
    assert rounds.tick(queues, 10.0) == math.inf
    queues.append(Queue(3))
    rounds.tick(queues, 10.0)
    assert [queue.ticks for queue in queues] == [1, 1, 1]


def test_a_wake_ticks_what_asked_and_what_is_due_and_soon_after_all_of_them(rounds):
    queues = [Queue(1), Queue(2, due=10.0005), Queue(3)]
    assert rounds.tick(queues, 10.0) == 10.0005
    rounds.ask(3)
    again = rounds.tick(queues, 10.001)
    assert [queue.ticks for queue in queues] == [1, 2, 2]
    queues[1].due = math.inf
    assert again <= 10.0 + 3 * EACH
    assert rounds.tick(queues, 10.0 + 3 * EACH) == math.inf
    assert [queue.ticks for queue in queues] == [2, 3, 3]


def test_an_idle_daemon_is_not_woken(rounds):
    queues = [Queue(tag) for tag in range(1000)]
    assert rounds.tick(queues, 10.0) == math.inf


def test_a_queue_that_is_gone_and_asks_changes_nothing(rounds):
    rounds.tick([Queue(1)], 10.0)
    rounds.ask(7)
    rounds.tick([], 10.0)
    assert rounds.tick([], 20.0) == math.inf


@given(st.lists(st.tuples(st.floats(0.0, 0.01), st.sets(st.integers(0, 9))), max_size=30))
def test_in_every_order_of_wakes_none_waits_longer_than_a_round(wakes):
    """Also a queue that has something due and did not say so."""
    rounds, queues, now = Rounds(), [Queue(tag) for tag in range(10)], 100.0
    rounds.tick(queues, now)
    ticked = dict.fromkeys(range(10), now)
    for step, asking in wakes:
        now += step
        for tag in asking:
            rounds.ask(tag)
        before = [queue.ticks for queue in queues]
        rounds.tick(queues, now)
        for queue, count in zip(queues, before, strict=True):
            if queue.ticks > count:
                ticked[queue.tag] = now
        assert all(ticked[tag] == now for tag in asking)
    due = rounds.tick(queues, now)
    assert due == math.inf or due - now <= 10 * EACH + 1e-9
