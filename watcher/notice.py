"""Stage 1 of one queue: hints, timers and scans fill `Intake`. Runs in the daemon's thread.

Guarantees: one idea for everything that may have been missed, *behind*: at start, after an
overflow, after a re-arm, after a clock step and when `Ready` is full, hints are no longer kept,
and the directory is scanned in batches, oldest first, until it holds no more; then hints count
again. The watch is armed before the scan. Memory is bounded by the limits of `Ready`, `Timers`,
`Marks` and one batch.
Fails: never for what a directory or an entry is; `Health` is told what is wrong, and it is tried
again at growing intervals.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable

from watcher.age import SECOND, Ages, Clock
from watcher.arrive.deferred import Deferred
from watcher.arrive.intake import HALVES, Intake
from watcher.arrive.scan import BATCH, FIRST, MANY, START, Bystander, Mark, scan, unpacked
from watcher.arrive.source import Hint, Seen
from watcher.arrive.sources import Sources
from watcher.claim import ledger
from watcher.config import Queue
from watcher.durations import show
from watcher.errors import WatcherError, counted
from watcher.evidence import How
from watcher.lifecycle import State
from watcher.recovery import Recovered
from watcher.spool.layout import DEFERRED, Kind, Layout, display
from watcher.spool.spool import Spool
from watcher.telemetry import log
from watcher.telemetry.health import Health
from watcher.watch import Watch

LIST_EVERY = 10  # sweeps between listings of deferred/ where its events are heard
DUE_AT_ONCE = 1_024  # deferred entries that wait for a worker
MAX_MENTIONED = 10_000  # names for saying a thing once


class Notice:
    """What one queue knows of its directory, and what it still has to look at."""

    def __init__(
        self,
        tag: int,
        settings: Queue,
        sources: Sources,
        clock: Clock,
        health: Health,
        recover: Callable[[Spool], Recovered],
    ) -> None:
        self.tag = tag
        self.settings = settings
        self.layout = Layout(
            os.fsencode(settings.suffix), settings.format == "raw", settings.legacy
        )
        self.intake = Intake(self.layout, Ages(clock), settings.grace_age, self.now)
        self.deferred = Deferred(self.layout, clock)
        self.watch = Watch(tag, settings, self.layout, sources, health)
        self.hungry = False  # a worker should wake the daemon for the next batch
        self._clock = clock
        self._health = health
        self._recover_what_died = recover
        self._mentioned: set[bytes] = set()
        self._next_scan = 0.0  # after one that failed
        self._next_listing = 0.0  # of deferred/, after one that failed
        self._next_sweep = 0.0
        self._sweeps = 0
        self._pass: tuple[How, Mark] | None = None  # the scan under way, and where it stands
        self._left: list[bytes] = []  # what it found and there was no room for, the oldest last

    @property
    def spool(self) -> Spool | None:
        """The directory that is open."""
        return self.watch.spool

    def now(self) -> float:
        """Seconds on the clock that is never stepped."""
        return self._clock.mono() / SECOND

    # -- hints --------------------------------------------------------------------------------

    def hear(self, hints: Iterable[Hint]) -> bool:
        """Take hints from the source, just read; True when a tick is due sooner than it was."""
        heard = self._clock.real()
        layout, proof = self.layout, None if self.layout.legacy else Seen.RENAMED
        self.intake.stirred = False
        renamed = []
        for _tag, seen, name in hints:
            if seen is proof and not name.startswith(DEFERRED):
                if layout.kind(name) is Kind.ENTRY:
                    renamed.append(name)
            else:
                self._hint(seen, name, heard)
        if renamed:
            self.intake.offer_all(renamed, How.RENAMED, heard)
        return self.intake.stirred

    def _hint(self, seen: Seen, name: bytes, heard: int) -> None:
        """Take one hint that needs a closer look."""
        intake = self.intake
        if name.startswith(DEFERRED):
            if not intake.known(name) and self.deferred.add(name):
                intake.stirred = True
        elif seen is Seen.EVERYTHING:
            log.event(self.settings.name, "behind", "events were lost; scanning the directory")
            intake.fall_behind()
        elif seen is Seen.GONE:
            self._lost("the watch ended: the directory was moved, removed or unmounted")
        elif seen is Seen.LOOK:
            if self.layout.kind(name) in (Kind.ENTRY, *HALVES):
                intake.offer(name, How.SWEEP)
        elif self.layout.legacy:
            intake.half(seen, name, heard)

    # -- what is due --------------------------------------------------------------------------

    def tick(self) -> float:
        """Do what is due; return the moment (see `now`) at which the next thing is."""
        now = self.now()
        if self.intake.ages.notice_step():
            detail = "files count their age from now, on the monotonic clock"
            log.event(self.settings.name, "clock stepped", detail, logging.WARNING)
            self.intake.fall_behind(anew=True)
        before = self.spool
        missed = self.watch.tick(now)
        if self.spool is not before:
            self._abandon_scan()
            self._next_sweep = now + self.settings.sweep_every
        if missed:
            self.intake.fall_behind()
        if self.spool is not None and now >= self._next_sweep and not self._scanning():
            self._begin_sweep(now)
        if self.intake.keeps_time():
            self.intake.offer_due(now)
        self._offer_deferred(now)
        self._scan_if_wanted(now)
        self.hungry = self._scanning()  # before the look at the room
        return self._next_due()

    def _scanning(self) -> bool:
        """Whether a scan is under way or wanted; a sweep comes after it."""
        return self._pass is not None or self.intake.scan_wanted

    def _offer_deferred(self, now: float) -> None:
        """Give what falls due to the workers, a few at a time: the rest is no further away."""
        wanted = self.deferred.wants_listing() and now >= self._next_listing
        if self.spool is not None and wanted:
            self._list_deferred(self.spool)
        for name in self.deferred.take(now, DUE_AT_ONCE - self.intake.ready.due):
            self.intake.ready.push(name, How.SWEEP)

    def _list_deferred(self, spool: Spool) -> None:
        try:
            directory = spool.peek(State.DEFERRED)
            if directory is not None:
                self.deferred.list_all(directory, self.intake.known)
            else:
                self.deferred.forget_the_rest()
        except (OSError, WatcherError) as error:
            why = f"deferred/ cannot be read: {error}"
            self._next_listing = self.watch.fail("deferred entries", why, self.now())
        else:
            self._health.trouble("deferred entries", None)

    def _next_due(self) -> float:
        intake = self.intake
        moments = [] if self.watch.armed else [self.watch.next_try]
        if self.spool is not None:
            if not self._scanning():
                moments.append(self._next_sweep)
            elif intake.has_room():
                moments.append(self._next_scan)
        if intake.keeps_time() and (timer := intake.timers.next()) is not None:
            moments.append(timer)
        if (
            intake.ready.due < DUE_AT_ONCE
            and (due := self.deferred.next(self._next_listing)) is not None
        ):
            moments.append(due)
        return min(moments, default=self.now() + self.settings.sweep_every)

    # -- scans --------------------------------------------------------------------------------

    def sweep_now(self) -> None:
        """Sweep at the next tick."""
        self._next_sweep = 0.0

    def _begin_sweep(self, now: float) -> None:
        self._next_sweep = now + self.settings.sweep_every
        self.intake.ages.forget_unseen(self.intake.known)
        self.watch.check_path(now)
        self.watch.check_writable()
        if self.spool is not None:
            self._sweeps += 1
            self._recover(self.spool)
            if not self.watch.arm_deferred() or self._sweeps % LIST_EVERY == 0:
                self._list_deferred(self.spool)
            self._pass = (How.SWEEP, START)

    def _recover(self, spool: Spool) -> None:
        try:
            found = self._recover_what_died(spool)
            if found.files or found.entries:
                files = counted(found.files, "file", "files")
                entries = counted(found.entries, "entry was", "entries were")
                what = f"{files} put back, {entries} in hand"
                log.event(self.settings.name, "recovered", f"a process died: {what}")
            self.intake.orphans = spool.stat(b".watcher/orphans") is not None
            self._health.trouble("what a crash left", found.trouble or None)
        except (OSError, WatcherError) as error:
            self._health.trouble("what a crash left", str(error))
        self._health.trouble("journal", spool.journal.trouble or None)
        self._health.trouble("ledger", ledger.of(spool).look(spool) or None)

    def _lost(self, why: str) -> None:
        self.watch.lose(why)
        self._abandon_scan()
        self.intake.stirred = True

    def _abandon_scan(self) -> None:
        self._pass = None
        self.intake.catching_up = False

    def _scan_if_wanted(self, now: float) -> None:
        if self.spool is None:
            return
        if self._pass is None and self.intake.scan_wanted:
            self._recover(self.spool)
            self._pass, self._left = (How.CATCH_UP, START), []
            self.intake.begin_catch_up()
        if self._pass is None or now < self._next_scan or not self.intake.has_room():
            return
        if self._left:
            self.intake.feed(self._left)
        else:
            self._scan_batch(self.spool, *self._pass)

    def _scan_batch(self, spool: Spool, how: How, mark: Mark) -> None:
        intake = self.intake
        intake.dropping = False  # what comes from here on is seen by its event, or by a later batch
        skip = intake.known if how is How.SWEEP else intake.in_order
        backlog = how is How.CATCH_UP and not self.layout.legacy
        try:
            room = min(BATCH, intake.ready.limit - intake.ready.fresh)
            if backlog:
                room = FIRST if mark is START else MANY
            batch = scan(spool, mark, skip, room, by_name=backlog and not self.layout.raw)
        except OSError as error:
            intake.fall_behind(anew=True)
            self._abandon_scan()
            why = f"{self.settings.path}: the directory cannot be read: {error.strerror}"
            self._next_scan = self.watch.fail("scan", why, self.now())
            return
        self._health.trouble("scan", None)
        if how is How.CATCH_UP and mark is START:
            self._list_deferred(spool)  # not first: what is fresh need not wait for it
        self.watch.works()
        last = unpacked(batch.packed[-1]) if batch.packed else mark
        if backlog:
            self._left = batch.packed[::-1]
            intake.feed(self._left)
        else:
            for found in batch.entries:
                intake.found(found, how)
        if batch.more or self._left:
            self._pass = (how, last)
            intake.fall_behind()
            return
        self._mention(batch.bystanders)
        self._pass = None
        intake.end_scan()
        if how is How.CATCH_UP:
            entries = counted(batch.total, "entry", "entries")
            log.event(self.settings.name, "ready", f"{entries} found by scanning")

    def _mention(self, bystanders: list[Bystander]) -> None:
        """Say once of each file that is no entry and past the grace age that it is there."""
        for item in bystanders:
            if item.links > 1:
                self.intake.offer(item.name, How.SWEEP)  # perhaps a move of ours, cut short
                continue
            age = self.intake.ages.age(item.name, item.ctime_ns)
            if age >= self.settings.grace_age:
                self.mention(item.name, "left alone", f"{item.why}, for {show(round(age))}")

    def mention(self, name: bytes, what: str, why: str) -> None:
        """Log something about a name once; of the halves of a pair, about one."""
        once = self.layout.stem(name)
        if once not in self._mentioned and len(self._mentioned) < MAX_MENTIONED:
            self._mentioned.add(once)
            log.event(self.settings.name, what, f"{display(name)}: {why}")

    def stop(self) -> None:
        """Take no more hints and give out no more entries."""
        self.intake.ready.close()
        self.watch.stop()
