"""When will the ready entries of a queue be handled? PURE.

Attempts take entries from the queue, writers add some. The rate of the attempts is known from the
daemon; the rate of the writers from the disk: entries are handled in the order of commit, so
if the oldest one waits for longer than a span, all that arrived in that span are still there.

Guarantees: an answer only while the backlog shrinks, and never a negative one.
Fails: never.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

SPANS = (300.0, 60.0, 10.0)  # seconds in which arrivals are counted, the longest first
MINUTE = 60.0


class Rates(NamedTuple):
    """How many entries an hour, a minute or a second bring: per second."""

    leaving: float
    arriving: float

    @property
    def shrinking(self) -> float:
        """Entries that the backlog loses in a second."""
        return self.leaving - self.arriving


def rates(
    younger: Mapping[float, int],
    oldest: float | None,
    attempts: Mapping[float, int],
    running: float,
) -> Rates | None:
    """Return the rates; None if they cannot be known.

    `younger`: ready entries of less than so many seconds; `oldest`: the seconds that the oldest one
    waits; `attempts`: those that ended in the last so many seconds; `running`: seconds since the
    daemon started.
    """
    if oldest is None or running <= 0:
        return None
    for span in SPANS:
        if oldest >= span and span in younger:
            counted_in = max((each for each in attempts if each <= span), default=MINUTE)
            seconds = min(counted_in, running)
            return Rates(attempts.get(counted_in, 0) / seconds, younger[span] / span)
    return None


def done_in(ready: int, found: Rates | None) -> float | None:
    """Return in how many seconds no entry is ready any more; None while that is not in sight."""
    if not ready or found is None or found.shrinking <= 0:
        return None
    return ready / found.shrinking
