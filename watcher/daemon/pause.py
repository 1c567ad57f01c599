"""Whether an operator paused the queue: no attempt begins from `watcher pause` to `watcher resume`.

Events are taken, and names wait, as when every worker is busy. So memory is bounded by the limits
of `Pending`, and after the resume the entries come in their order.
Guarantees: the pause and its end are logged once. If the file cannot be looked at, the state of
before holds. If another program takes `.watcher` or the queue directory away, the pause is written
into the new one.
Fails: never.
"""

from __future__ import annotations

import logging

from watcher.daemon.ready import Ready
from watcher.errors import WatcherError
from watcher.observe import log
from watcher.observe.health import Health
from watcher.spool import paused
from watcher.spool.spool import Spool

ABOUT = "pause"


class Pause:
    """The pause of one queue, as this process knows it."""

    def __init__(self, queue: str, health: Health, ready: Ready) -> None:
        self.found: paused.Paused | None = None  # None: not paused
        self._seen_in = (0, 0)  # the identity of the queue directory that had it
        self._queue = queue
        self._health = health
        self._ready = ready

    def take_over(self, before: Pause) -> None:
        """Take over what the settings before a reload knew; it is logged already."""
        self.found, self._seen_in = before.found, before._seen_in
        self._ready.pause(paused=self.found is not None)

    def look(self, spool: Spool) -> None:
        """Look at the disk; hold the entries back, or give them out again."""
        try:
            there = paused.is_there(spool)
            if self.found is not None and not there and spool.identity != self._seen_in:
                self.keep(spool)
                return
            if there == (self.found is not None):
                self._health.trouble(ABOUT, None)
                return
            found = paused.read(spool)
        except (OSError, WatcherError) as error:
            self._health.trouble(ABOUT, f"whether the queue is paused cannot be known: {error}")
            return
        self._health.trouble(ABOUT, None)
        before, self.found, self._seen_in = self.found, found, spool.identity
        if found is not None:
            self._ready.pause(paused=True)
            level = logging.WARNING if found.trouble else logging.INFO
            detail = f"{found}; entries in hand are finished; `watcher resume` goes on"
            log.event(self._queue, "paused", detail.removeprefix("paused "), level)
        elif before is not None:
            log.event(self._queue, "resumed", f"it was {before}")
            self._ready.pause(paused=False)

    def keep(self, spool: Spool) -> None:
        """Write the pause into a new `.watcher`: another program took away the one that had it."""
        if self.found is not None:
            try:
                paused.write(spool, self.found)
                self._seen_in = spool.identity
            except WatcherError as error:
                self._health.trouble(ABOUT, f"the pause cannot be written: {error}")
