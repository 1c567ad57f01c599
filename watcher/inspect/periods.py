"""Count what the journal's lines say by the hour, day or month in which it happened. PURE.

    still here = seen - handled - deleted - accepted - missing, of this period and all before it

An entry is *seen* at its first line, which its first attempt or an operator wrote. It is *missing*
since its last line.
Guarantees: memory for the hours of the window, whatever the number of lines.
Fails: never.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from watcher.rules.dates import Period, show, start_of

HOUR = 3600
SEEN, MISSING, ACCEPTED = "seen", "missing", "accepted"
LEAVES = ("handled", "deleted", ACCEPTED, MISSING)  # the entry is not here any more
WORDS = (SEEN, "handled", "rejected", "deleted", "orphaned", ACCEPTED, MISSING)
OF_MOVE = {
    b"finish": "handled",
    b"delete": "deleted",
    b"reject": "rejected",
    b"abandon": "orphaned",
}
_BEFORE, _AFTER = -1, -2  # in place of an hour


class Window(NamedTuple):
    """The part of the journal that a question is about: from `since` until before `until`."""

    since: float | None = None  # seconds since the epoch; None: without end
    until: float | None = None

    def has(self, seconds: float) -> bool:
        """Whether a moment is in the window."""
        return (self.since is None or seconds >= self.since) and not self.is_over(seconds)

    def is_over(self, seconds: float) -> bool:
        """Whether a moment is after the window."""
        return self.until is not None and seconds >= self.until


ALWAYS = Window()


class Row(NamedTuple):
    """The sums of one period."""

    name: str
    counts: Counter[str]
    here: int  # at the end of the period


class Periods:
    """The sums of a window, by hour, and what was before it."""

    def __init__(self, window: Window = ALWAYS) -> None:
        self.window = window
        self._hours: defaultdict[int, Counter[str]] = defaultdict(Counter)

    def add(self, word: str, seconds: float, count: int = 1) -> None:
        """Count something that happened at a moment."""
        since, until = self.window
        if since is not None and seconds < since:
            hour = _BEFORE
        elif until is not None and seconds >= until:
            hour = _AFTER
        else:
            hour = int(seconds) // HOUR
        self._hours[hour][word] += count

    def here_before(self) -> int:
        """Return how many entries were here at the beginning of the window."""
        return _stay(self._hours[_BEFORE])

    def total(self) -> Row:
        """Return the sums of the whole window."""
        counts: Counter[str] = Counter()
        for hour, some in self._hours.items():
            if hour >= 0:
                counts.update(some)
        return Row("total", counts, self.here_before() + _stay(counts))

    def rows(self, period: Period) -> Iterator[Row]:
        """Yield the sums of each period in which something happened, in the order of time."""
        named: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for hour in sorted(hour for hour in self._hours if hour >= 0):
            named[show(period, start_of(period, hour * HOUR))].update(self._hours[hour])
        here = self.here_before()
        for name, counts in named.items():
            here += _stay(counts)
            yield Row(name, counts, here)


def _stay(counts: Counter[str]) -> int:
    return counts[SEEN] - sum(counts[word] for word in LEAVES)
