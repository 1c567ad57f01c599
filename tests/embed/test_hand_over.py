"""Where worker threads and takers meet: which taker is given what, how many may be in hand."""

from __future__ import annotations

import threading
import types

from watcher.handle.hand_over import RELEASED
from watcher.rules.results import DONE, HANDLED


class Taker:
    """Keeps what it is given; `gone`: it takes nothing."""

    def __init__(self, owner=None, *, gone=False):
        self.owner = owner
        self.given = []
        self.came = threading.Event()
        self._gone = gone

    def give(self, in_hand):
        self.given.append(in_hand)
        self.came.set()
        return not self._gone


def worker(hand_over, name="a"):
    """Run one attempt in a thread of its own; return the thread, and a list for the result."""
    results = []

    def attempt():
        results.append(hand_over.run(types.SimpleNamespace(name=name)))
        hand_over.settled(DONE)

    thread = threading.Thread(target=attempt)
    thread.start()
    return thread, results


def test_the_taker_that_waits_for_longest_is_given_the_entry(hand_over):
    first, second = Taker(), Taker()
    hand_over.ask(first)
    hand_over.ask(second)
    thread, results = worker(hand_over)
    assert first.came.wait(20)
    assert second.given == []
    assert hand_over.limits[-1] == 2
    hand_over.say(first.given[0], HANDLED)
    thread.join(20)
    assert results == [HANDLED]
    assert hand_over.limits == [1, 2, 1]


def test_an_entry_for_which_no_taker_waits_goes_back(hand_over):
    taker = Taker()
    hand_over.ask(taker)
    assert hand_over.leave(taker)
    assert not hand_over.leave(taker)
    assert hand_over.run(types.SimpleNamespace()) is RELEASED
    assert hand_over.limits == [1, 0, 0]


def test_an_entry_whose_taker_has_gone_goes_back(hand_over):
    hand_over.ask(Taker(gone=True))
    assert hand_over.run(types.SimpleNamespace()) is RELEASED


def test_the_first_word_counts(hand_over):
    taker = Taker(owner="me")
    hand_over.ask(taker)
    thread, results = worker(hand_over)
    assert taker.came.wait(20)
    assert hand_over.waits_for("me") is taker.given[0]
    assert hand_over.waits_for("another") is None
    assert hand_over.say(taker.given[0], HANDLED)
    assert not hand_over.say(taker.given[0], RELEASED)
    thread.join(20)
    assert results == [HANDLED]
    assert hand_over.waits_for("me") is None


def test_after_the_end_every_taker_is_given_none_and_nothing_is_handed_over(hand_over):
    before, later = Taker(), Taker()
    hand_over.ask(before)
    hand_over.end()
    hand_over.ask(later)
    assert (before.given, later.given) == ([None], [None])
    assert hand_over.run(types.SimpleNamespace()) is RELEASED
    hand_over.set_limit()
    assert hand_over.limits[-1] == 0


def test_terminate_gives_back_what_has_no_word(hand_over):
    taker = Taker()
    hand_over.ask(taker)
    thread, results = worker(hand_over)
    assert taker.came.wait(20)
    hand_over.terminate()
    thread.join(20)
    assert results == [RELEASED]


def test_a_worker_that_lingers_goes_on_at_the_next_ask(hand_over, monkeypatch):
    monkeypatch.setattr("watcher.handle.hand_over.LINGER", 20)
    thread = threading.Thread(target=hand_over.linger)
    thread.start()
    while not hand_over._lingering:
        thread.join(0.001)
    hand_over.ask(Taker())
    thread.join(10)
    assert not thread.is_alive()
    hand_over.linger()  # a taker waits already: it returns at once
