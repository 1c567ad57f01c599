"""Log that a file waits for its age: until when, why, and what to change.

Guarantees: one line for each reason in each queue, and the next after `AGAIN` at the earliest,
however many files wait. A file that a sweep found, or that was closed in the queue, is logged after
`EVENT_READ`, if it is still there and waits: the event of its rename may be read only after the
sweep saw the file, and a file that was written in place may be a temporary one. With `settle` set,
no wait of at most that long is logged.
Fails: never.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from watcher.config.queue_settings import Queue
from watcher.daemon.timers import Timers
from watcher.durations import show
from watcher.observe import log
from watcher.rules.age import SECOND, Clock
from watcher.rules.names import display

EVENT_READ = 2.0  # seconds: then the event of a rename that a sweep saw was read
AGAIN = 3600.0  # seconds
SHORT = 1.0  # seconds: a shorter wait is not logged
MOST = 100  # reasons
IN_PLACE = "copied or written in place, and not renamed into it"


class _Found(NamedTuple):
    name: bytes
    due: float  # monotonic, seconds
    log_at: float
    closed: bool  # by an event, which sets no timer


class Waits:
    """Which waits of one queue were logged."""

    def __init__(self, settings: Queue, clock: Clock, timers: Timers) -> None:
        self._queue = settings.name
        self._grace_age = settings.grace_age
        self._settle = settings.settle
        self._raw = settings.format == "raw"
        self._clock = clock
        self._timers = timers
        self._found: _Found | None = None  # used under the lock of the detector
        self._logged: dict[str, float] = {}  # when, by reason
        self._lock = threading.Lock()  # for `_logged`: workers log as well

    def found(self, name: bytes, left: float, *, closed: bool = False) -> bool:
        """Note a file that a scan found and that is so many seconds too young.

        Returns whether it is the one that will be logged.
        """
        now = self._clock.mono() / SECOND
        known = self._found is not None or self._settle or left <= EVENT_READ
        if known or self._was_logged(IN_PLACE, now):
            return False
        self._found = _Found(name, now + left, now + EVENT_READ, closed)
        return True

    def closed(self, name: bytes) -> bool:
        """Note a file that was written in place and closed, as `found` does."""
        return self.found(name, self._grace_age, closed=True)

    @property
    def due(self) -> float | None:
        """The moment at which `tick` has something to log."""
        return None if self._found is None else self._found.log_at

    def tick(self, now: float, there: Callable[[bytes], bool]) -> None:
        """Log the file that was found, if its time has come and it still waits."""
        found = self._found
        if found is not None and now >= found.log_at:
            self._found = None
            if (found.closed or self._timers.young(found.name)) and there(found.name):
                self.tell(found.name, IN_PLACE, found.due - now)

    def tell(self, name: bytes, why: str, seconds: float) -> None:
        """Log that a file waits for so many seconds, and why, unless that was logged lately."""
        now = self._clock.mono() / SECOND
        short = seconds < SHORT or seconds <= self._settle
        if short or self._was_logged(why, now):
            return
        with self._lock:
            if len(self._logged) >= MOST:
                self._logged.clear()
            self._logged[why] = now
        until = time.localtime(self._clock.real() / SECOND + seconds)
        log.event(
            self._queue,
            "waits",
            f"{display(name)}: {why}: taken at {time.strftime('%Y-%m-%d %H:%M:%S', until)}, in"
            f" {show(round(seconds, 1))}. {self._cure()} No word of others for an hour",
        )

    def _cure(self) -> str:
        grace = f"a shorter grace_age (it is {show(self._grace_age)}) shortens the wait."
        if not self._raw:
            return f"What is renamed into place is taken at once; {grace}"
        settle = 'settle = "10s" takes a file once it was closed and unchanged for so long'
        return f"What is renamed or linked into place is taken at once; {settle}; {grace}"

    def _was_logged(self, why: str, now: float) -> bool:
        with self._lock:
            last = self._logged.get(why)
        return last is not None and now < last + AGAIN
