"""When an attempt that lasts for long is told of, by a clock that the test moves."""

from __future__ import annotations

import math

import pytest

from watcher.daemon.long_attempts import HANGING, Long, LongAttempts
from watcher.observe import log
from watcher.observe.health import Health

AFTER = 600.0  # seconds


@pytest.fixture
def told(monkeypatch):
    """What the log was told of attempts that last."""
    words = []

    def event(_queue, what, text, *_level):
        if what == HANGING:
            words.append(text)

    monkeypatch.setattr(log, "event", event)
    return words


def test_an_attempt_is_told_of_after_a_while_and_then_ever_less_often(told):
    health, in_hand = Health("q"), [Long("a", 4711, 1000.0)]
    attempts = LongAttempts("q", AFTER, health, lambda: in_hand)
    assert attempts.tick(1000.5) == 1000.0 + AFTER, "one moment to wake at"
    assert attempts.tick(1599.9) == 1600.0
    assert not told
    assert health
    assert attempts.tick(1600.0) == 1000.0 + 2 * AFTER
    cure = "`watcher abort` ends it; set a timeout if its handler hangs"
    assert told == [f"a: in hand for 10m by process 4711; {cure}"]
    assert "a: in hand since " in health.troubles[HANGING]
    attempts.tick(1700.0)
    assert len(told) == 1
    assert attempts.tick(2200.0) == 1000.0 + 4 * AFTER
    assert len(told) == 2
    in_hand.clear()
    assert attempts.tick(2300.0) == math.inf, "nothing is in hand: no wake-up"
    assert health


def test_each_attempt_is_told_of_for_itself_and_the_longest_is_shown(told):
    health = Health("q")
    in_hand = [Long("late", None, 1300.0), Long("long", 12, 1000.0), Long("new", 13, 1890.0)]
    attempts = LongAttempts("q", AFTER, health, lambda: in_hand)
    assert attempts.tick(1900.0) == 1000.0 + 2 * AFTER
    assert [text.partition(":")[0] for text in told] == ["long", "late"]
    assert health.troubles[HANGING].startswith("long: in hand since ")
    assert ", and 1 more for long" in health.troubles[HANGING]
    del in_hand[1]
    attempts.tick(1901.0)
    assert health.troubles[HANGING].startswith("late: in hand since ")
    in_hand[0] = Long("late", None, 1902.0)
    attempts.tick(1903.0)
    assert health, "the same entry in another attempt"
    assert len(told) == 2


def test_it_can_be_turned_off(told):
    attempts = LongAttempts("q", 0.0, Health("q"), lambda: [Long("a", 1, 0.0)])
    assert attempts.tick(1e9) == math.inf
    assert not told
