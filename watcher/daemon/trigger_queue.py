"""A queue with a trigger in the daemon: its runs, when the next one is due, and what it reports.

The worker thread calls it in place of an attempt; the daemon's thread calls `tick`.
Guarantees: while entries wait for the next run, the daemon's thread wakes at its moment, and one of
them is given to the worker then. Entries that runs leave are reported by the age of the oldest
(`warn_after`), a command that fails by its reason and the moment of the next run. No wake-up while
no entry waits.
Fails: as `TriggerRuns`.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable

from watcher.attempt import Attempt
from watcher.config.queue_settings import Queue
from watcher.daemon.detector import Detector
from watcher.durations import show
from watcher.errors import counted
from watcher.handle.handler import Handler
from watcher.handle.kinds.run_trigger import TriggerCommand
from watcher.observe import log
from watcher.observe.handler_output import lines_of
from watcher.observe.health import Health
from watcher.rules.evidence import Proof
from watcher.rules.names import display
from watcher.rules.results import AttemptResult, Renamed
from watcher.rules.trigger_pace import Pace
from watcher.spool.spool import Spool
from watcher.trigger import MAX_LEFT, Ran, TriggerRuns

HANDLER, LEFT_BEHIND = "handler", "left behind"  # what the queue's health calls them
CURE = "it is the command's: set a timeout if that hangs"  # for an attempt that lasts for long


def trigger_for(
    handler: Handler,
    attempt: Attempt,
    detector: Detector,
    health: Health,
    wake: Callable[[], None],
) -> TriggerQueue | None:
    """Return what serves the queue in place of attempts; None if its handler takes entries."""
    if not isinstance(handler, TriggerCommand):
        return None
    runs = TriggerRuns(handler, attempt.settlement, attempt)
    return TriggerQueue(detector.settings, runs, detector, health, wake)


class TriggerQueue:
    """The trigger of one queue worker."""

    def __init__(
        self,
        settings: Queue,
        runs: TriggerRuns,
        detector: Detector,
        health: Health,
        wake: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._runs = runs
        self._detector = detector
        self._health = health
        self._wake = wake
        self._given: tuple[Pace, bytes] | None = (
            None  # the name that `tick` gave, and after which run
        )
        self._looked: tuple[int, Pace] | None = None  # what has changed since: sweeps, and runs
        self._warn_at = math.inf
        detector.pending.left = runs.left  # a sweep need not find these
        runs.listen = self._report

    def __call__(
        self,
        spool: Spool,
        name: bytes,
        proof: Proof,
        event_time_ns: int = 0,
        renamed: Renamed | None = None,
    ) -> AttemptResult:
        """Have the command run for an entry, if it is time; the worker calls this."""
        runs, due = self._runs, self._runs.next_run()
        report = runs(spool, name, proof, event_time_ns, renamed)
        if self._given is not None and name == self._given[1]:
            self._given = None  # whether it ran or not: another name may be next
            due = -math.inf
        if runs.next_run() != due:
            self._wake()  # the daemon's thread has to learn when to wake
        return report

    def try_now(self) -> bool:
        """Have the next run be due now, if one waits; return whether one does."""
        waits = self._runs.next_run() < math.inf
        self._runs.run_soon()
        return waits

    def tick(self, now: float) -> float:
        """Give the worker an entry if a run is due; return the moment of what is next."""
        spool, runs = self._detector.spool, self._runs
        due = runs.next_run()
        if self._given is not None and self._given[0] is runs.pace:
            due = math.inf  # the worker has not come to it yet
        elif due <= now and spool is not None:
            due = math.inf
            self._give_one(spool)
        if spool is None or not (runs.left or runs.overflow):
            self._health.trouble(LEFT_BEHIND, None)
            self._looked = None
            return math.inf
        return min(due, self._warn(spool, now))

    def _give_one(self, spool: Spool) -> None:
        """Give the worker the first entry that waits for a run; a scan finds those without room."""
        waiting = self._runs.waiting(spool)
        if waiting:
            name = waiting[0][0]
            self._given = self._runs.pace, name  # first: the worker may have it at once
            if not self._detector.pending.push(name, Proof.NO_WRITER):
                self._given = (
                    None  # others wait for the worker, and one of them has the command run
                )
        elif self._runs.overflow:
            self._runs.overflow = False
            self._detector.scan_now()
            self._wake()

    # -- reports ------------------------------------------------------------------------------

    def _report(self, ran: Ran) -> None:
        """Log a run, and say in the queue's health whether the command fails."""
        outcome, run, queue = ran.outcome, ran.run, self._settings.name
        log.event(queue, "triggered", str(ran), logging.WARNING if run.failed else logging.INFO)
        for line in lines_of(outcome.stderr):
            log.event(queue, "triggered", f"stderr: {line}")
        if not run.failed:
            self._health.trouble(HANDLER, None)
            return
        at = time.time() + self._runs.pace.hold_until - run.ended
        shown = time.strftime("%H:%M:%S", time.localtime(at))
        text = f"{outcome.reason}; the next run is at {shown} at the earliest"
        if not self._health.has(HANDLER):
            self._health.trouble(HANDLER, text)
        self._health.show(HANDLER, text)

    def _warn(self, spool: Spool, now: float) -> float:
        """Report the entries that runs leave; return when the oldest is old enough for it."""
        if not self._settings.warn_after:
            return math.inf
        about = self._detector.sweeps, self._runs.pace
        if now < self._warn_at and about == self._looked:
            return self._warn_at
        self._looked = about
        ages = self._detector.pending.ages
        waiting = self._runs.waiting(spool)
        found = [(ages.age(name, file.ctime_ns), name) for name, file in waiting]
        age, name = max(found, default=(0.0, b""))
        self._warn_at = now + self._settings.warn_after - age if found else math.inf
        if not found or age < self._settings.warn_after:
            self._health.trouble(LEFT_BEHIND, None)
            return self._warn_at
        self._warn_at = math.inf  # from here on each sweep and each run looks
        more = " or more" if len(found) == MAX_LEFT else ""
        entries = counted(len(found), "entry", "entries")
        text = f"the command leaves {entries}{more} behind; the oldest is {display(name)}"
        if not self._health.has(LEFT_BEHIND):
            self._health.trouble(LEFT_BEHIND, f"{text}, here for {show(round(age))}")
        self._health.show(LEFT_BEHIND, f"{text}, here for {show(round(age))}")
        return math.inf
