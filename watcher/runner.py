"""One queue at work: `Notice` finds entries, worker threads make an attempt at each.

Guarantees: the follow-up of every result of an attempt is in one table (`_follow_up`); whatever an
attempt raises, its entry stays and the worker goes on to the next.
Fails: never; what is wrong is in `health`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

from watcher.age import Clock
from watcher.arrive.source import Hint
from watcher.arrive.sources import Sources
from watcher.attempt import Attempt
from watcher.claim import ledger
from watcher.claim.take import Terms
from watcher.config import Queue
from watcher.evidence import How
from watcher.handle.outcome import Handler
from watcher.lifecycle import Move
from watcher.listen import Listener
from watcher.notice import Notice
from watcher.recovery import Recovered, recover
from watcher.report import DONE, Patience, Report, Result
from watcher.settle.backoff import delay
from watcher.settle.settle import prepare
from watcher.settlement import Settlement
from watcher.spool.journal import FLUSH_AFTER
from watcher.spool.layout import display
from watcher.spool.spool import Spool
from watcher.telemetry import log
from watcher.telemetry.health import Health
from watcher.workers import Workers

LOOK_AGAIN = 1.0  # seconds until the second look at an entry that another has, then doubling
LOOK_LONGEST = 60.0  # seconds
MAX_COUNTED = 65_536  # names whose attempts are counted


class Around(NamedTuple):
    """What a queue shares with the others of its process."""

    sources: Sources
    listener: Listener
    clock: Clock
    wake: Callable[[], None]  # has the daemon's thread tick


class Runner:
    """Everything of one queue in this process."""

    def __init__(self, tag: int, settings: Queue, handler: Handler, around: Around) -> None:
        self.settings = settings
        self.handler = handler
        self.health = Health(settings.name)
        sources, self._listener, clock, self._wake = around
        self.notice = Notice(tag, settings, sources, clock, self.health, self._recover)
        self.intake = self.notice.intake
        self._noticing = threading.Lock()  # one thread tells it hints, another ticks
        self.done = 0
        self._stopping = threading.Event()
        self._next_probe: float | None = None
        self._not_deferred: set[bytes] = set()  # names whose deferral the disk refused
        self._looks: dict[bytes, tuple[int, int]] = {}  # when it was heard of, how often looked at
        terms = Terms(settings.grace_age, self.intake.ages, settings.max_size)
        patience = Patience(
            lambda seconds: not self._stopping.wait(seconds),
            lambda text: self.health.trouble("disk", text),
        )
        settlement = Settlement(
            settings.name, terms, settings.retry, clock, log.transition, patience
        )
        settlement.tells = frozenset(move for move in Move if log.shows(move))
        self._attempt = Attempt(handler, settlement)
        self._workers = Workers(settings.name, settings.concurrency, self._serve, self.health)

    def start(self) -> None:
        """Start the workers; the watch and the first scan come with the first tick."""
        self._workers.start(self.notice.now())

    def tick(self) -> float:
        """Do what is due; return the moment (see `Notice.now`) at which the next thing is."""
        with self._noticing:
            due = self.notice.tick()
        if self.notice.spool is not None:
            self.notice.spool.journal.flush(FLUSH_AFTER)
        self._listener.wake_if_new()
        due = min(due, self._workers.start(self.notice.now()))
        if self._next_probe is None:
            return due
        if self.notice.now() >= self._next_probe:
            self._next_probe = None
            self.intake.ready.allow(1)
            return due
        return min(due, self._next_probe)

    def hear(self, hints: Sequence[Hint]) -> None:
        """Take hints; called by the worker that listens."""
        with self._noticing:
            wants_tick = self.notice.hear(hints)
        if wants_tick:
            self._wake()

    def _prepare(self) -> None:
        """Import what an attempt may need; while that is refused, say so and try again."""
        while not self._stopping.is_set():
            try:
                prepare()
            except Exception as error:  # noqa: BLE001 - a worker that ends here would not be missed
                why = f"modules cannot be imported: {type(error).__name__}: {error}"
                self.health.trouble("modules", why)
                self._stopping.wait(LOOK_AGAIN)
            else:
                self.health.trouble("modules", None)
                return

    def _serve(self) -> None:
        self._prepare()
        ready, listener = self.intake.ready, self._listener
        while (item := ready.pop(listener.wait)) is not None:
            listener.go_to_work()
            name, how = item
            report = self._attempt_safely(name, how)
            if report.result is Result.MISCONFIGURED:
                self._hold(name, how, report)
                continue
            if report is DONE and not self._unsettled():
                self.done += 1
            else:
                self._follow_up(name, how, report)
            ready.finish(name)
            if self.health.troubles:
                self._probe_on()
            if self.notice.hungry and self.intake.has_room():
                self.notice.hungry = False
                self._wake()

    def _attempt_safely(self, name: bytes, how: How) -> Report:
        spool = self.notice.watch.spool
        if spool is None:
            return Report(Result.GONE)
        try:
            return self._attempt(spool, name, how, self.intake.ready.heard(name))
        except Exception as error:  # noqa: BLE001 - a bug of ours: the entry stays, the queue goes on
            log.log.exception("bug")
            return Report(Result.STUCK, f"{display(name)}: {type(error).__name__}: {error}")

    def _follow_up(  # noqa: C901, PLR0912 - a table
        self, name: bytes, how: How, report: Report
    ) -> None:
        stuck = report.result in (Result.STUCK, Result.ERROR)
        self.health.entry(name, report.why if stuck else None)
        match report.result:
            case Result.DONE | Result.REJECTED | Result.GONE | Result.FOLLOWED:
                self._settled(name, report)
            case Result.DEFERRED:
                self._settled(name, report)
                if self.notice.deferred.add(report.name):
                    self._wake()
            case Result.RETRY:  # and the disk would not take it down
                self._handler_works()
                if len(self._not_deferred) < MAX_COUNTED:
                    self._not_deferred.add(name)
                self._again(name, report.wait or 0.0, how)
            case Result.YOUNG:
                self._again(name, report.wait or 0.0, How.SWEEP, young=True)
            case Result.BUSY:
                wait = self._look_again(name, how)
                if wait >= LOOK_LONGEST:
                    self.notice.mention(name, "busy", f"{report.why}, for minutes now")
            case Result.STUCK | Result.ERROR:
                self._look_again(name, how)
            case Result.ORPHANED:
                self.intake.orphans = True
                self.intake.marks.forget(name)
            case Result.REUNITED:
                self._again(name, LOOK_AGAIN, How.SWEEP)
            case Result.FOREIGN:
                self.notice.mention(name, "left alone", report.why)
            case Result.WRITER:  # its closing, or the next sweep, brings it back
                self.notice.mention(name, "left alone", report.why)
            case Result.MISCONFIGURED | Result.STOPPED:
                pass  # `_hold` has seen to it; this process is about to exit

    def _unsettled(self) -> bool:
        """Whether anything is remembered of an entry or wrong with the queue: it may be over."""
        return bool(
            self._looks or self._not_deferred or self.health.troubles or self.settings.legacy
        )

    def _settled(self, name: bytes, report: Report) -> None:
        self.intake.marks.forget(name)
        self._looks.pop(name, None)
        if name in self._not_deferred:
            self._not_deferred.discard(name)
            if not self._not_deferred:
                self.health.trouble("disk", None)
        if report.result is Result.DONE:
            self.done += 1
        if report.result is not Result.GONE:
            self._handler_works()

    def _look_again(self, name: bytes, how: How) -> float:
        """Look at an entry again soon, and ever less often; return in how many seconds."""
        heard = self.intake.ready.heard(name)
        known, looks = self._looks.get(name, (heard, 0))
        looks = looks + 1 if known == heard else 1  # the name may be another file's by now
        if name in self._looks or len(self._looks) < MAX_COUNTED:
            self._looks[name] = (heard, looks)
        wait = delay(looks, LOOK_AGAIN, LOOK_LONGEST)
        self._again(name, wait, how)
        return wait

    def _again(self, name: bytes, seconds: float, how: How, *, young: bool = False) -> None:
        due, heard = self.notice.now() + seconds, self.intake.ready.heard(name)
        if self.intake.timers.set(name, due, how, heard, young=young):
            self._wake()

    def _hold(self, name: bytes, how: How, report: Report) -> None:
        """Hold a queue whose handler cannot be run; try one entry at the policy's pace."""
        self.health.trouble("handler", f"{report.why}; trying one entry at a time")
        self.intake.ready.allow(0)
        self.intake.ready.put_back(name, how)
        self._next_probe = self.notice.now() + self.settings.retry.initial
        self._wake()

    def _probe_on(self) -> None:
        """Try another entry of a held queue: the one tried may not have come to its handler."""
        if self._next_probe is None and self.health.has("handler"):
            self.intake.ready.allow(1)

    def _handler_works(self) -> None:
        if self.health.has("handler"):
            self.health.trouble("handler", None)
            self.intake.ready.allow(None)

    def status(self) -> str:
        """Say how the queue is, in one line."""
        ready, timers = self.intake.ready, self.intake.timers
        return (
            f"{self.health}; {len(ready)} ready, {len(ready.working())} claimed,"
            f" {len(self.notice.deferred)} deferred, {len(timers)} waiting for their moment,"
            f" {self.done} done"
        )

    def _recover(self, spool: Spool) -> Recovered:
        """Settle what dead processes left, in the daemon's own thread: so wait for nothing."""
        troubles: list[str | None] = []
        at_once = Patience(lambda _seconds: False, troubles.append)
        found = recover(spool, self._attempt.settlement.with_patience(at_once))
        refused = next(filter(None, troubles), "")  # a deferral, which raises nothing
        return found._replace(trouble=found.trouble or refused)

    def forget_in_hand(self) -> None:
        """Have the deaths of this process counted against no entry: it is told to stop."""
        if self.notice.spool is not None:
            ledger.of(self.notice.spool).clear()

    def drain(self) -> None:
        """Give out no more entries; those in hand are finished."""
        self._stopping.set()
        self._workers.stop()
        self.notice.stop()

    def drained(self) -> bool:
        """Whether every worker has ended."""
        return self._workers.ended()

    def wait_drained(self, seconds: float) -> bool:
        """Wait so many seconds at most for every worker to end; say whether they have."""
        self._workers.wait(seconds)
        return self.drained()
