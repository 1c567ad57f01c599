"""Keeps the archive of one queue within `archive_for`: a pass now and then, in small batches.

The daemon's thread calls `tick`. A batch takes some 10 ms and begins every 100 ms, so that a large
archive delays no other work of that thread, and no worker.
Guarantees: nothing is listed while the queue has no archive or no limit.
Fails: never; `Health` says what is wrong.
"""

from __future__ import annotations

import math

from watcher.config.queue_settings import Queue
from watcher.durations import show
from watcher.errors import WatcherError, counted
from watcher.observe import log
from watcher.observe.health import Health
from watcher.rules.age import SECOND, Clock
from watcher.rules.names import display
from watcher.settle.refused import describe_error
from watcher.settle.retention import Retention
from watcher.spool.spool import Spool

BETWEEN_BATCHES = 0.1  # seconds
LONGEST = 3600.0  # seconds between two passes
PARTS = 50  # passes in the time that a file is kept: it stays at most a 50th longer


class ArchiveKeeper:
    """Removes what is older than the limit from the archive of one queue."""

    def __init__(self, settings: Queue, health: Health, clock: Clock) -> None:
        self._settings = settings
        self._health = health
        self._clock = clock
        self._retention = Retention(clock)
        self._due = 0.0

    def tick(self, spool: Spool | None) -> float:
        """Look at some files if it is time; return the moment (monotonic) of the next batch."""
        keep_for = self._settings.archive_for
        if spool is None or spool.archive is None or keep_for is None:
            return math.inf
        now = self._clock.mono() / SECOND
        if now < self._due:
            return self._due
        more, wrong = False, None
        try:
            more = self._retention.batch(spool)
        except WatcherError as error:
            wrong = str(error)
        except OSError as error:
            wrong = f"{spool.archive}: {describe_error(error)}"
        self._health.trouble("archive_for", wrong)
        self._due = now + BETWEEN_BATCHES
        if not more:
            self._due = now + min(LONGEST, max(self._settings.sweep_every, keep_for / PARTS))
            if self._retention.removed:
                what = counted(self._retention.removed, "file", "files")
                where = display(spool.archive.options.directory)
                detail = f"{where}: {what} removed, archived more than {show(keep_for)} ago"
                log.event(self._settings.name, "archive", detail)
                self._retention.removed = 0
        return self._due
