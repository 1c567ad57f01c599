"""One queue at work, as the daemon's thread sees it: made, ticked, reloaded, drained.

The threads that handle its entries run `WorkerLoop`, and `Detector` finds the entries.
Guarantees: each part is ticked by the daemon's thread alone, and when it is due. A reload loses no
name and gives up no claim. A worker that has drained has closed what it opened.
Fails: never; `health` says what is wrong.
"""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Iterable

from watcher.attempt import Attempt
from watcher.config.queue_settings import Queue
from watcher.daemon.archive_keeper import ArchiveKeeper
from watcher.daemon.batch_loop import BatchLoop
from watcher.daemon.canary import Canary
from watcher.daemon.detector import Detector
from watcher.daemon.disk_patience import DiskPatience
from watcher.daemon.long_attempts import Long, LongAttempts
from watcher.daemon.status_writer import StatusWriter
from watcher.daemon.trigger_queue import CURE
from watcher.daemon.worker_loop import Context, WorkerLoop
from watcher.daemon.workers import Workers
from watcher.handle.batch_handler import BatchHandler
from watcher.handle.handler import Handler
from watcher.observe import log
from watcher.observe.health import Health
from watcher.recovery import Recovered
from watcher.rules.age import Clock
from watcher.rules.lifecycle import Move
from watcher.rules.names import display
from watcher.rules.service_messages import InHand, QueueState
from watcher.settle.finish import Finisher
from watcher.settle.refused import DiskRetry
from watcher.spool.claimed import ClaimOptions
from watcher.spool.journal import FLUSH_AFTER
from watcher.spool.spool import Spool


class QueueWorker:
    """One queue in this process: its detector, its pending entries, its worker threads.

    A kind of queue whose entries come or go another way is a subclass. It replaces `make_finisher`,
    `make_attempt` or `loop_class`, which are called once, while the worker is made.
    """

    def __init__(self, tag: int, settings: Queue, handler: Handler, context: Context) -> None:
        self.tag = tag
        self.settings = settings
        self.handler = handler
        self.health = Health(settings.name)
        sources, clock = context.sources, context.clock
        self.detector = Detector(tag, settings, sources, clock, self.health, self._recover)
        self.pending = self.detector.pending
        self._reader = context.reader
        self._archive_keeper = ArchiveKeeper(settings, self.health, clock)
        self._disk_patience = DiskPatience(self.detector.now)
        disk = DiskRetry(
            self._disk_patience.pause,
            lambda text: self.loop.current().detector.watch.on_disk(text),  # noqa: PLW0108 - the heir's
        )
        terms = settings.claim_options(self.pending.ages)
        settlement = self.make_finisher(terms, clock, disk)
        settlement.emitted = frozenset(move for move in Move if log.shows(move))
        self._attempt = self.make_attempt(handler, settlement)
        self._status_writer = StatusWriter(settings, self.health, self.detector, self._attempt)
        self.loop = self.loop_class()(
            settings, self._attempt, self.detector, self.health, self._status_writer, context
        )
        self.on_events = self.loop.on_events
        self.health.on_change = self.loop.wake
        self._canary = Canary(
            settings, self.detector, self.health, context.delivery, self.loop.detecting
        )
        self._long_attempts = LongAttempts(
            settings.name, settings.warn_after, self.health, self._in_hand
        )
        if self.loop.trigger is not None:
            self._long_attempts.cure = CURE
        self._workers = Workers(settings.name, settings.concurrency, self.loop.serve, self.health)

    def make_finisher(self, terms: ClaimOptions, clock: Clock, disk: DiskRetry) -> Finisher:
        """Return what ends the attempts at the queue's entries."""
        settings = self.settings
        return Finisher(settings.name, terms, settings.retry, clock, log.transition, disk)

    def make_attempt(self, handler: Handler, finisher: Finisher) -> Attempt:
        """Return what makes the attempts."""
        return Attempt(handler, finisher, self.settings.breaker)

    def loop_class(self) -> type[WorkerLoop]:
        """Return what the worker threads run."""
        return BatchLoop if isinstance(self.handler, BatchHandler) else WorkerLoop

    def start(self) -> None:
        """Start the workers; the watch and the first scan come with the first tick."""
        self._workers.start(self.detector.now())

    def take_over(self, before: QueueWorker) -> None:
        """Take the queue over from the worker of the settings before; it is drained afterwards.

        That worker keeps the entries that it has in hand, with its claims and its slots of the
        ledger, until its last thread has ended. Process directory, ledger and journal belong to
        the spool, which both share. What the worker before still learns (an event that was read
        before, a moment to look again) it passes on.
        """
        with before.loop.detecting:
            self.loop.take_over(before.loop)
            self.detector.take_over(before.detector)
            self._canary.take_over(before._canary)
            if self.settings.path == before.settings.path:
                # Shared: the entries that the worker before has in hand are this queue's.
                self._attempt.counters = before._attempt.counters
                self._attempt.in_hand = before._attempt.in_hand

    def stand_beside(self, leaving: Iterable[QueueWorker]) -> None:
        """Take note of a worker of the directory that the daemon has parted with, and that works.

        Such a queue was dropped by a reload, and is there again, or has another name now.
        """
        for other in leaving:
            spool = other.detector.spool
            if spool is not None and other.settings.path == self.settings.path:
                self.detector.watch.beside = weakref.ref(spool)

    def missing(self) -> bool:
        """Whether the queue is one of many directories, and its own is found missing; asked once.

        The daemon's thread calls this.
        """
        missing, self.detector.watch.missing = self.detector.watch.missing, False
        return missing

    def tick(self) -> float:
        """Do what is due; return the moment (see `Detector.now`) at which the next thing is."""
        with self.loop.detecting:
            due = self.detector.tick()
        if self.detector.spool is not None:
            self.detector.spool.journal.flush(FLUSH_AFTER)
        self._reader.look_for_sources()
        due = min(due, self._workers.start(self.detector.now()), self.loop.try_unremovable())
        if self.loop.heir is None:
            due = min(due, self._archive_keeper.tick(self.detector.spool))
            due = min(due, self._canary.tick(self.detector.now()))
            due = min(due, self._status_writer.tick())
            due = min(due, self._long_attempts.tick(self.detector.now()))
            if self.loop.trigger is not None:
                due = min(due, self.loop.trigger.tick(self.detector.now()))
        return min(due, self.loop.trial.tick())

    def pass_locks(self) -> None:
        """Take and release the locks that its workers need (`service_manager`)."""
        with self.loop.detecting:
            self.pending.pass_lock()

    def state(self) -> QueueState:
        """Return what the status line for the service manager says of the queue."""
        # A worker that leaves finishes what it has in hand; the queue's troubles are its heir's.
        troubles = {} if self.loop.stopping.is_set() else self.health.troubles
        in_hand = len(self.pending.working())
        return QueueState(self.settings.name, len(self.pending), in_hand, troubles)

    def running(self) -> list[InHand]:
        """Return for how long each attempt has run, and its handler's timeout."""
        timeout, now = getattr(self.settings.handler, "timeout", None), time.monotonic()
        return [InHand(now - one.began, timeout) for one in self._in_hand()]

    def sweep_now(self) -> None:
        """Sweep at the next tick, and try an entry then if the queue is held."""
        self.detector.sweep_now()
        self.try_now()

    def try_now(self) -> None:
        """Have the next tick try an entry, if the queue is held: what was wrong may be mended."""
        self.loop.try_now()

    def _in_hand(self) -> list[Long]:
        """Return the attempts that worker threads make now; those of one batch as one."""
        found: dict[tuple[float, int | None], Long] = {}
        for entry, began in list(self._attempt.in_hand.values()):
            name, more = display(os.fsencode(entry.name)), 0
            if (other := found.get((began, entry.process))) is not None:  # began at one moment
                name, more = other.entry, other.more + 1
            found[began, entry.process] = Long(name, entry.process, began, more)
        return list(found.values())

    def status(self, holds: str) -> str:
        """Return the status of the queue in one line; `holds` says what lies in it."""
        stay = len(self.loop.unremovable)
        more = f", {stay} that cannot be removed" if stay else ""
        if taken := self.detector.watch.custody.vanished:
            more += f", {taken} taken by another program"
        pause = self.detector.watch.pause.found
        paused = "" if pause is None else f"{pause}; "
        now = self._status_writer.in_words()
        return f"{self.health}; {paused}{holds}, {self.pending.handled} handled{more}{now}"

    def _recover(self, spool: Spool) -> Recovered:
        """Settle what dead processes left, at the start of each sweep."""
        return self.loop.recover(spool)

    def forget_in_hand(self) -> None:
        """Clear the ledger: this process is told to stop, and its death counts for no entry."""
        if self.detector.spool is not None:
            self.detector.spool.ledger.clear()

    def end(self) -> None:
        """Begin no entry any more, and soon give up what the disk refuses: the process ends."""
        self._disk_patience.end()
        self.drain()

    def leave(self) -> None:
        """Begin no entry any more, while the process goes on with other settings."""
        self.drain()
        if self._is_alone():
            self._status_writer.leave()

    def _is_alone(self) -> bool:
        """Whether no worker of other settings speaks for this spool."""
        return self.loop.heir is None or self.loop.heir.detector.spool is not self.detector.spool

    def drain(self) -> None:
        """Begin no entry any more; those in hand are finished, however long the disk refuses."""
        self.loop.stopping.set()
        self._workers.stop()
        self.detector.stop()

    def drained(self) -> bool:
        """Whether every thread has ended; if so, close the directory.

        Until then the status is kept true: if it came late, the daemon would be taken for stuck.
        """
        ended = self._workers.ended()
        alone = self._is_alone()
        if alone and not ended:
            self._status_writer.tick()
        if ended:
            if alone:
                self._status_writer.end()
            self.detector.close()
            if self.loop.heir is None:
                self.loop.unremovable.let_go()
        return ended

    def wait_drained(self, seconds: float) -> bool:
        """Wait at most so many seconds for every thread to end; return whether all have."""
        self._workers.wait(seconds)
        return self.drained()
