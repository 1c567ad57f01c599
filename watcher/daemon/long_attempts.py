"""Warn of attempts that last for long: their handlers may hang.

The daemon's thread looks at each tick, and asks to be woken when the attempt that is in hand for
longest will have lasted for `warn_after`. An attempt is logged then, and again each time that it
has lasted twice as long; the queue is unhealthy meanwhile.
Guarantees: no wake-up while nothing is in hand, one in `warn_after` where attempts are short.
Memory for the attempts in hand.
Fails: never.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from watcher.durations import show
from watcher.observe import log
from watcher.observe.health import Health

HANGING = "hanging"  # what the queue's health calls it


class Long(NamedTuple):
    """An attempt in hand: its entry, the handler's process, and since when (monotonic, seconds)."""

    entry: str
    process: int | None  # None: a function in this process
    began: float
    more: int = 0  # entries in the same call of the handler


class LongAttempts:
    """The attempts of one queue that last for longer than `warn_after` seconds (0: none)."""

    def __init__(
        self,
        queue: str,
        warn_after: float,
        health: Health,
        in_hand: Callable[[], Iterable[Long]],
    ) -> None:
        self._queue = queue
        self._warn_after = warn_after
        self._health = health
        self._in_hand = in_hand
        self.cure = _CURE
        self._warned: dict[tuple[str, float], int] = {}  # how often, by entry and beginning

    def tick(self, now: float) -> float:
        """Warn of what lasts for long; return the moment of the next look (monotonic)."""
        if not self._warn_after:
            return math.inf
        due, warned, longest = math.inf, {}, None
        for attempt in sorted(self._in_hand(), key=lambda one: one.began):
            key = (attempt.entry, attempt.began)
            times = self._warned.get(key, 0)
            if now >= self._next(attempt, times):
                self._warn(attempt, now)
                while now >= self._next(attempt, times):
                    times += 1
            if times:
                warned[key] = times
                longest = longest or attempt
            due = min(due, self._next(attempt, times))
        self._warned = warned
        self._tell(longest, len(warned), now)
        return due

    def _next(self, attempt: Long, times: int) -> float:
        """Return when an attempt is logged, after it was so many times."""
        return attempt.began + self._warn_after * 2.0**times

    def _warn(self, attempt: Long, now: float) -> None:
        lasts = show(now - attempt.began)
        what = f"{_name(attempt)}: in hand for {lasts}{_by(attempt)}"
        log.event(self._queue, HANGING, f"{what}; {self.cure}", logging.WARNING)

    def _tell(self, longest: Long | None, count: int, now: float) -> None:
        """Say in the queue's health which attempt lasts for longest."""
        if longest is None:
            self._health.trouble(HANGING, None)
            return
        since = time.strftime("%H:%M:%S", time.localtime(time.time() - (now - longest.began)))
        more = f", and {count - 1} more for long" if count > 1 else ""
        text = f"{_name(longest)}: in hand since {since}{_by(longest)}{more}; {self.cure}"
        if not self._health.has(HANGING):
            self._health.trouble(HANGING, text)
        elif self._health.troubles[HANGING] != text:
            self._health.show(HANGING, text)


_CURE = "`watcher abort` ends it; set a timeout if its handler hangs"


def _name(attempt: Long) -> str:
    return (
        f"{attempt.entry} and {attempt.more} more in its batch" if attempt.more else attempt.entry
    )


def _by(attempt: Long) -> str:
    return "" if attempt.process is None else f" by process {attempt.process}"
