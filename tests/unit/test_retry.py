"""The retry policy as a table: when the next attempt is, and when there is none."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import assume, given, settings, strategies as st

from watcher.durations import LONGEST
from watcher.rules.retry import Policy

DAY = 86400.0
EVEN = Policy(jitter=0.0)


def never():
    raise AssertionError("chance was asked")


def lived(policy, after=lambda _attempt: None, chance=lambda: 0.5):
    """Return the delays of an entry all of whose attempts fail at once."""
    delays = []
    for attempt in itertools.count(1):
        wait = policy.next(attempt, sum(delays), after(attempt), chance)
        if wait is None:
            break
        delays.append(wait)
    return delays


@pytest.mark.parametrize(
    ("attempts", "seconds"),
    [(1, 30.0), (2, 60.0), (3, 120.0), (7, 1920.0), (8, 3600.0), (9, 3600.0), (999, 3600.0)],
)
def test_the_default_is_30_s_doubling_to_an_hour(attempts, seconds):
    assert EVEN.next(attempts, 0.0, None, lambda: 1.0) == seconds
    assert Policy().next(attempts, 0.0, None, lambda: 0.0) == seconds
    assert Policy().next(attempts, 0.0, None, lambda: 1.0) == pytest.approx(seconds * 1.1)


def test_the_default_gives_up_after_five_days_by_age_and_not_by_attempts():
    delays = lived(EVEN)
    assert sum(delays) == 5 * DAY
    assert len(delays) == 126
    assert len(delays) * 5 < Policy().max_attempts
    without_jitter, with_jitter = len(delays), len(lived(Policy()))
    assert without_jitter * 0.9 < with_jitter < without_jitter


@pytest.mark.parametrize(
    ("multiplier", "delays"),
    [
        (1.0, [2.0, 2.0, 2.0, 2.0, 2.0]),
        (1.5, [2.0, 3.0, 4.5, 6.75, 10.0]),
        (10, [2.0, 10.0, 10.0, 10.0, 10.0]),
    ],
)
def test_it_grows_by_the_multiplier_up_to_max(multiplier, delays):
    policy = Policy(initial=2.0, max=10.0, multiplier=multiplier, jitter=0.0, max_attempts=6)
    assert lived(policy) == delays


def test_max_attempts_counts_the_first_attempt_too():
    assert Policy(max_attempts=1).next(1, 0.0, None, never) is None
    assert len(lived(Policy(max_attempts=2))) == 1
    assert Policy(max_attempts=2).next(1, 0.0, 5.0, never) == 5.0
    assert Policy(max_attempts=2).next(2, 0.0, 5.0, never) is None


def test_the_last_attempt_is_made_at_the_age_at_which_it_gives_up():
    policy = Policy(initial=30.0, give_up_after=100.0, jitter=0.0)
    assert lived(policy) == [30.0, 60.0, 10.0]
    assert policy.next(3, 90.0, 86400.0, never) == 10.0
    assert policy.next(4, 100.0, None, never) is None
    assert policy.next(4, 99.995, None, never) is None  # a stamp has milliseconds: no attempt for 5
    assert policy.next(4, 1e12, 0.0, never) is None


def test_a_least_delay_makes_the_policys_longer_and_never_shorter():
    policy = Policy(initial=30.0, jitter=0.0, give_up_after=3600.0)
    assert policy.next(1, 0.0, None, never_or_zero, 7.0) == 30.0
    assert policy.next(1, 0.0, None, never_or_zero, 600.0) == 600.0
    assert policy.next(5, 0.0, None, never_or_zero, 7.0) == 480.0
    assert policy.next(1, 3000.0, None, never_or_zero, 9000.0) == 600.0, (
        "never beyond give_up_after"
    )
    assert policy.next(1, 0.0, 5.0, never, 600.0) == 5.0, "the handler's own wish counts as it is"
    assert Policy(give_up_after=LONGEST * 9).next(1, 0.0, None, never_or_zero, 1e300) == LONGEST


@pytest.mark.parametrize(
    ("after", "seconds"),
    [
        (0.0, 0.0),
        (0.5, 0.5),
        (7200.0, 7200.0),
        (4 * DAY, 4 * DAY),
        (LONGEST * 2, 5 * DAY),
        (float("inf"), 5 * DAY),
        (float("nan"), 0.0),
        (-5.0, 0.0),
    ],
)
def test_the_handlers_wish_counts_as_it_is_without_jitter(after, seconds):
    assert Policy().next(1, 0.0, after, never) == seconds


def test_a_wish_is_bounded_by_the_longest_duration():
    assert Policy(give_up_after=LONGEST * 9).next(1, 0.0, 1e300, never) == LONGEST


def test_a_handler_that_asks_for_no_delay_at_all_is_stopped_by_its_attempts():
    assert len(lived(Policy(), lambda _attempt: 0.0)) == 999


@pytest.mark.parametrize(
    ("attempts", "waited", "text"),
    [
        (12, 5 * DAY, "gave up after 12 attempts in 5d (give_up_after)"),
        (1000, 3.2, "gave up after 1000 attempts in 3s (max_attempts)"),
        (2, 93784.0, "gave up after 2 attempts in 1d2h (give_up_after)"),
    ],
)
def test_it_says_why_it_gave_up(attempts, waited, text):
    assert Policy().gave_up(attempts, waited) == text


def test_one_attempt_is_said_in_the_singular():
    said = Policy(max_attempts=1).gave_up(1, 0.0)
    assert said.startswith("gave up after 1 attempt in ")
    assert said.endswith(" (max_attempts)")


policies = st.builds(
    Policy,
    initial=st.floats(0.01, 1e5),
    max=st.floats(0.01, LONGEST),
    multiplier=st.floats(1.0, 1000.0),
    jitter=st.floats(0.0, 1.0),
    give_up_after=st.floats(0.01, LONGEST),
    max_attempts=st.integers(1, 10**6),
)
counts = st.integers(1, 50) | st.integers(1, 10**6) | st.integers(1, 10**400)
ages = st.floats(0, LONGEST) | st.floats(0, 1e300)


@given(policies, counts, ages, st.floats(0, 1), st.none() | st.floats())
def test_a_delay_stays_in_its_bounds_whatever_the_numbers(policy, attempts, waited, chance, after):
    wait = policy.next(attempts, waited, after, lambda: chance)
    over = attempts >= policy.max_attempts or waited >= policy.give_up_after
    if over:
        assert wait is None
    elif wait is None:
        assert policy.give_up_after - waited <= 0.01
    else:
        assert 0.0 <= wait <= policy.give_up_after - waited
        if after is None:
            # The sum of two products is rounded twice: one unit in the last place may be added.
            assert wait <= policy.max * (1 + policy.jitter) * (1 + 1e-12)
        else:
            assert wait <= LONGEST


@given(policies, st.integers(1, 10**5), st.integers(1, 10**5))
def test_without_jitter_delays_never_shrink(policy, one, other):
    policy = policy._replace(jitter=0.0, give_up_after=LONGEST, max_attempts=10**6)
    assume(policy.initial <= policy.max)
    sooner, later = (policy.next(n, 0.0, None, never_or_zero) for n in sorted((one, other)))
    assert policy.initial <= sooner <= later <= policy.max


def never_or_zero():
    return 0.0


@given(st.integers(1, 400), st.floats(0.0, 1.0), st.randoms(use_true_random=False))
@settings(max_examples=25)
def test_an_entry_that_always_fails_is_given_up_at_its_age_exactly(hours, jitter, chance):
    policy = Policy(jitter=jitter, give_up_after=hours * 3600.0)
    delays = lived(policy, chance=chance.random)
    assert sum(delays) == pytest.approx(hours * 3600.0, abs=0.01)
    assert all(wait > 0 for wait in delays)


def test_jitter_parts_entries_that_failed_together():
    chance = random.Random(1)
    delays = [Policy().next(8, 0.0, None, chance.random) for _ in range(1000)]
    assert min(delays) < 3620
    assert max(delays) > 3940
    gaps = [later - sooner for sooner, later in itertools.pairwise(sorted(delays))]
    assert max(gaps) < 10
