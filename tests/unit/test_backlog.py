"""When will the ready entries be handled? What leaves, what arrives, and when nothing is said."""

from __future__ import annotations

import pytest

from watcher.rules.backlog import done_in, rates

HOUR = 3600.0
ATTEMPTS = {60.0: 600, 300.0: 1500, HOUR: 36_000}  # 10, 5 and 10 a second


@pytest.mark.parametrize(
    ("younger", "oldest", "running", "leaving", "arriving"),
    [
        ({300.0: 300, 60.0: 600, 10.0: 0}, 400.0, HOUR, 5.0, 1.0),  # the longest span that fits
        ({300.0: 900, 60.0: 60, 10.0: 0}, 100.0, HOUR, 10.0, 1.0),
        ({300.0: 900, 60.0: 900, 10.0: 20}, 15.0, HOUR, 10.0, 2.0),
        ({300.0: 300, 60.0: 600, 10.0: 0}, 400.0, 100.0, 15.0, 1.0),  # it began 100 s ago
    ],
)
def test_what_leaves_and_what_arrives(younger, oldest, running, leaving, arriving):
    assert rates(younger, oldest, ATTEMPTS, running) == (leaving, arriving)


@pytest.mark.parametrize(("oldest", "running"), [(None, HOUR), (9.0, HOUR), (100.0, 0.0)])
def test_nothing_is_said_of_what_is_not_known(oldest, running):
    assert rates(dict.fromkeys((300.0, 60.0, 10.0), 1), oldest, ATTEMPTS, running) is None


def test_the_end_is_told_while_the_backlog_shrinks_alone():
    younger = {300.0: 300, 60.0: 0, 10.0: 0}
    shrinks = rates(younger, 400.0, ATTEMPTS, HOUR)
    assert done_in(800, shrinks) == 200.0
    assert done_in(0, shrinks) is None
    grows = rates({**younger, 300.0: 3000}, 400.0, ATTEMPTS, HOUR)
    assert done_in(3000, grows) is None
