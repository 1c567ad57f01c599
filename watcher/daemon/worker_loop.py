"""What the worker threads of one queue do: take a pending entry, make an attempt, follow up on it.

    EventReader.wait -> on_events      an idle worker reads events: names go to `Pending`
    Pending.pop -> attempt_safely      the same worker takes the next name, and makes the attempt
    after -> Pending.finish            what follows from the result (`FollowUp`, `HandlerTrial`)

`daemon.batch_loop` has the same for a handler that takes several entries in one call. The daemon's
thread does not come here, but for the methods that say so.
Guarantees: whatever an attempt raises, its entry stays and the thread goes on to the next entry.
After a reload, names and events that still come go to the loop of the new settings (`heir`).
Fails: never.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from watcher.arrive.source import Event, EventKind
from watcher.arrive.sources import Sources
from watcher.attempt import Attempt, Begun
from watcher.claim.passing import Passing
from watcher.config.queue_settings import Queue
from watcher.daemon.canary import EventDelivery
from watcher.daemon.detector import Detector
from watcher.daemon.event_reader import EventReader
from watcher.daemon.follow_up import LOOK_AGAIN, FollowUp
from watcher.daemon.handler_trial import HandlerTrial
from watcher.daemon.ready import Item
from watcher.daemon.returning import Returning, wait_for_loop
from watcher.daemon.status_writer import StatusWriter
from watcher.daemon.trigger_queue import trigger_for
from watcher.observe import log
from watcher.observe.health import Health
from watcher.recovery import Deaths, Recovered
from watcher.rules.age import Clock
from watcher.rules.evidence import Proof
from watcher.rules.kinds import Kind
from watcher.rules.names import display, is_deferred
from watcher.rules.results import DONE, AttemptEnd, AttemptResult
from watcher.settle.finish import REWRITTEN, WENT
from watcher.settle.moves import prepare
from watcher.settle.unremovable import Unremovable
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
    delivery: EventDelivery


class WorkerLoop:
    """One queue's entries in the hands of its worker threads.

    Attributes
    ----------
    detecting:  the lock of `Detector`: events are taken or a tick is made, never both
    stopping:   set when no entry is begun any more
    heir:       the loop that has the queue after a reload; set under `detecting`
    """

    def __init__(
        self,
        settings: Queue,
        attempt: Attempt,
        detector: Detector,
        health: Health,
        status_writer: StatusWriter,
        context: Context,
    ) -> None:
        self.settings = settings
        self.attempt = attempt
        self.detector = detector
        self.health = health
        self.pending = detector.pending
        self.reader = context.reader
        self.detecting = threading.Lock()
        self.stopping = threading.Event()
        self.heir: WorkerLoop | None = None
        self._status_writer = status_writer
        self._real = context.clock.real
        self._wake_daemon = context.wake
        self._passing = Passing()
        self._deaths = Deaths()
        self.returning = Returning(detector.now)
        finisher = attempt.settlement
        finisher.terms = finisher.terms._replace(closed=self.closed)
        self.unremovable = finisher.unremovable = Unremovable(detector.now)
        self.follow_up = FollowUp(detector, health, self.unremovable, self.current, self.wake)
        self.trigger = trigger_for(attempt.handler, attempt, detector, health, self.wake)
        self.trial = HandlerTrial(
            attempt.doubt, attempt.breaker, self.pending, health, settings.retry, context.clock
        )

    # -- the daemon's thread ------------------------------------------------------------------

    def take_over(self, before: WorkerLoop) -> None:
        """Have what the loop of the settings before remembers; the caller holds its `detecting`.

        Called before a thread of this loop has started.
        """
        before.heir = self
        self.returning, self.unremovable = before.returning, before.unremovable
        self.attempt.settlement.unremovable = before.unremovable
        self.follow_up.take_over(before.follow_up)

    def recover(self, spool: Spool) -> Recovered:
        """Settle what dead processes left, without waiting for a disk that refuses.

        A worker that has an entry with an uncounted death calls it, too.
        """
        return self._deaths.count(spool, self.attempt.settlement)

    def try_unremovable(self) -> float:
        """Try again to remove or move what could not be; return the moment of the next try."""
        for name, report in self.unremovable.retry():
            self.follow_up(Item(name, Proof.NONE), report)
            log.event(self.settings.name, "recovered", f"{display(name)}: it could be moved")
        return self.unremovable.next()

    # -- any thread ---------------------------------------------------------------------------

    def current(self) -> WorkerLoop:
        """Return the loop that has the queue now."""
        current = self
        while current.heir is not None:
            current = current.heir
        return current

    def wake(self) -> None:
        """Have the daemon's thread tick this queue."""
        self._wake_daemon(self.current().detector.tag)

    def try_now(self) -> None:
        """Have the next tick try an entry, if the queue is held: what was wrong may be mended."""
        if self.trial.try_now() or (self.trigger is not None and self.trigger.try_now()):
            self.wake()

    # -- the thread that read events ----------------------------------------------------------

    def on_events(self, events: Sequence[Event]) -> None:
        """Take events; the thread that just read them calls this."""
        pending, layout, renamed, arrived = self.pending, self.pending.layout, [], events
        # The kind that is a proof by itself, where no other kind bears on it.
        proof = None if layout.legacy or layout.raw else EventKind.RENAMED
        with self.detecting:
            event_time_ns = self._real()
            if (heir := self.heir) is None:
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
        if self.attempt.breaker.ticket:
            self._try_requeued(arrived)
        if tick_due:
            self.wake()

    def _try_requeued(self, events: Sequence[Event]) -> None:
        """Try an entry now if one that failed is back in the queue: an operator put it there."""
        failed, stem = self.attempt.breaker.failed, self.pending.layout.stem
        if any(
            not is_deferred(name) and failed(stem(name)) for _tag, _seen, name in events if name
        ):
            self.try_now()

    # -- a worker thread ----------------------------------------------------------------------

    def serve(self) -> None:
        """Handle entries until the queue is drained; each worker thread runs this."""
        try:
            self._prepare()
            self.handle_entries(functools.partial(self.reader.wait, self.pending))
        finally:
            spool = self.detector.spool
            if spool is not None:
                spool.ledger.leave()

    def handle_entries(self, wait: Callable[[], None]) -> None:
        """Handle one entry after the other; `wait` returns when there may be another one."""
        pending, reader, detector = self.pending, self.reader, self.detector
        follow_up, breaker, status_writer = (
            self.follow_up,
            self.attempt.breaker,
            self._status_writer,
        )
        while (item := pending.pop(wait)) is not None:
            reader.begin_work()
            report = self.attempt_safely(item, self.attempt)
            memory = follow_up.looks or follow_up.not_deferred or self.settings.legacy
            news = status_writer.names_in_hand or breaker.ticket or self.health.troubles
            linked = item.proof is Proof.LINKED
            if report is DONE and not (memory or news or linked or detector.scan_waits):
                pending.finish(item.name, handled=True)  # what `after` comes to, without a call
            else:
                self.after(item, report)

    def after(self, item: Item, report: AttemptResult) -> None:
        """Let go of an entry after an attempt, and do what follows from the result."""
        pending, follow_up = self.pending, self.follow_up
        if report.result is AttemptEnd.MISCONFIGURED:
            self._try_others(item, report)
            return
        if report.result is AttemptEnd.STOPPED and self.heir is not None:
            self.pass_on(item)
            return
        memory = follow_up.looks or follow_up.not_deferred or self.health.troubles
        if report is not DONE or memory or self.settings.legacy:  # DONE may end a trouble
            follow_up(item, report)
        pending.finish(item.name, handled=report.result is AttemptEnd.DONE)
        if self._status_writer.names_in_hand:
            self._end_named()
        if item.proof is Proof.LINKED and not pending.known(item.name):
            pending.created.forget(item.name)
        troubled = self.health.troubles or self.attempt.breaker.ticket
        if troubled and self.trial.look(report.result):
            self.wake()
        if self.detector.scan_waits and pending.has_room():
            self.detector.scan_waits = False
            self.wake()

    def _end_named(self) -> None:
        """Have the daemon's thread publish that an entry which its status names has ended."""
        self._status_writer.names_in_hand = False
        self.wake()

    def attempt_safely(self, item: Item, make: Callable[..., Made]) -> Made | AttemptResult:
        """Make an attempt at an entry, or begin one; whatever it raises is its result."""
        name, proof, event_time_ns = item
        spool = self.detector.watch.spool
        if spool is None:
            return AttemptResult(AttemptEnd.GONE)
        try:
            returning = self.returning
            if name in returning.names and (loop := returning.look(spool, name)) is not None:
                return wait_for_loop(self.settings.name, name, loop)
            if name in self._deaths.uncounted and self._count_death(spool, name):
                return AttemptResult(AttemptEnd.GONE)
            look = self.follow_up.looks.get(name)
            renamed = None if look is None else look.renamed
            if self.trigger is not None:
                return self.trigger(spool, name, proof, event_time_ns, renamed)
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
        self.recover(spool)
        return spool.stat_at(name) is None

    def note_end(self, item: Item, report: AttemptResult) -> None:
        """Note how an attempt ended that was begun by `attempt_safely`."""
        self.returning.ended(item.name, report, (WENT, REWRITTEN))
        if report.why is REWRITTEN:
            self._put_back(report.name or item.name)

    def _until_free(self, spool: Spool, item: Item, make: Callable[..., Made]) -> Made | None:
        """Try a busy entry again for a moment: an operator's command holds it only so long."""
        found = None
        for _ in self._passing.looks(spool, item.name, self.stopping.wait):
            found = make(spool, *item)
            if isinstance(found, Begun) or found.result is not AttemptEnd.BUSY:
                break
        return found

    def _try_others(self, item: Item, report: AttemptResult) -> None:
        """Try other entries: the handler did not run for this one."""
        if self.heir is not None:  # it has another handler, perhaps, and a doubt of its own
            self.pass_on(item)
            return
        self.trial.begin(item, report.why)
        self.wake()

    def pass_on(self, item: Item) -> None:
        """Let go of an entry, and give it to the settings after a reload, if there are any."""
        self.pending.finish(item.name)
        if self.heir is not None and not self.current().pending.push(*item):
            self.follow_up.again(item, self.settings.retry.initial, item.proof)

    def _prepare(self) -> None:
        """Import what an attempt may need; while that fails, report it and try again."""
        while not self.stopping.is_set():
            try:
                prepare()
            except Exception as error:  # noqa: BLE001 - a thread that ended here would not be replaced
                why = f"modules cannot be imported: {type(error).__name__}: {error}"
                self.health.trouble("modules", why)
                self.stopping.wait(LOOK_AGAIN)
            else:
                self.health.trouble("modules", None)
                return

    def _put_back(self, name: bytes) -> None:
        """Take note that this process linked a file back into the queue: no writer committed it."""
        self.reader.read_all()  # first: the IN_CREATE of that link
        self.current().pending.created.on_close(name)

    def closed(self, name: bytes) -> bool | None:
        """Return whether a writer closed a file of which IN_CREATE told (`ClaimOptions.closed`)."""
        self.reader.read_all()
        closed = self.current().pending.created.closed(name)
        # Another process may have put the file back by a link of its own (`settle.put_back`).
        return None if closed is False and self._has_others() else closed

    def _has_others(self) -> bool:
        """Whether another process works on the queue, as far as its directories can be read."""
        spool = self.detector.spool
        return spool is None or has_others(spool)
