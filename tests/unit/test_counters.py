"""What became of attempts: exact counts, times within a bucket, and no more memory than an hour."""

from __future__ import annotations

import sys
import threading

import pytest
from hypothesis import given, strategies as st

from watcher.observe.counters import (
    BOUNDS,
    MOST_KINDS,
    SAMPLE_EVERY,
    SAMPLES,
    SLOT,
    STAGES,
    Counters,
    Ended,
    percentiles,
)

START = 1_000_000.0  # on the monotonic clock
NO_TIME = (0.0, 0.0, 0.0)
HANDLED, FAILED, REJECTED = Ended


@pytest.fixture
def counters():
    return Counters()


def test_an_attempt_leaves_each_window_when_its_time_is_over(counters):
    counters.add(HANDLED, START, NO_TIME)
    counters.add(FAILED, START + 1, NO_TIME, "no route")
    counters.add(REJECTED, START + 2, NO_TIME, "no message")
    counters.add(HANDLED, START + 240, NO_TIME)
    assert counters.windows(START + 240) == {"1m": (1, 0, 0), "5m": (2, 1, 1), "60m": (2, 1, 1)}
    assert counters.windows(START + 400) == {"1m": (0, 0, 0), "5m": (1, 0, 0), "60m": (2, 1, 1)}
    assert counters.windows(START + 3605) == {"1m": (0,) * 3, "5m": (0,) * 3, "60m": (1, 0, 0)}
    assert counters.windows(START + 9e6) == dict.fromkeys(("1m", "5m", "60m"), (0, 0, 0))
    assert counters.attempts == 4


@given(st.lists(st.tuples(st.floats(0, 900), st.sampled_from(Ended)), max_size=60))
def test_the_windows_have_what_a_list_of_all_attempts_has(steps):
    counters, now, known = Counters(), START, []
    for step, ended in steps:
        now += step
        counters.add(ended, now, NO_TIME)
        known.append((now, ended))
    for name, slots in (("1m", 6), ("5m", 30), ("60m", 360)):
        first = (int(now / SLOT) - slots + 1) * SLOT
        expected = [sum(each is ended for when, each in known if when >= first) for ended in Ended]
        assert list(counters.windows(now)[name]) == expected


def test_failures_in_a_row_end_with_a_success(counters):
    for ended, row in ((FAILED, 1), (FAILED, 2), (REJECTED, 2), (HANDLED, 0), (FAILED, 1)):
        counters.add(ended, START, NO_TIME, "x")
        assert counters.in_a_row == row
    assert counters.last_success == START


@pytest.mark.parametrize("seconds", [1e-6, 0.00025, 0.25, 0.49, 0.5, 1.0, 3.0, 86_400.0])
def test_a_time_is_known_within_six_percent(counters, seconds):
    for _ in range(99):
        counters.add(HANDLED, START, (seconds, 0.0, -5.0))
    counters.add(HANDLED, START, (1e6, 0.0, 0.0))
    times = counters.times(START)
    assert times["wait"].p50 == times["wait"].p99 == pytest.approx(seconds, rel=0.0625)
    assert times["handler"].p99 < 2e-6, "no time, and one before its time"
    assert times["settle"].p99 < 2e-6
    assert counters.times(START + 4300)["wait"] == (0, 0.0, 0.0)


@given(st.lists(st.tuples(st.integers(-160, 160), st.integers(1, 9)), min_size=1))
def test_percentiles_are_those_of_the_sorted_values(buckets):
    every = sorted(key for key, count in buckets for _ in range(count))
    found = percentiles([buckets])
    for share, value in ((0.5, found.p50), (0.99, found.p99)):
        rank = next(at for at in range(1, len(every) + 1) if at >= share * len(every))
        alone = percentiles([[(every[rank - 1], 1)]])
        assert value == alone.p50
    assert found.attempts == len(every)


def test_in_a_storm_a_sample_stands_for_the_others(counters):
    for number in range(50_000):
        counters.add(HANDLED, START, (0.001 if number % 10 else 0.1, 0.0, 0.0))
    assert counters.windows(START)["1m"] == (50_000, 0, 0)
    wait = counters.times(START)["wait"]
    assert wait.attempts == pytest.approx(50_000, abs=SAMPLES + SAMPLE_EVERY)
    assert wait.p50 == pytest.approx(0.001, rel=0.0625)
    assert wait.p99 == pytest.approx(0.1, rel=0.0625)


def test_a_histogram_has_each_time_in_the_first_bucket_that_it_fits_in(counters):
    for bound in BOUNDS:
        counters.add(HANDLED, START, (bound, bound * 1.0001, -1.0))
    stages = counters.totals().stages
    assert stages["wait"].counts == (*[1] * len(BOUNDS), 0), "a bound is in its bucket"
    assert stages["handler"].counts == (0, *[1] * len(BOUNDS))
    assert stages["settle"].counts == (len(BOUNDS), *[0] * len(BOUNDS)), "before its time"
    assert stages["wait"].seconds == pytest.approx(sum(BOUNDS))
    assert tuple(sorted(set(BOUNDS))) == BOUNDS


def test_a_storm_is_in_the_histograms_to_the_last_attempt(counters):
    ended = [Ended(number % 3) for number in range(20_000)]
    for number, how in enumerate(ended):
        when = START + number / 1013  # seconds: two slots
        counters.add(how, when, (0.0011, 0.3 if number % 10 else 40.0, 0.0), "x")
        if number % 1009 == 0:  # in between two samples
            totals = counters.totals()
            for stage in totals.stages.values():
                assert sum(stage.counts) == counters.attempts == number + 1
    totals = counters.totals()
    assert totals[:3] == tuple(ended.count(how) for how in Ended)
    assert set(totals.stages) == set(STAGES)
    handler = totals.stages["handler"]
    assert sum(handler.counts) == 20_000
    assert handler.counts[BOUNDS.index(60.0)] == pytest.approx(2_000, rel=0.2)
    assert handler.seconds == pytest.approx(18_000 * 0.3 + 2_000 * 40, rel=0.2)


@given(st.lists(st.tuples(st.integers(1, 400), st.floats(-1, 1e5)), max_size=30))
def test_no_number_of_a_histogram_shrinks(runs):
    counters = Counters()
    before = counters.totals()
    for attempts, seconds in runs:
        for _ in range(attempts):
            counters.add(HANDLED, START, (seconds,) * 3)
        totals = counters.totals()
        for stage in STAGES:
            earlier, later = before.stages[stage], totals.stages[stage]
            assert all(was <= now for was, now in zip(earlier.counts, later.counts, strict=True))
            assert earlier.seconds <= later.seconds
            assert sum(later.counts) == counters.attempts
        before = totals


def test_failures_are_counted_by_kind_for_an_hour(counters):
    counters.add(FAILED, START, NO_TIME, "10.0.0.1: refused")
    counters.add(FAILED, START + 700, NO_TIME, "10.0.0.2: refused")
    counters.add(REJECTED, START + 701, NO_TIME, "damaged")
    assert [tuple(kind)[1:] for kind in counters.failures(START + 702)] == [
        (2, START, START + 700),
        (1, START + 701, START + 701),
    ]
    (refused, _) = counters.failures(START + 3700)
    assert tuple(refused)[1:] == (1, START + 700, START + 700)
    assert counters.failures(START + 5000) == []


def test_the_kind_that_did_not_come_for_longest_is_forgotten(counters):
    words = ["".join(chr(97 + int(digit)) for digit in f"{n:03}") for n in range(MOST_KINDS + 5)]
    counters.add(FAILED, START, NO_TIME, words[0])
    for word in words:
        counters.add(FAILED, START, NO_TIME, words[0])
        counters.add(FAILED, START, NO_TIME, word)
    found = {kind.reason for kind in counters.failures(START)}
    assert found == {words[0], *words[-MOST_KINDS + 1 :]}


def test_memory_does_not_grow_with_attempts_or_hours(counters):
    def size():
        parts = [counters._counts, counters._buckets, counters._past, counters._kinds]
        return sum(map(sys.getsizeof, parts)) + sum(
            sys.getsizeof(buckets) for each in counters._past.values() for buckets in each
        )

    def hours(first, last):
        for number in range(first * 600, last * 600):
            times = (1.5 ** (number % 60 - 30),) * 3
            counters.add(Ended(number % 3), START + number * 6, times, "abc"[number % 3] * 9)

    hours(0, 2)
    before = size()
    hours(2, 12)
    assert size() <= before


def test_no_attempt_of_two_threads_is_lost(counters):
    def add():
        for _ in range(3000):
            counters.add(HANDLED, START, NO_TIME)

    threads = [threading.Thread(target=add) for _ in range(4)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert counters.windows(START)["60m"] == (12_000, 0, 0)
    assert [sum(each.counts) for each in counters.totals().stages.values()] == [12_000] * 3
