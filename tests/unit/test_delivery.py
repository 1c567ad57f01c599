"""What the deliveries of a message mean: attempts, crashes, and what is given back."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, strategies as st

from watcher.rules.delivery import MOST, Record, arrived, begins, early, failed, released

NOW = 1_800_000_000_000


def test_a_first_delivery_is_a_first_attempt():
    assert arrived(Record(), 1) == Record()


def test_a_delivery_without_a_record_is_an_attempt_and_perhaps_a_crash():
    """Its worker died with several messages in hand, and began one of them."""
    found = arrived(Record(), 2)
    assert (found.attempts, found.crashes, found.doubtful) == (1, 0, 1)


def test_a_message_that_kills_every_worker_counts_each_of_them():
    record, crashes = Record(), []
    for number in range(1, 6):
        record = arrived(record, number)
        crashes.append((record.attempts, record.crashes))
        if number > 1:
            record = begins(record, number)
    assert crashes == [(0, 0), (1, 0), (2, 2), (3, 3), (4, 4)]


def test_a_message_beside_one_that_kills_its_worker_never_counts_a_crash():
    """It came each time, and was never begun."""
    record = Record()
    for number in range(1, 50):
        record = arrived(record, number)
        assert record.crashes == 0
    assert record.attempts == 48


def test_of_deliveries_without_a_record_one_is_a_crash_at_most():
    """A server that died twice, and a worker that died once, made poison of what was handled."""
    record = arrived(Record(), 3)
    assert (record.attempts, record.crashes, record.doubtful) == (2, 0, 2)
    assert arrived(begins(record, 3), 4).crashes == 2


def test_what_was_recorded_is_no_crash():
    record = failed(Record(), NOW, NOW + 5, crashed=False)
    assert record == Record(attempts=1, first_ms=NOW, due_ms=NOW + 5, delay_ms=5)
    assert arrived(record, 2) == record
    record = begins(record, 2)
    assert arrived(failed(record, NOW, NOW, crashed=False), 3).crashes == 0
    record = released(record)
    assert arrived(record, 3) == record


def test_a_release_after_it_began_is_no_crash():
    """The worker drained: it gave the message back before the handler ran."""
    record = released(begins(arrived(Record(), 2), 2))
    assert arrived(record, 3).crashes == 0


def test_an_isolated_function_that_died_is_a_crash_that_is_known():
    record = failed(Record(), NOW, NOW, crashed=True)
    assert (record.attempts, record.crashes) == (1, 1)
    assert arrived(record, 2) == record


def test_a_count_of_the_server_that_is_too_small_makes_no_crash():
    record = Record(attempts=5, releases=5, begun=9)
    assert arrived(record, 1) == record
    assert arrived(record, 11) == record


def test_a_message_that_comes_before_its_moment_waits_for_the_rest():
    record = Record(attempts=1, due_ms=NOW + 1500, delay_ms=1500)
    assert early(record, NOW) == 1.5
    assert early(record, NOW + 1499) == 0.001
    assert early(record, NOW + 1500) == 0.0
    assert early(record, NOW + 9999) == 0.0
    assert early(Record(), NOW) == 0.0


def test_a_clock_that_was_set_back_makes_no_message_wait_for_longer_than_its_delay():
    record = failed(Record(), NOW, NOW + 1500, crashed=False)
    assert early(record, NOW - 1) == 0.0
    assert early(record, NOW - 10 * 365 * 86_400_000) == 0.0


def test_a_record_of_another_message_with_the_same_number_counts_nothing():
    """The stream was made anew, or the server lost what it had not synced."""
    record = failed(Record(stored_us=7), NOW, NOW + 5000, crashed=True)
    assert Record.read(record.format(), 7) == record
    assert Record.read(record.format(), 8) == Record(stored_us=8)


def test_the_first_failure_stays_the_first():
    record = failed(failed(Record(), NOW, NOW, crashed=False), NOW + 5000, NOW, crashed=False)
    assert record.first_ms == NOW
    assert record.waited(NOW + 7000) == 7.0
    assert Record().waited(NOW) == 0.0


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b"\xff",
        b'{"attempts": -1}',
        b'{"attempts": true}',
        b'{"attempts": 1e400}',
        b'{"remembered": 7}',
        b'{"first_ms": "x"}',
        b'{"attempts": 99999999999999999999999}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_record_says_nothing(data):
    assert Record.read(data, 0) == Record()


COUNTS = st.integers(0, MOST - 1)
VALUES = st.integers() | st.text() | st.lists(st.text())
RECORDS = st.builds(Record, *[COUNTS] * 9, st.dictionaries(st.text(), VALUES))


@given(RECORDS)
def test_a_record_is_read_as_it_was_written(record):
    assert Record.read(record.format(), record.stored_us) == record
    json.loads(record.format())


ENDS = st.sampled_from(["failed", "crashed", "released", "died", "died before it began"])


@given(st.lists(ENDS, max_size=20))
def test_no_order_of_ends_makes_a_crash_without_a_death(ends):
    record, deaths, attempts = Record(), 0, 0
    for number, end in enumerate(ends, 1):
        record = arrived(record, number)
        assert record.crashes <= deaths
        assert record.attempts >= attempts
        attempts = record.attempts
        if end == "died before it began":
            deaths += 1  # a worker died
            continue
        if number > 1:
            record = begins(record, number)
        if end == "failed":
            record = failed(record, NOW, NOW, crashed=False)
        elif end == "crashed":
            record, deaths = failed(record, NOW, NOW, crashed=True), deaths + 1
        elif end == "released":
            record = released(record)
        else:
            deaths += 1
