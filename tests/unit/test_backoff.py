"""How long to wait before the next try."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from watcher.rules.backoff import INITIAL, LONGEST, delay


@pytest.mark.parametrize(
    ("attempt", "seconds"), [(1, 1.0), (2, 2.0), (3, 4.0), (6, 32.0), (7, 60.0), (10**9, 60.0)]
)
def test_it_doubles_up_to_the_longest(attempt, seconds):
    assert delay(attempt, 1.0, 60.0) == seconds


@given(st.integers(1, 10**12), st.floats(0.001, 100), st.floats(0.001, 1e6))
def test_it_never_shrinks_and_stays_in_its_bounds(attempt, initial, longest):
    first, now, then = (
        delay(1, initial, longest),
        *(delay(attempt + n, initial, longest) for n in (0, 1)),
    )
    assert first == min(initial, longest)
    assert 0 < first <= now <= then <= longest


def test_left_alone_it_starts_small_and_ends_at_half_a_minute():
    assert delay(1) == INITIAL
    assert delay(1_000) == LONGEST
