"""What the log says: an operator's words as text, the names of events and moves as JSON."""

from __future__ import annotations

import json
import logging
import re
import time

import pytest

from watcher.observe import log
from watcher.rules.lifecycle import TABLE, Move, State, Transition

STAMP = r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} "


@pytest.fixture
def lines():
    """Log the given calls; return the text lines without their time, and the JSON records."""
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    level, handlers = log.log.level, log.log.handlers[:]
    log.log.handlers[:] = [handler]
    log.log.setLevel(logging.DEBUG)

    def shown():
        text = [log.Text().format(record) for record in records]
        assert all(re.match(STAMP, line) for line in text)
        return [re.sub(STAMP, "", line) for line in text], [
            json.loads(log.Json().format(record)) for record in records
        ]

    yield shown
    log.log.handlers[:] = handlers
    log.log.setLevel(level)


def test_what_a_handler_called_done_is_handled(lines):
    log.transition(Transition("q", b"a", Move.FINISH, State.DONE, "", 0.0123))
    (text,), (record,) = lines()
    assert text == "q: a handled in 12 ms"
    del record["time"]
    assert record == {
        "level": "info", "event": "finish", "queue": "q", "entry": "a", "state": "done",
        "seconds": 0.0123,
    }  # fmt: skip


def test_a_failed_attempt_says_when_the_next_one_is(lines):
    due = time.time() + 86_400
    log.transition(Transition("q", b"a", Move.DEFER, State.DEFERRED, "exit status 75", 12.04, due))
    (text,), (record,) = lines()
    at = time.strftime("%Y-%m-%d %H:%M", time.localtime(due))
    assert text == f"q: a failed, next try at {at} (after 12.0 s): exit status 75"
    assert record.keys() == {
        "time",
        "level",
        "event",
        "queue",
        "entry",
        "state",
        "detail",
        "seconds",
    }
    assert record["event"] == "defer"


def test_a_time_of_today_is_shown_without_its_date():
    now = time.time()
    assert log.clock_time(now) == time.strftime("%H:%M", time.localtime(now))
    assert log.clock_time(0) == time.strftime("%Y-%m-%d %H:%M", time.localtime(0))


@pytest.mark.parametrize("move", Move)
def test_every_move_has_words_and_no_arrow(lines, move):
    state = next(end for (_, each), end in TABLE.items() if each is move)
    log.transition(Transition("q", b"a", move, state, "why"))
    (text,), (record,) = lines()
    assert text == f"q: a {log.MOVES[move]}: why"
    assert "->" not in text
    assert (record["event"], record["state"]) == (move.value, state.value)


def test_a_queue_that_is_armed_is_watching(lines):
    log.event("q", "armed", "/q is watched by inotify")
    log.event("", "drained", "in 0.1 s")
    text, records = lines()
    assert text == ["q: watching: /q is watched by inotify", "drained: in 0.1 s"]
    assert [record["event"] for record in records] == ["armed", "drained"]


def test_a_name_with_a_line_break_stays_on_one_line(lines):
    log.transition(Transition("q", b"a\nb", Move.FINISH, State.DONE, "two\nlines"))
    (text,), _records = lines()
    assert "\n" not in text
