"""What is said of a queue: what is wrong with one entry is over when it is over for that entry."""

from __future__ import annotations

import pytest

from watcher.observe import log
from watcher.observe.health import Health


@pytest.fixture
def told(monkeypatch):
    """What the log was told, in order; the clock of the troubles stands still."""
    words = []
    monkeypatch.setattr("time.monotonic", lambda: 7.0)

    def event(_queue, what, text, *_level):
        words.append((what, text))

    monkeypatch.setattr(log, "event", event)
    return words


def test_an_entry_that_is_well_says_nothing_of_another(told):
    health = Health("q")
    health.entry(b"bad", "bad: refused")
    for name in (b"good", b"bad too", b"good"):
        health.entry(name, "bad too: refused" if name == b"bad too" else None)
    assert str(health) == "bad: refused"
    health.entry(b"bad", None)
    assert str(health) == "bad too: refused"
    health.entry(b"bad too", None)
    assert health
    assert told == [
        ("unhealthy", "bad: refused"),
        ("unhealthy", "bad too: refused"),
        ("recovered", "over after 0ms: bad too: refused"),
    ]


def test_what_is_wrong_with_an_entry_may_change(told):
    health = Health("q")
    health.entry(b"bad", "full")
    health.entry(b"bad", "full")
    health.entry(b"bad", "denied")
    assert told == [("unhealthy", "full"), ("unhealthy", "denied")]


def test_the_end_of_a_trouble_repeats_its_beginning_with_how_long_it_was(told, monkeypatch):
    health = Health("q")
    health.trouble("mode", "the queue directory is not writable")
    health.trouble("disk", "full")
    monkeypatch.setattr("time.monotonic", lambda: 32.0)
    health.trouble("mode", None)
    health.trouble("mode", None)
    assert told[2:] == [("recovered", "over after 25s: the queue directory is not writable")]
    assert str(health) == "full"


def test_what_is_shown_of_a_trouble_may_change_without_a_line(told):
    health = Health("q")
    health.show("breaker", "next at 03:12:10")
    assert health, "there is no such trouble"
    health.trouble("breaker", "next at 03:12:10")
    health.show("breaker", "next at 03:12:40")
    assert str(health) == "next at 03:12:40"
    health.trouble("breaker", None)
    assert told == [
        ("unhealthy", "next at 03:12:10"),
        ("recovered", "over after 0ms: next at 03:12:10"),
    ]


def test_what_a_line_for_all_queues_tells_is_shown_and_not_logged_for_each(told):
    health = Health("q")
    health.quietly("reload", "not reloaded")
    assert str(health) == "not reloaded"
    health.quietly("reload", None)
    assert health
    assert not told
