"""The text of the messages to the service manager, and whether a stop may take longer."""

from __future__ import annotations

import pytest

from watcher.rules.service_messages import (
    LONGEST,
    SETTLING,
    InHand,
    QueueState,
    extends,
    message,
    status_line,
)


def queue(name="a", ready=0, in_hand=0, **troubles):
    return QueueState(name, ready, in_hand, troubles)


@pytest.mark.parametrize(
    ("queues", "line"),
    [
        ([], "0 queues: 0 ready, 0 in hand"),
        ([queue(ready=3, in_hand=1)], "1 queue: 3 ready, 1 in hand"),
        ([queue("a", 1), queue("b", 2, 1)], "2 queues: 3 ready, 1 in hand"),
        ([queue("a", 1), queue("a", 0, 4)], "1 queue: 1 ready, 4 in hand"),
        (
            [queue("a"), queue("b", watch="gone\nREADY=1"), queue("c", disk="full")],
            "3 queues: 0 ready, 0 in hand; 2 in trouble: b: gone READY=1",
        ),
    ],
)
def test_the_status_is_one_line(queues, line):
    assert status_line(queues) == line


def test_a_long_trouble_is_cut():
    assert len(status_line([queue(watch="x" * 9999)])) == LONGEST


def test_a_value_cannot_set_another_variable():
    assert message(READY="1", STATUS="a\nWATCHDOG=1\0\udcff") == (
        b"READY=1\nSTATUS=a WATCHDOG=1\0\\udcff"
    )


@pytest.mark.parametrize(
    ("attempts", "more"),
    [
        ([], False),
        ([InHand(10.0, None)], False),
        ([InHand(10.0, 60.0)], True),
        ([InHand(10.0, None), InHand(10.0, 60.0)], True),
        ([InHand(60.0, 60.0)], True),  # its timeout ends it: that takes time, too
        ([InHand(60.0 + SETTLING, 60.0)], False),
    ],
)
def test_a_stop_takes_longer_while_a_timeout_will_end_a_handler(attempts, more):
    assert extends(attempts) is more
