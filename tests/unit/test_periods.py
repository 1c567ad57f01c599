"""Sums by period: what is still here at the end of each follows from the sums up to then."""

from __future__ import annotations

from hypothesis import given, strategies as st

from watcher.inspect.periods import LEAVES, SEEN, WORDS, Periods, Window
from watcher.rules.dates import Period

DAY = 86_400
STEPS = st.lists(st.tuples(st.sampled_from(WORDS), st.integers(0, 40 * DAY)))


def test_each_day_has_its_sums_and_what_is_here_at_its_end():
    periods = Periods(Window(since=DAY, until=4 * DAY))
    for word, day in [(SEEN, 0.5), (SEEN, 1), (SEEN, 1.9), ("handled", 3.5), (SEEN, 4)]:
        periods.add(word, day * DAY)
    rows = [
        (name, counts[SEEN], counts["handled"], here)
        for name, counts, here in periods.rows(Period.DAY)
    ]
    assert periods.here_before() == 1
    assert rows == [("1970-01-02", 2, 0, 3), ("1970-01-04", 0, 1, 2)]
    assert periods.total().counts == {SEEN: 2, "handled": 1}


@given(STEPS, st.integers(0, 40 * DAY), st.integers(0, 40 * DAY), st.sampled_from(Period))
def test_the_rows_add_up_to_the_total_and_the_total_to_what_the_window_has(steps, one, two, period):
    window = Window(min(one, two), max(one, two))
    periods = Periods(window)
    for word, seconds in steps:
        periods.add(word, seconds)
    rows, total = list(periods.rows(period)), periods.total()
    inside = [word for word, seconds in steps if window.has(seconds)]
    for word in WORDS:
        assert sum(row.counts[word] for row in rows) == total.counts[word] == inside.count(word)
    assert (rows[-1].here if rows else periods.here_before()) == total.here
    ever = [word for word, seconds in steps if not window.is_over(seconds)]
    assert total.here == ever.count(SEEN) - sum(ever.count(word) for word in LEAVES)
