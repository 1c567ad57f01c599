"""One queue at work: `Detector` finds entries, worker threads make an attempt at each.

Guarantees: whatever an attempt raises, its entry stays and the worker goes on to the next entry.
One table says what follows from the result of an attempt (`follow_up`).
Fails: never; `health` says what is wrong.
"""

from __future__ import annotations

import functools
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeVar

from watcher.arrive.source import Event, EventKind
from watcher.arrive.sources import Sources
from watcher.attempt import Attempt, Begun
from watcher.batch import Batch, most_in_batch
from watcher.claim.passing import Passing
from watcher.config.queue_settings import Queue
from watcher.daemon.archive_keeper import ArchiveKeeper
from watcher.daemon.canary import Canary, Delivery
from watcher.daemon.detector import Detector
from watcher.daemon.disk_patience import DiskPatience
from watcher.daemon.event_reader import EventReader
from watcher.daemon.follow_up import LOOK_AGAIN, FollowUp
from watcher.daemon.gather import gather, may_begin
from watcher.daemon.handler_trial import HandlerTrial
from watcher.daemon.long_attempts import Long, LongAttempts
from watcher.daemon.publisher import Publisher
from watcher.daemon.ready import Item
from watcher.daemon.returning import Returning, wait_for_loop
from watcher.daemon.trigger_queue import CURE, trigger_for
from watcher.daemon.workers import Workers
from watcher.handle.batch_handler import BatchHandler
from watcher.handle.handler import Handler
from watcher.observe import log
from watcher.observe.health import Health
from watcher.recovery import Deaths, Recovered
from watcher.rules.age import Clock
from watcher.rules.evidence import Proof
from watcher.rules.kinds import Kind
from watcher.rules.lifecycle import Move
from watcher.rules.names import display, is_deferred
from watcher.rules.results import DONE, AttemptEnd, AttemptResult
from watcher.rules.service_messages import InHand, QueueState
from watcher.settle.finish import REWRITTEN, WENT, Finisher
from watcher.settle.moves import prepare
from watcher.settle.refused import DiskRetry
from watcher.settle.unremovable import Unremovable
from watcher.spool.claimed import ClaimOptions
from watcher.spool.journal import FLUSH_AFTER
from watcher.spool.process_dir import has_others
from watcher.spool.spool import Spool

# What an attempt that is made, or only begun, comes to.
Made = TypeVar("Made", bound="AttemptResult | Begun")


class Context(NamedTuple):
    """What a queue shares with the others of its process."""

    sources: Sources
    reader: EventReader
    clock: Clock
    wake: Callable[[int], None]  # makes the daemon's thread tick the queue with this tag
    delivery: Delivery


class QueueWorker:
    """One queue in this process: its detector, its pending entries, its worker threads."""

    def __init__(self, tag: int, settings: Queue, handler: Handler, context: Context) -> None:
        self.tag = tag
        self.settings = settings
        self.handler = handler
        self.health = Health(settings.name)
        sources, self._reader, clock, self._wake_daemon, delivery = context
        self.detector = Detector(tag, settings, sources, clock, self.health, self._recover)
        self.pending = self.detector.pending
        self._archive_keeper = ArchiveKeeper(settings, self.health, clock)
        self._real = clock.real
        self._detecting = threading.Lock()  # for the detector: a thread reads events, another ticks
        self._canary = Canary(settings, self.detector, self.health, delivery, self._detecting)
        self._heir: QueueWorker | None = None  # has the queue after a reload
        self._stopping = threading.Event()  # no entry is begun any more
        self._disk_patience = DiskPatience(self.detector.now)
        self._passing = Passing()
        self._deaths = Deaths()
        terms = settings.claim_options(self.pending.ages)._replace(closed=self._closed)
        disk = DiskRetry(
            self._disk_patience.pause,
            lambda text: self._current().detector.watch.on_disk(text),  # noqa: PLW0108 - the heir's
        )
        settlement = self._make_finisher(terms, clock, disk)
        settlement.unremovable = self._unremovable = Unremovable(self.detector.now)
        self._returning = Returning(self.detector.now)
        self._follow_up = FollowUp(
            self.detector, self.health, self._unremovable, self._current, self._wake
        )
        settlement.emitted = frozenset(move for move in Move if log.shows(move))
        self._attempt = self._make_attempt(handler, settlement)
        self._trigger = trigger_for(handler, self._attempt, self.detector, self.health, self._wake)
        self._publisher = Publisher(settings, self.health, self.detector, self._attempt)
        self.health.on_change = self._wake
        self._long_attempts = LongAttempts(
            settings.name, settings.warn_after, self.health, self._in_hand
        )
        if self._trigger is not None:
            self._long_attempts.cure = CURE
        self._trial = HandlerTrial(
            self._attempt.doubt,
            self._attempt.breaker,
            self.pending,
            self.health,
            settings.retry,
            clock,
        )
        self._workers = Workers(settings.name, settings.concurrency, self._serve, self.health)

    def _make_finisher(self, terms: ClaimOptions, clock: Clock, disk: DiskRetry) -> Finisher:
        settings = self.settings
        return Finisher(settings.name, terms, settings.retry, clock, log.transition, disk)

    def _make_attempt(self, handler: Handler, finisher: Finisher) -> Attempt:
        return Attempt(handler, finisher, self.settings.breaker)

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
        with before._detecting:
            before._heir = self
            self._returning, self._unremovable = before._returning, before._unremovable
            self._attempt.settlement.unremovable = before._unremovable
            self._follow_up.take_over(before._follow_up)
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

    def _current(self) -> QueueWorker:
        """Return the worker that has the queue now."""
        current = self
        while current._heir is not None:
            current = current._heir
        return current

    def _wake(self) -> None:
        """Have the daemon's thread tick this queue; any thread may call it."""
        self._wake_daemon(self._current().tag)

    def missing(self) -> bool:
        """Whether the queue is one of many directories, and its own is found missing; asked once.

        The daemon's thread calls this.
        """
        missing, self.detector.watch.missing = self.detector.watch.missing, False
        return missing

    def tick(self) -> float:
        """Do what is due; return the moment (see `Detector.now`) at which the next thing is."""
        with self._detecting:
            due = self.detector.tick()
        if self.detector.spool is not None:
            self.detector.spool.journal.flush(FLUSH_AFTER)
        self._reader.look_for_sources()
        due = min(due, self._workers.start(self.detector.now()), self._try_unremovable())
        if self._heir is None:
            due = min(due, self._archive_keeper.tick(self.detector.spool))
            due = min(due, self._canary.tick(self.detector.now()))
            due = min(due, self._publisher.tick())
            due = min(due, self._long_attempts.tick(self.detector.now()))
            if self._trigger is not None:
                due = min(due, self._trigger.tick(self.detector.now()))
        return min(due, self._trial.tick())

    def pass_locks(self) -> None:
        """Take and release the locks that its workers need (`service_manager`)."""
        with self._detecting:
            self.pending.pass_lock()

    def state(self) -> QueueState:
        """Return what the status line for the service manager says of the queue."""
        # A worker that leaves finishes what it has in hand; the queue's troubles are its heir's.
        troubles = {} if self._stopping.is_set() else self.health.troubles
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
        if self._trial.try_now() or (self._trigger is not None and self._trigger.try_now()):
            self._wake()

    def _in_hand(self) -> list[Long]:
        """Return the attempts that worker threads make now; those of one batch as one."""
        found: dict[tuple[float, int | None], Long] = {}
        for entry, began in list(self._attempt.in_hand.values()):
            name, more = display(os.fsencode(entry.name)), 0
            if (other := found.get((began, entry.process))) is not None:  # began at one moment
                name, more = other.entry, other.more + 1
            found[began, entry.process] = Long(name, entry.process, began, more)
        return list(found.values())

    def _try_unremovable(self) -> float:
        """Try again to remove or move what could not be; return the moment of the next try."""
        for name, report in self._unremovable.retry():
            self._follow_up(Item(name, Proof.NONE), report)
            log.event(self.settings.name, "recovered", f"{display(name)}: it could be moved")
        return self._unremovable.next()

    def on_events(self, events: Sequence[Event]) -> None:
        """Take events; the thread that just read them calls this."""
        pending, layout, renamed, arrived = self.pending, self.pending.layout, [], events
        # The kind that is a proof by itself, where no other kind bears on it.
        proof = None if layout.legacy or layout.raw else EventKind.RENAMED
        with self._detecting:
            event_time_ns = self._real()
            if (heir := self._heir) is None:
                pending.tick_due = False
                if layout.raw:
                    self.detector.on_raw_events(events, event_time_ns)
                    events = ()
                for _tag, seen, name in events:
                    if seen is not proof or is_deferred(name):
                        self.detector.on_event(seen, name, event_time_ns)
                    elif layout.kind(name) is Kind.ENTRY:
                        renamed.append(name)
                if renamed:
                    pending.add(renamed, Proof.RENAMED, event_time_ns)
            tick_due = pending.tick_due
        if heir is not None:
            heir.on_events(events)
            return
        if self._attempt.breaker.ticket:
            self._try_requeued(arrived)
        if tick_due:
            self._wake()

    def _try_requeued(self, events: Sequence[Event]) -> None:
        """Try an entry now if one that failed is back in the queue: an operator put it there."""
        failed, stem = self._attempt.breaker.failed, self.pending.layout.stem
        if any(
            not is_deferred(name) and failed(stem(name)) for _tag, _seen, name in events if name
        ):
            self.try_now()

    def _put_back(self, name: bytes) -> None:
        """Take note that this process linked a file back into the queue: no writer committed it."""
        self._reader.read_all()  # first: the IN_CREATE of that link
        self._current().pending.created.on_close(name)

    def _closed(self, name: bytes) -> bool | None:
        """Return whether a writer closed a file of which IN_CREATE told (`ClaimOptions.closed`)."""
        self._reader.read_all()
        closed = self._current().pending.created.closed(name)
        # Another process may have put the file back by a link of its own (`settle.put_back`).
        return None if closed is False and self._has_others() else closed

    def _has_others(self) -> bool:
        """Whether another process works on the queue, as far as its directories can be read."""
        spool = self.detector.spool
        return spool is None or has_others(spool)

    def _prepare(self) -> None:
        """Import what an attempt may need; while that fails, report it and try again."""
        while not self._stopping.is_set():
            try:
                prepare()
            except Exception as error:  # noqa: BLE001 - a thread that ended here would not be replaced
                why = f"modules cannot be imported: {type(error).__name__}: {error}"
                self.health.trouble("modules", why)
                self._stopping.wait(LOOK_AGAIN)
            else:
                self.health.trouble("modules", None)
                return

    def _serve(self) -> None:
        try:
            self._serve_entries()
        finally:
            spool = self.detector.spool
            if spool is not None:
                spool.ledger.leave()

    def _serve_entries(self) -> None:
        self._prepare()
        wait = functools.partial(self._reader.wait, self.pending)
        if isinstance(self.handler, BatchHandler):
            self._serve_batches(self.handler, wait)
        else:
            self._serve_each(wait)

    def _serve_each(self, wait: Callable[[], None]) -> None:
        pending, reader, detector = self.pending, self._reader, self.detector
        follow_up, breaker, publisher = self._follow_up, self._attempt.breaker, self._publisher
        while (item := pending.pop(wait)) is not None:
            reader.begin_work()
            report = self._attempt_safely(item, self._attempt)
            memory = follow_up.looks or follow_up.not_deferred or self.settings.legacy
            news = publisher.names_in_hand or breaker.ticket or self.health.troubles
            linked = item.proof is Proof.LINKED
            if report is DONE and not (memory or news or linked or detector.scan_waits):
                pending.finish(item.name, handled=True)  # what `_after` comes to, without a call
            else:
                self._after(item, report)

    def _after(self, item: Item, report: AttemptResult) -> None:
        """Let go of an entry after an attempt, and do what follows from the result."""
        pending, follow_up = self.pending, self._follow_up
        if report.result is AttemptEnd.MISCONFIGURED:
            self._try_others(item, report)
            return
        if report.result is AttemptEnd.STOPPED and self._heir is not None:
            self._pass_on(item)
            return
        memory = follow_up.looks or follow_up.not_deferred or self.health.troubles
        if report is not DONE or memory or self.settings.legacy:  # DONE may end a trouble
            follow_up(item, report)
        pending.finish(item.name, handled=report.result is AttemptEnd.DONE)
        if self._publisher.names_in_hand:
            self._end_named()
        if item.proof is Proof.LINKED and not pending.known(item.name):
            pending.created.forget(item.name)
        troubled = self.health.troubles or self._attempt.breaker.ticket
        if troubled and self._trial.look(report.result):
            self._wake()
        if self.detector.scan_waits and pending.has_room():
            self.detector.scan_waits = False
            self._wake()

    def _serve_batches(self, handler: BatchHandler, wait: Callable[[], None]) -> None:
        pending, reader = self.pending, self._reader
        while (first := pending.pop(wait)) is not None:
            most = min(handler.most, most_in_batch(self.settings.concurrency))
            items = gather(pending, reader, first, most, handler.wait)
            if may_begin(pending, items):
                reader.begin_work()
                self._attempt_together(items, handler)
            elif pending.closed:
                for item in items:
                    self._pass_on(item)

    def _attempt_together(self, items: Sequence[Item], handler: BatchHandler) -> None:
        """Make an attempt at each of some entries, as far as they fit into one batch."""
        by_number: dict[int, Item] = {}

        def settled(begun: Begun, report: AttemptResult) -> None:
            item = by_number.pop(begun.number)
            self._note_end(item, report)
            self._after(item, report)

        batch = Batch(self._attempt, handler, settled, self._stopping.is_set)
        try:
            for place, item in enumerate(items):
                if batch.full():
                    self._give_back(items[place:])
                    break
                begin = functools.partial(self._attempt.begin, number=batch.number)
                found = self._attempt_safely(item, begin)
                if isinstance(found, Begun):
                    by_number[found.number] = item
                    batch.add(found)
                else:
                    self._after(item, found)
            batch.run()
        except Exception as error:  # noqa: BLE001 - a bug of ours: the entries stay, the queue goes on
            log.log.exception("bug")
            batch.let_go()
            for item in by_number.values():
                why = f"{display(item.name)}: {type(error).__name__}: {error}"
                self._after(item, AttemptResult(AttemptEnd.STUCK, why))

    def _give_back(self, items: Sequence[Item]) -> None:
        """Give entries out again before all others: they were taken, and not begun."""
        for item in reversed(items):
            if self.pending.closed:
                self._pass_on(item)
            else:
                self.pending.put_back(item)

    def _end_named(self) -> None:
        """Have the daemon's thread publish that an entry which its status names has ended."""
        self._publisher.names_in_hand = False
        self._wake()

    def _attempt_safely(self, item: Item, make: Callable[..., Made]) -> Made | AttemptResult:
        """Make an attempt at an entry, or begin one; whatever it raises is its result."""
        name, proof, event_time_ns = item
        spool = self.detector.watch.spool
        if spool is None:
            return AttemptResult(AttemptEnd.GONE)
        try:
            returning = self._returning
            if name in returning.names and (loop := returning.look(spool, name)) is not None:
                return wait_for_loop(self.settings.name, name, loop)
            if name in self._deaths.uncounted and self._count_death(spool, name):
                return AttemptResult(AttemptEnd.GONE)
            look = self._follow_up.looks.get(name)
            renamed = None if look is None else look.renamed
            if self._trigger is not None:
                return self._trigger(spool, name, proof, event_time_ns, renamed)
            report = make(spool, name, proof, event_time_ns, renamed)
            if isinstance(report, Begun):
                return report
            if report.result is AttemptEnd.BUSY and look is None:
                report = self._until_free(spool, item, make) or report
                if isinstance(report, Begun):
                    return report
            returning.ended(name, report, (WENT, REWRITTEN))
            if report.why is REWRITTEN:
                self._put_back(report.name or name)
            return report  # noqa: TRY300 - what comes before it may raise
        except Exception as error:  # noqa: BLE001 - a bug of ours: the entry stays, the queue goes on
            log.log.exception("bug")
            return AttemptResult(
                AttemptEnd.STUCK, f"{display(name)}: {type(error).__name__}: {error}"
            )

    def _count_death(self, spool: Spool, name: bytes) -> bool:
        """Count the death of the process that had an entry; return whether the entry moved away."""
        self._recover(spool)
        return spool.stat_at(name) is None

    def _note_end(self, item: Item, report: AttemptResult) -> None:
        """Note how an attempt ended that was begun by `_attempt_safely`."""
        self._returning.ended(item.name, report, (WENT, REWRITTEN))
        if report.why is REWRITTEN:
            self._put_back(report.name or item.name)

    def _until_free(self, spool: Spool, item: Item, make: Callable[..., Made]) -> Made | None:
        """Try a busy entry again for a moment: an operator's command holds it only so long."""
        found = None
        for _ in self._passing.looks(spool, item.name, self._stopping.wait):
            found = make(spool, *item)
            if isinstance(found, Begun) or found.result is not AttemptEnd.BUSY:
                break
        return found

    def _try_others(self, item: Item, report: AttemptResult) -> None:
        """Try other entries: the handler did not run for this one."""
        if self._heir is not None:  # it has another handler, perhaps, and a doubt of its own
            self._pass_on(item)
            return
        self._trial.begin(item, report.why)
        self._wake()

    def _pass_on(self, item: Item) -> None:
        """Let go of an entry, and give it to the settings after a reload, if there are any."""
        self.pending.finish(item.name)
        if self._heir is not None and not self._current().pending.push(*item):
            self._follow_up.again(item, self.settings.retry.initial, item.proof)

    def status(self, holds: str) -> str:
        """Return the status of the queue in one line; `holds` says what lies in it."""
        stay = len(self._unremovable)
        more = f", {stay} that cannot be removed" if stay else ""
        if taken := self.detector.watch.custody.vanished:
            more += f", {taken} taken by another program"
        pause = self.detector.watch.pause.found
        paused = "" if pause is None else f"{pause}; "
        now = self._publisher.in_words()
        return f"{self.health}; {paused}{holds}, {self.pending.handled} handled{more}{now}"

    def _recover(self, spool: Spool) -> Recovered:
        """Settle what dead processes left, without waiting for a disk that refuses.

        The daemon's thread calls this, and a worker that has an entry with an uncounted death.
        """
        return self._deaths.count(spool, self._attempt.settlement)

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
            self._publisher.leave()

    def _is_alone(self) -> bool:
        """Whether no worker of other settings speaks for this spool."""
        return self._heir is None or self._heir.detector.spool is not self.detector.spool

    def drain(self) -> None:
        """Begin no entry any more; those in hand are finished, however long the disk refuses."""
        self._stopping.set()
        self._workers.stop()
        self.detector.stop()

    def drained(self) -> bool:
        """Whether every thread has ended; if so, close the directory.

        Until then the status is kept true: if it came late, the daemon would be taken for stuck.
        """
        ended = self._workers.ended()
        alone = self._is_alone()
        if alone and not ended:
            self._publisher.tick()
        if ended:
            if alone:
                self._publisher.end()
            self.detector.close()
            if self._heir is None:
                self._unremovable.let_go()
        return ended

    def wait_drained(self, seconds: float) -> bool:
        """Wait at most so many seconds for every thread to end; return whether all have."""
        self._workers.wait(seconds)
        return self.drained()
