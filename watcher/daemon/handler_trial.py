"""Try one entry at a time while a queue's handler is in doubt (`rules.doubt`).

Most entries of the queue then wait. One is given out at a time: the next one at once while the
doubt is fresh, later one at the retry policy's first interval, each time another.
Guarantees: the queue is unhealthy for as long as its handler is in doubt, and no longer. When the
handler has run for an entry, the entries that were tried come first.
Fails: never.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

from watcher.daemon.ready import Item, Ready
from watcher.observe.health import Health
from watcher.rules.doubt import Doubt


class HandlerTrial:
    """Which entries of one queue are given out while its handler is in doubt."""

    def __init__(
        self,
        doubt: Doubt,
        ready: Ready,
        health: Health,
        interval: float,  # seconds
        now: Callable[[], float],
    ) -> None:
        self._doubt = doubt
        self._ready = ready
        self._health = health
        self._interval = interval
        self._now = now
        self._lock = threading.Lock()  # for the next line, and for `Ready.allow`
        self._next = math.inf

    def begin(self, item: Item, why: str) -> None:
        """Put aside an entry for which the handler did not run, and hold the others back."""
        with self._lock:
            if not self._doubt.held:  # the handler ran for another entry meanwhile
                self._ready.put_back(item)
                return
            self._health.trouble("handler", f"{why}; trying one entry at a time")
            self._ready.allow(1 if self._doubt.eager else 0)
            self._ready.put_aside(item)
            self._next = self._now() + self._interval
        self.look(another=False)  # it may have run for another entry just now

    def tick(self) -> float:
        """Give out one more entry if it is time; return when it is next."""
        with self._lock:
            if self._next <= self._now():
                # A fixed interval: an attempt may take long, and other entries wait.
                self._next = self._now() + self._interval
                self._ready.allow(1, again=True)
            return self._next

    def look(self, *, another: bool = True) -> None:
        """End the trial if the handler ran; if not, and if asked, give out another entry."""
        with self._lock:
            if not self._health.has("handler"):
                return
            if self._doubt.held:
                if another:
                    self._ready.allow_another()
                return
            self._next = math.inf
            self._health.trouble("handler", None)
            self._ready.allow(None)
