"""Publishes what the daemon does with one queue: `.status` (`spool.daemon_status`).

The daemon's thread calls it at each tick of the queue. It writes if something changed, at most once
in `EVERY`: attempts that ended, what is in hand, the health, the watch, a sweep. A thread that
begins an entry wakes the daemon's thread if that sleeps for long (`EventReader.begin_work`), and
one that ends an entry which the file names does too (`names_in_hand`). So the file is true within
`EVERY` and a bit, and while nothing happens it is written by each sweep alone.
Guarantees: no wake-up of its own but one, `EVERY` after a write, if something changed since, and
one in `EVERY` while a worker is about to have an entry in hand.
Fails: never; that the file cannot be written is a trouble of the queue's health.
"""

from __future__ import annotations

import functools
import math
import os
import socket
import time

from watcher.attempt import Attempt
from watcher.config.queue_settings import Queue
from watcher.daemon.detector import Detector
from watcher.durations import show
from watcher.errors import WatcherError
from watcher.inspect.daemon_user import user
from watcher.observe.counters import BOUNDS
from watcher.observe.health import Health
from watcher.rules.names import display
from watcher.settle.refused import describe_error
from watcher.spool.daemon_status import (
    DaemonStatus,
    Failure,
    Histogram,
    InHand,
    Sweep,
    Times,
    Window,
    publish,
)
from watcher.spool.spool import Spool

EVERY = 1.0  # seconds between two writes
_SHOWN = 3  # entries in hand that the status line names
_LATE = 30.0  # seconds by which a sweep may come late
_STARTED = time.time()  # of this process, as good as its own word


class StatusWriter:
    """What one queue worker says of itself.

    Attributes
    ----------
    names_in_hand: whether the file names an entry in hand: its end has to be published
    """

    def __init__(
        self, settings: Queue, health: Health, detector: Detector, attempt: Attempt
    ) -> None:
        self.names_in_hand = False
        self._settings = settings
        self._health = health
        self._detector = detector
        self._attempt = attempt
        self._published = -math.inf  # when (`Detector.now`)
        self._said: object = None  # what the file was about
        self._ended = False
        self._leaving = False

    def leave(self) -> None:
        """Publish that only what is in hand is finished, by the settings before a reload."""
        spool = self._detector.spool
        self._leaving = True
        if spool is not None:
            self._publish(spool, self._detector.now())

    def tick(self) -> float:
        """Publish if it is time; return the moment at which it is (see `Detector.now`)."""
        spool = self._detector.spool
        if spool is None or self._ended:
            return math.inf
        now, latest = self._detector.now(), self._published + 1.5 * self._settings.sweep_every
        if now < latest and self._said == self._about(spool):
            return now + EVERY if self._is_claiming() else latest
        if now < self._published + EVERY:
            return self._published + EVERY
        self._publish(spool, now)
        # An entry that was just begun has no child process yet: that is looked at once more.
        begins = any(entry.process is None for entry, _ in list(self._attempt.in_hand.values()))
        begins = begins or self._is_claiming()
        return now + (EVERY if begins else 1.5 * self._settings.sweep_every)

    def _is_claiming(self) -> bool:
        """Whether a worker has a name and does not have the entry in hand yet.

        It woke the daemon's thread before (`EventReader.begin_work`), and does not do so again.
        """
        return len(self._detector.pending.working()) > len(self._attempt.in_hand)

    def end(self) -> None:
        """Publish the last word: this queue is no longer served."""
        spool = self._detector.spool
        if spool is not None and not self._ended:
            self._ended = True
            self._publish(spool, self._detector.now())

    def _about(self, spool: Spool) -> tuple[object, ...]:
        """Return what changes when there is something to publish."""
        detector, attempt = self._detector, self._attempt
        return (
            spool.process_dir,
            attempt.counters.attempts,
            [(began, entry.process) for entry, began in list(attempt.in_hand.values())],
            self._health.troubles,
            detector.watch.armed,
            detector.pending.mode.drops,
            detector.overflows,
            detector.last_sweep,
            detector.watch.custody.vanished,
        )

    def _publish(self, spool: Spool, now: float) -> None:
        self._published = now
        self.names_in_hand = True  # first: an entry may end while it is written down
        about = self._about(spool)
        try:
            status = self.status(now)
            self.names_in_hand = bool(status.in_hand)
            publish(spool, status)
            wrong = None
        except FileNotFoundError:
            wrong = None  # the directory was taken away: `Watch` and `Custody` look after that
        except (OSError, WatcherError) as error:
            wrong = f"the status for `watcher status` cannot be written: {describe_error(error)}"
        self._health.trouble("status", wrong)
        self._said = (spool.process_dir, *about[1:])  # the first write makes that directory

    def in_words(self) -> str:
        """Return what the status line adds: the last minute, and what is in hand for how long."""
        now, counters = time.monotonic(), self._attempt.counters
        handled, failed, rejected = counters.windows(now)["1m"]
        words = ""
        if handled or failed or rejected:
            words = f"; last minute: handled {handled}, failed {failed}, rejected {rejected}"
        found = sorted(self._attempt.in_hand.values(), key=lambda one: one[1])
        if found:
            shown = [
                f"{display(os.fsencode(entry.name))} for {show(round(now - began))}"
                for entry, began in found[:_SHOWN]
            ]
            words += f"; in hand: {', '.join(shown)}{', ...' if found[_SHOWN:] else ''}"
        return words

    def status(self, now: float) -> DaemonStatus:
        """Return what the daemon says of the queue."""
        settings, detector, counters = self._settings, self._detector, self._attempt.counters
        mono, real, custody = time.monotonic(), time.time(), detector.watch.custody
        since = real - mono  # what makes a moment of the monotonic clock a date
        swept, totals = detector.last_sweep, counters.totals()
        return DaemonStatus(
            process=os.getpid(),
            user=_user(),
            host=_host(),
            queue=settings.name,
            started=_STARTED,
            written=real,
            next_by=real + 2 * settings.sweep_every + _LATE,
            stopped=real if self._ended else None,
            leaving=self._leaving,
            troubles=self._health.troubles,
            watch=detector.watch.by if detector.watch.armed else "",
            behind=detector.pending.mode.drops,
            concurrency=settings.concurrency,
            timeout=getattr(settings.handler, "timeout", None),
            in_hand=self._in_hand(since),
            windows={name: Window(*counts) for name, counts in counters.windows(mono).items()},
            times={stage: Times(*times) for stage, times in counters.times(mono).items()},
            totals=Window(totals.handled, totals.failed, totals.rejected),
            histograms={
                stage: Histogram(list(BOUNDS), list(each.counts), each.seconds)
                for stage, each in totals.stages.items()
            },
            failures=[
                Failure(kind.reason, kind.attempts, since + kind.first, since + kind.last)
                for kind in counters.failures(mono)
            ],
            last_success=None if counters.last_success is None else since + counters.last_success,
            in_a_row=counters.in_a_row,
            taken=custody.vanished,
            last_taken=custody.last_taken,
            last_taken_at=custody.last_taken_at or None,
            overflows=detector.overflows,
            missed=detector.missed,
            last_sweep=swept
            and Sweep(max(0.0, real - (now - swept.at)), swept.seconds, swept.found),
        )

    def _in_hand(self, since: float) -> list[InHand]:
        """Return the entries in hand, the one that is longest so first."""
        found = sorted(self._attempt.in_hand.values(), key=lambda one: one[1])
        return [
            InHand(
                display(os.fsencode(entry.name)),
                entry.attempt,
                since + began,
                entry.process,
                entry.known_key,
            )
            for entry, began in found
        ]


@functools.cache
def _user() -> str:
    return user(os.geteuid())


@functools.cache
def _host() -> str:
    return socket.gethostname()
