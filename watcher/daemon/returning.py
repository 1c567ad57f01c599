"""Find names that their own handler makes anew, and have them wait ever longer.

A handler that moves its result to where its input was makes a new entry each time. It would be
called some hundred times a second, without end. A writer that uses a name again and again makes no
such loop, and must not wait. The difference: the file of a loop comes only while the handler runs.

    the file under a name that was handled        | then
    ----------------------------------------------|--------------------------------------------
    came while its handler ran, the first time    | handled at once
    came while it ran, n times in a row           | handled after 2, 8, 32, 128, then 300 seconds
    came later, or was replaced during that wait  | a writer's: handled at once; its next waits
                                                  | begin after 4, 16, 64, then 256 times in a row

A loop through two names, or through two queues that feed each other, is not found.
Guarantees: memory for `LIMIT` names, the latest.
Fails: never.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import NamedTuple

from watcher.durations import show
from watcher.observe import log
from watcher.rules.names import display
from watcher.rules.results import AttemptEnd, AttemptResult
from watcher.spool.spool import Spool

LIMIT = 4_096  # names
FIRST, STEEP, LONGEST = 2.0, 4, 300.0  # seconds; how many times as long; seconds
MOST_ALLOWED = 256  # times in a row
_SLACK = 20_000_000  # nanoseconds: the clock of ctime ticks, and a handler's end is seen late
_RAN = (AttemptEnd.DONE, AttemptEnd.REJECTED, AttemptEnd.DEFERRED)


class Loop(NamedTuple):
    """A name that came back too often: how often in a row, and how long it has to wait."""

    times: int
    seconds: float
    logged: bool  # whether this wait was logged before


@dataclass(slots=True)
class _Run:
    ended: int  # nanoseconds since the epoch: when the last attempt was over
    times: int = 0  # a file came back, in a row
    allowed: int = 1  # times in a row before the first wait
    waits: int = 0  # the ctime of the file that is to wait; 0: none is
    until: float = 0.0  # monotonic: for how long


class Returning:
    """The names of one queue that were handled lately; its workers share it."""

    def __init__(self, now: Callable[[], float], limit: int = LIMIT) -> None:
        self._now = now
        self._limit = limit
        self.names: dict[bytes, _Run] = {}  # read without the lock: is a name among them?
        self._lock = threading.Lock()

    def ended(self, name: bytes, report: AttemptResult, reasons: Container[str]) -> None:
        """Note that an attempt is over, after which no file of this name should be there.

        `reasons` are those of reports that an entry's file was replaced or rewritten meanwhile.
        """
        if report.result is AttemptEnd.YOUNG:
            name = report.name or name  # an entry that was deferred is in the queue now
        if report.result not in _RAN and report.why not in reasons:
            return
        now = time.time_ns()
        with self._lock:
            run = self.names.pop(name, None)
            if run is None:
                run = _Run(now)
                if len(self.names) >= self._limit:
                    del self.names[next(iter(self.names))]
            run.ended = now
            self.names[name] = run  # the latest is the last to be forgotten

    def look(self, spool: Spool, name: bytes) -> Loop | None:
        """Return how long the file that has the name now has to wait; None: it need not."""
        if name not in self.names:
            return None
        try:
            status = spool.stat_at(name)
        except OSError:
            return None
        return None if status is None else self._judge(name, status.st_ctime_ns)

    def _judge(self, name: bytes, ctime_ns: int) -> Loop | None:
        with self._lock:
            run = self.names.get(name)
            if run is None:
                return None
            if ctime_ns > run.ended + _SLACK:
                if run.times > run.allowed:
                    run.allowed = min(run.allowed * STEEP, MOST_ALLOWED)
                run.times, run.waits = 0, 0
                return None
            logged = run.waits == ctime_ns
            if not logged:
                run.times += 1
                if run.times <= run.allowed:
                    return None
                seconds = min(FIRST * STEEP ** min(run.times - run.allowed - 1, 9), LONGEST)
                run.waits, run.until = ctime_ns, self._now() + seconds
            left = run.until - self._now()
            return Loop(run.times, left, logged) if left > 0 else None


def wait_for_loop(queue: str, name: bytes, loop: Loop) -> AttemptResult:
    """Return that a file waits which its handler seems to make anew; log it once."""
    times, wait = f"{loop.times} times in a row", show(round(loop.seconds, 1))
    why = f"{display(name)}: came while its handler ran, {times}: does that put it there?"
    if not loop.logged:
        log.event(queue, "comes back", f"{why} The next attempt is in {wait}", logging.WARNING)
    return AttemptResult(AttemptEnd.RETURNS, why, loop.seconds)
