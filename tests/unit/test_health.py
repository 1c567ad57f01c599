"""What is said of a queue: what is wrong with one entry is over when it is over for that entry."""

from __future__ import annotations

import pytest

from watcher.observe import log
from watcher.observe.health import Health


@pytest.fixture
def told(monkeypatch):
    """What the log was told, in order."""
    words = []

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
        ("recovered", "entry: works again"),
    ]


def test_what_is_wrong_with_an_entry_may_change(told):
    health = Health("q")
    health.entry(b"bad", "full")
    health.entry(b"bad", "full")
    health.entry(b"bad", "denied")
    assert told == [("unhealthy", "full"), ("unhealthy", "denied")]
