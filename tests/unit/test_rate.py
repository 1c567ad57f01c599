"""A rate as people write it, and the pace that follows of it."""

from __future__ import annotations

import threading
import time

import pytest

from watcher.operate.pace import groups
from watcher.rules.rate import parse_rate


@pytest.mark.parametrize(
    ("text", "rate"),
    [("5/s", 5.0), ("10/m", 1 / 6), (" 7200/h ", 2.0), ("0.5/s", 0.5), ("1000000/s", 1e6)],
)
def test_a_rate_is_so_many_a_second(text, rate):
    assert parse_rate(text) == pytest.approx(rate)


@pytest.mark.parametrize("text", ["", "5", "5/", "/s", "0/s", "-1/s", "5/d", "5 / s", "inf/s"])
def test_what_is_no_rate_says_what_is(text):
    with pytest.raises(ValueError, match="5/s, 10/m or 200/h"):
        parse_rate(text)


@pytest.mark.parametrize("rate", [None, 1e9, 400.0, 40.0])
def test_all_come_in_order_and_no_faster_than_the_rate(rate):
    entries = list(range(41))
    began, came = time.monotonic(), []
    for group in groups(entries, rate, threading.Event()):
        came += group
        if rate is not None:
            passed = time.monotonic() - began
            most = max(1, rate * 0.1)  # one group
            assert len(came) <= passed * rate + most
    assert came == entries


def test_no_group_begins_after_the_stop_and_no_wait_goes_on():
    stop, came = threading.Event(), []
    began = time.monotonic()
    for group in groups([1, 2, 3], 1 / 3600, stop):
        came += group
        stop.set()
    assert came == [1]
    assert time.monotonic() - began < 60
