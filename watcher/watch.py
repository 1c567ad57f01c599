"""The watch on one queue's directory: had, kept, lost and had again.

Guarantees: a watch is never assumed to live: the path is compared with what is watched every
second in which anything happens; while there is none it is tried again at growing intervals, and
`Health` says why. Nobody scans before it is armed, unless no watch can be had at all.
Fails: never.
"""

from __future__ import annotations

import os

from watcher.arrive.sources import Sources
from watcher.config import Queue
from watcher.errors import NotPermitted, WatcherError, WatchFailed
from watcher.lifecycle import State
from watcher.settle.backoff import delay
from watcher.spool.layout import Layout, display
from watcher.spool.spool import Spool
from watcher.telemetry import log
from watcher.telemetry.health import Health

ARM_LONGEST = 10.0  # seconds between tries to watch a directory, or to read it
CHECK_PATH = 1.0  # seconds between looks at whether the path still leads to the directory


class Watch:
    """The open directory of one queue, and whether it is watched."""

    def __init__(
        self, tag: int, settings: Queue, layout: Layout, sources: Sources, health: Health
    ) -> None:
        self.tag = tag
        self.settings = settings
        self.spool: Spool | None = None
        self.armed = False
        self.next_try = 0.0
        self._layout = layout
        self._sources = sources
        self._health = health
        self._failures = 0
        self._next_check = 0.0

    def tick(self, now: float) -> bool:
        """Do what is due; True when the directory was opened or armed: it must be scanned."""
        if now >= self.next_try and (self.spool is None or not self.armed):
            return self._arm(now)
        if self.spool is not None and now >= self._next_check:
            self.check_path(now)
        return False

    def _arm(self, now: float) -> bool:
        before = self.spool
        try:
            self.spool = spool = self.spool or self._open()
            by = self._sources.arm(self.tag, spool, self.settings.source)
        except WatcherError as error:
            about = "watch" if isinstance(error, WatchFailed) else "directory"
            self.next_try = self.fail(about, str(error), now)
            return self.spool is not before
        self.armed, self._failures, self.next_try = True, 0, 0.0
        self._health.trouble("watch", None)
        self._health.trouble("directory", None)
        self.arm_deferred()
        log.event(self.settings.name, "armed", f"{display(spool.path)} is watched by {by}")
        return True

    def _open(self) -> Spool:
        spool = Spool(os.fsencode(self.settings.path), self._layout)
        spool.journal.enabled = self.settings.journal
        if not spool.writable():
            raise NotPermitted(self._not_writable())
        return spool

    def _not_writable(self) -> str:
        return (
            f"{self.settings.path}: the queue directory is not writable for us, so that entries"
            " could not be removed when done; check its owner and mode"
        )

    def check_writable(self) -> None:
        """See whether entries can still be removed: a disk with errors becomes read-only."""
        if self.spool is not None:
            writable = self.spool.writable()
            self._health.trouble("mode", None if writable else self._not_writable())

    def arm_deferred(self) -> bool:
        """Watch `deferred/` as well, so that a requeue is seen at once; else sweeps must look."""
        if self.spool is None or not self.armed:
            return False
        try:
            directory = self.spool.place(State.DEFERRED)
            heard = self._sources.arm_deferred(self.tag, self.spool, directory)
        except (OSError, WatcherError) as error:
            self._health.trouble("deferred", f"deferred/ is looked at by sweeps only: {error}")
            return False
        self._health.trouble("deferred", None)
        return heard

    def fail(self, about: str, why: str, now: float) -> float:
        """Note a failure; return the moment to try again at."""
        self._failures += 1
        self._health.trouble(about, why)
        return now + delay(self._failures, longest=ARM_LONGEST)

    def works(self) -> None:
        """Note that the directory could be read."""
        if self.armed:
            self._failures = 0

    def check_path(self, now: float) -> None:
        """See whether the path still leads to the directory that is open."""
        self._next_check = now + CHECK_PATH
        if self.spool is not None and not self.spool.is_current():
            self.lose("the directory was removed or replaced")

    def lose(self, why: str) -> None:
        """Give up the directory that is open, and look for the one that its path leads to."""
        self._sources.disarm(self.tag)
        self.spool, self.armed = None, False
        self._health.trouble("mode", None)
        self._health.trouble("directory", f"{self.settings.path}: {why}")

    def stop(self) -> None:
        """Watch no more."""
        self._sources.disarm(self.tag)
        self.spool = None  # closed with the last claim; else it would keep a mount busy
