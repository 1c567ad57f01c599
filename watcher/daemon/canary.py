"""Proof that events arrive: a canary is renamed where nothing else has happened for a while.

A watch that sees nothing looks like a queue in which nothing happens. So at each look the daemon's
thread compares what the kernel lists of the inotify descriptor with the watches that this process
has. If no event came since the look before, or a scan found what no event had told of, it renames a
file of its own (`spool.canary_file`), which is watched by the same inotify instance. The event of
that comes the way of every other event, through the thread that waits for events, and the next look
asks whether it came.

What is not proved: that a network file system reports what other hosts do, or a file system in user
space what its server does. inotify sees local changes alone, and the canary is one; there the queue
is polled too, and no canary is sent.
Guarantees: one wake-up of the waiting thread for each canary; a canary proves the instance for all
queues of the process that are looked at within the interval. A look has a wake-up of its own only
if sweeps are rarer than looks. A blind queue is scanned, and watched anew, until a canary was seen.
A canary that cannot be sent (a full or read-only disk) makes no queue blind.
Fails: never.
"""

from __future__ import annotations

import logging
import math
import threading

from watcher.arrive.source import Event, EventKind
from watcher.arrive.sources import Sources
from watcher.config.queue_settings import Queue
from watcher.daemon.detector import Detector
from watcher.daemon.event_reader import EventReader
from watcher.durations import show
from watcher.errors import WatcherError, WatchFailed, counted
from watcher.observe import log
from watcher.observe.health import Health
from watcher.rules.backoff import delay
from watcher.rules.sight import (
    Sight,
    is_due_with_sweep,
    is_silent,
    is_with_sweep,
    judge,
    next_look,
    scan_gap,
    spacing,
)
from watcher.spool.canary_file import rename_canary
from watcher.spool.spool import Spool

ABOUT = "blind watch"  # what the queue's health calls it
SOON = 0.1  # seconds: a canary that was sent in this wake-up is not asked for in it
ENOUGH = 3  # canaries in a row that came prove that events arrive again: a thief may miss one
RENEW_LONGEST = 300.0  # seconds between two new inotify instances
BY = "inotify"  # the sources of a queue for which the canary proves something
_WHY = {
    Sight.DEAF: "a file that the daemon renamed gave no event: another process may read them",
    Sight.UNWATCHED: "the kernel has no watch on the directory any more",
}


class EventDelivery:
    """Whether the events of the process's inotify instance arrive. The daemon's thread uses it.

    Attributes
    ----------
    deaf:      a canary gave no event, and fewer than `ENOUGH` in a row did since
    heard_at:  when an event came last, as far as was looked
    renewals:  how often another instance was made
    """

    def __init__(self, sources: Sources, reader: EventReader) -> None:
        self.deaf = False
        self.heard_at = -math.inf
        self.renewals = 0
        self._sources = sources
        self._reader = reader
        self._reads = 0
        self._sent: tuple[float, int, int] | None = None  # when; canaries and overflows before
        self._in_a_row = 0  # canaries that came
        self._failures = 0  # renewals since events arrived
        self._renew_at = 0.0

    def look(self, now: float) -> None:
        """Find whether the canary came, or another event."""
        inotify = self._sources.instance
        if inotify is None:
            return
        if self._sent is None:
            if inotify.reads != self._reads:
                self._reads, self.heard_at = inotify.reads, now
            return
        at, canaries, overflows = self._sent
        if now < at + SOON:
            return
        if inotify.canaries == canaries:
            self._reader.read_all()  # the process was stopped, or no thread came to read it
        self._sent, self._reads = None, inotify.reads
        if inotify.canaries != canaries:
            self.heard_at = at
            self._in_a_row += 1
            if self._in_a_row >= ENOUGH:
                self.deaf, self._failures = False, 0
        elif inotify.overflows == overflows:  # else it may have been dropped
            self.deaf, self._in_a_row = True, 0

    def send(self, spool: Spool, now: float) -> str:
        """Send the canary, unless one is on its way; return why it cannot be sent, or ""."""
        inotify = self._sources.instance
        if inotify is None or self._sent is not None:
            return ""
        sent = now, inotify.canaries, inotify.overflows
        try:
            rename_canary(spool, inotify.arm_canary)
        except (OSError, WatcherError) as error:
            return str(error)
        self._sent = sent
        return ""

    def is_listed(self, tag: int) -> bool | None:
        """Whether the kernel lists a queue's watch, after each event so far was passed on."""
        inotify = self._sources.instance
        if inotify is None or (found := inotify.is_listed(tag)) is not False:
            return None if inotify is None else found
        self._reader.read_all()  # the watch may have ended with an event that tells of it
        return inotify.is_listed(tag)

    def renew(self, now: float) -> None:
        """Replace the inotify instance, unless that was done a moment ago; have all queues scan."""
        inotify = self._sources.instance
        if inotify is None or now < self._renew_at or self._in_a_row:
            return
        self._failures += 1
        self._renew_at = now + delay(self._failures, longest=RENEW_LONGEST)
        try:
            inotify.renew()
        except WatchFailed as error:
            if self._failures == 1:
                log.event("", "watch blind", f"no other instance: {error}", logging.WARNING)
            return
        self.renewals += 1
        self._sent = None
        self._reader.wake()  # else the thread that waits for events waits on the old instance
        self._reader.pass_on(Event(None, EventKind.EVERYTHING))


class Canary:
    """Looks whether one queue's watch sees."""

    def __init__(
        self,
        settings: Queue,
        detector: Detector,
        health: Health,
        delivery: EventDelivery,
        detecting: threading.Lock,
    ) -> None:
        self._settings = settings
        self._detector = detector
        self._health = health
        self._delivery = delivery
        self._detecting = detecting  # for what is changed of the watch
        self._with_sweep = is_with_sweep(settings.canary, settings.sweep_every)
        self._spaced = spacing(settings.canary, settings.sweep_every)
        self._sweeps = detector.sweeps
        self._looked_at = -math.inf
        self._missed = detector.missed
        self._due = next_look(detector.now(), settings.canary) if settings.canary else 0.0
        self._blind: tuple[float, int] | None = None  # since when, and what `found` was
        self._refused = ""  # why no canary can be sent
        self._renewals = delivery.renewals

    def take_over(self, before: Canary) -> None:
        """Go on where the settings before ended: a blind queue stays blind until it sees."""
        text = before._health.troubles.get(ABOUT)
        if before._blind is not None and text is not None and self._settings.canary:
            self._blind, self._due = (before._blind[0], self._detector.found), 0.0
            self._detector.blind = True
            self._health.quietly(ABOUT, text)

    def tick(self, now: float) -> float:
        """Look if it is time; return the moment of the next look, or infinity."""
        watch, settings = self._detector.watch, self._settings
        spool = watch.spool
        if not settings.canary or spool is None or not watch.armed or watch.by != BY:
            return math.inf
        if self._renewals != self._delivery.renewals:
            self._renewals = self._delivery.renewals
            with self._detecting:
                watch.arm_deferred()
        if not self._is_due(now):
            return math.inf if self._with_sweep and self._blind is None else self._due
        self._looked_at = now
        self._look(spool, now)
        if self._blind is None:
            self._due = next_look(now, settings.canary)
            return math.inf if self._with_sweep else self._due
        cost = self._detector.scan_cost
        self._due = now + scan_gap(cost, settings.canary, settings.sweep_every)
        with self._detecting:
            self._detector.scan_now()
        return now  # the next tick begins the scan

    def _is_due(self, now: float) -> bool:
        if self._blind is not None or not self._with_sweep:
            return now >= self._due
        swept, self._sweeps = self._detector.sweeps != self._sweeps, self._detector.sweeps
        settings = self._settings
        return swept and is_due_with_sweep(
            now, self._looked_at, settings.canary, settings.sweep_every
        )

    def _look(self, spool: Spool, now: float) -> None:
        delivery, watch = self._delivery, self._detector.watch
        delivery.look(now)
        listed = delivery.is_listed(watch.tag)
        if not watch.armed:
            return  # an event told that the watch has ended
        sight = judge(watched=listed, deaf=delivery.deaf)
        if sight is not Sight.SEES:
            self._begin(sight, now)
            if sight is Sight.DEAF:
                delivery.renew(now)
            else:
                with self._detecting:
                    watch.arm_anew()
        elif self._blind is not None and (delivery.heard_at >= self._blind[0] or self._refused):
            self._end(now)
        missed, self._missed = self._missed, self._detector.missed
        silent = is_silent(now, delivery.heard_at, self._spaced)
        if silent or self._blind is not None or self._missed != missed:
            self._send(spool, now)

    def _send(self, spool: Spool, now: float) -> None:
        refused = self._delivery.send(spool, now)
        if refused != self._refused and refused:
            why = f"no file can be renamed to see whether events arrive: {refused}"
            log.event(self._settings.name, "no canary", why)
        self._refused = refused

    def _begin(self, sight: Sight, now: float) -> None:
        """Say that the queue is blind, once."""
        if self._blind is not None:
            return
        self._blind, self._detector.blind = (now, self._detector.found), True
        text = (
            f"{self._settings.path}: events do not arrive: {_WHY[sight]}; the directory is scanned"
            " and watched anew until they do; if this lasts, restart the daemon"
        )
        log.event(self._settings.name, "watch blind", text, logging.WARNING)
        self._health.quietly(ABOUT, text)

    def _end(self, now: float) -> None:
        """Say that events arrive again."""
        since, found = self._blind or (now, 0)
        self._blind, self._detector.blind = None, False
        entries = counted(self._detector.found - found, "entry was", "entries were")
        text = f"after {show(now - since)}; {entries} found by scans meanwhile"
        log.event(self._settings.name, "watch sees again", text)
        self._health.quietly(ABOUT, None)
