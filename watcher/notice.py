"""Stage 1 of one queue: hints, timers and scans fill `Ready`. Runs in the daemon's thread.

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
from collections.abc import Callable

from watcher.age import SECOND, Ages, Clock
from watcher.arrive.deferred import Deferred
from watcher.arrive.pairing import Marks
from watcher.arrive.ready import Ready
from watcher.arrive.scan import BATCH, FIRST, MANY, START, Bystander, Mark, name_in, scan, unpacked
from watcher.arrive.source import Seen
from watcher.arrive.sources import Sources
from watcher.arrive.timers import Timers
from watcher.claim import ledger
from watcher.config import Queue
from watcher.durations import show
from watcher.errors import WatcherError
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
_HALVES = (Kind.MESSAGE_HALF, Kind.METADATA_HALF)


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
        self.ready = Ready()
        self.timers = Timers()
        self.ages = Ages(clock)
        self.marks = Marks(self.layout)
        self.deferred = Deferred(self.layout, clock)
        self.watch = Watch(tag, settings, self.layout, sources, health)
        self.orphans = False  # there may be halves in orphans/ that wait for their other half
        self.hungry = False  # a worker should wake the daemon for the next batch
        self._clock = clock
        self._health = health
        self._recover_what_died = recover
        self._mentioned: set[bytes] = set()
        self._next_scan = 0.0  # after one that failed
        self._next_sweep = 0.0
        self._sweeps = 0
        self._stirred = False
        self._pass: tuple[How, Mark] | None = None  # the scan under way, and where it stands
        self._left: list[bytes] = []  # what it found and there was no room for, the oldest last
        self._behind = True  # a catch-up scan is wanted
        self._dropping = False  # hints are not kept until the next batch is scanned
        self._dropped = False  # one was not, since the scan under way began

    @property
    def spool(self) -> Spool | None:
        """The directory that is open."""
        return self.watch.spool

    def now(self) -> float:
        """Seconds on the clock that is never stepped."""
        return self._clock.mono() / SECOND

    # -- hints --------------------------------------------------------------------------------

    def hint(self, seen: Seen, name: bytes) -> bool:
        """Take one hint from the source; True when a tick is due sooner than it was."""
        self._stirred = False
        if name.startswith(DEFERRED):
            if name not in self.ready and name not in self.timers:
                self._stirred = self.deferred.add(name)
        elif seen is Seen.RENAMED and not self.layout.legacy:
            if self.layout.kind(name) is Kind.ENTRY:
                self.offer(name, How.RENAMED, self._clock.real())
        elif seen is Seen.EVERYTHING:
            log.event(self.settings.name, "behind", "events were lost; scanning the directory")
            self.fall_behind()
        elif seen is Seen.GONE:
            self._lost("the watch ended: the directory was moved, removed or unmounted")
        elif seen is Seen.LOOK:
            if self.layout.kind(name) in (Kind.ENTRY, *_HALVES):
                self.offer(name, How.SWEEP)
        elif self.layout.legacy:
            self._legacy_hint(seen, name)
        return self._stirred

    def _legacy_hint(self, seen: Seen, name: bytes) -> None:
        kind = self.layout.kind(name)
        if kind is not Kind.ENTRY and kind not in _HALVES:
            return
        whole = self.marks.mark(name, kind)
        if whole is not None:
            self.offer(whole, How.CLOSED)
        elif kind is Kind.ENTRY and seen is Seen.RENAMED:
            self.offer(name, How.RENAMED, self._clock.real())
        elif self.orphans:
            self.offer(name, How.SWEEP)

    def offer(self, name: bytes, how: How, heard: int = 0) -> None:
        """Give an entry to the workers, or fall behind when there is no room for it."""
        if self._dropping:
            self._dropped = True
            return
        self.timers.cancel(name)
        if not self.ready.push(name, how, heard):
            self.fall_behind()
            self._dropped = True

    def fall_behind(self, anew: bool = False) -> None:
        """Stop keeping hints: what they would say, a catch-up scan finds.

        A catch-up scan that is under way finds it too, being in the order of commit, unless that
        order is in doubt (`anew`); what came within one tick of the clock, or was in hand, when
        the scan went by, is found by the scan that follows one during which hints were dropped.
        """
        self._dropping = self._stirred = True
        if anew or self._pass is None or self._pass[0] is not How.CATCH_UP:
            self._behind = True

    # -- what is due --------------------------------------------------------------------------

    def tick(self) -> float:
        """Do what is due; return the moment (see `now`) at which the next thing is."""
        now = self.now()
        if self.ages.notice_step():
            detail = "files count their age from now, on the monotonic clock"
            log.event(self.settings.name, "clock stepped", detail, logging.WARNING)
            self.fall_behind(anew=True)
        before = self.spool
        if self.watch.tick(now):
            self.fall_behind()
        if self.spool is not before:
            self._pass, self._next_sweep = None, now + self.settings.sweep_every
        if self.spool is not None and now >= self._next_sweep and not self._scanning():
            self._begin_sweep(now)
        if self._keeps_time():
            self._offer_due(now)
        self._offer_deferred(now)
        self._scan_if_wanted(now)
        self.hungry = self._scanning()  # before the look at the room
        return self._next_due()

    def _scanning(self) -> bool:
        """Whether a scan is under way or wanted; a sweep comes after it."""
        return self._pass is not None or self._behind

    def _keeps_time(self) -> bool:
        """Whether timers are heard: while behind only if there is room, or they would be lost."""
        return not self._dropping or self.has_room()

    def _offer_due(self, now: float) -> None:
        for due in self.timers.due(now):
            if not self.ready.push(due.name, due.how, due.heard):
                self.timers.set(due.name, now, due.how, due.heard, young=due.young)
                self.fall_behind()

    def _offer_deferred(self, now: float) -> None:
        """Give what falls due to the workers, a few at a time: the rest is no further away."""
        if self.spool is not None and self.deferred.wants_listing():
            self._list_deferred(self.spool)
        for name in self.deferred.take(now, DUE_AT_ONCE - self.ready.due):
            self.ready.push(name, How.SWEEP)

    def _list_deferred(self, spool: Spool) -> None:
        try:
            directory = spool.peek(State.DEFERRED)
            if directory is not None:
                self.deferred.list_all(directory, self._known)
        except (OSError, WatcherError) as error:
            self._health.trouble("deferred", f"deferred/ cannot be read: {error}")

    def _next_due(self) -> float:
        moments = [] if self.watch.armed else [self.watch.next_try]
        if self.spool is not None:
            if not self._scanning():
                moments.append(self._next_sweep)
            elif self.has_room():
                moments.append(self._next_scan)
        if self._keeps_time() and (timer := self.timers.next()) is not None:
            moments.append(timer)
        if self.ready.due < DUE_AT_ONCE and (due := self.deferred.next()) is not None:
            moments.append(due)
        return min(moments, default=self.now() + self.settings.sweep_every)

    # -- scans --------------------------------------------------------------------------------

    def sweep_now(self) -> None:
        """Sweep at the next tick."""
        self._next_sweep = 0.0

    def has_room(self) -> bool:
        """Whether so few entries wait that the next batch can be scanned."""
        return self.ready.fresh <= self.ready.limit // 4

    def _begin_sweep(self, now: float) -> None:
        self._next_sweep = now + self.settings.sweep_every
        self.ages.forget_unseen(self._known)
        self.watch.check_path(now)
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
                what = f"{found.files} files put back, {found.entries} entries were in hand"
                log.event(self.settings.name, "recovered", f"a process died: {what}")
            self.orphans = spool.stat(b".watcher/orphans") is not None
            self._health.trouble("what a crash left", None)
        except (OSError, WatcherError) as error:
            self._health.trouble("what a crash left", str(error))
        self._health.trouble("journal", spool.journal.trouble or None)
        self._health.trouble("ledger", ledger.of(spool).trouble or None)

    def _lost(self, why: str) -> None:
        self.watch.lose(why)
        self._pass, self._stirred = None, True

    def _scan_if_wanted(self, now: float) -> None:
        if self.spool is None:
            return
        if self._pass is None and self._behind:
            self._recover(self.spool)
            self._pass, self._behind, self._dropped = (How.CATCH_UP, START), False, False
            self._left = []
        if self._pass is None or now < self._next_scan:
            return
        if not self.has_room():
            return
        if self._left:
            self._feed()
        else:
            self._scan_batch(self.spool, *self._pass)

    def _scan_batch(self, spool: Spool, how: How, mark: Mark) -> None:
        self._dropping = False  # what comes from here on is seen by its event, or by a later batch
        skip = self._known if how is How.SWEEP else self._in_order
        backlog = how is How.CATCH_UP and not self.layout.legacy
        try:
            room = min(BATCH, self.ready.limit - self.ready.fresh)
            if backlog:
                room = FIRST if mark is START else MANY
            batch = scan(spool, mark, skip, room, by_name=backlog and not self.layout.raw)
        except OSError as error:
            self.fall_behind(anew=True)
            self._pass = None
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
            self._feed()
        else:
            for found in batch.entries:
                self._found(found, how)
        if batch.more or self._left:
            self._pass = (how, last)
            self.fall_behind()
            return
        self._pass = None
        self._mention(batch.bystanders)
        self._behind = self._behind or self._dropped
        if how is How.CATCH_UP:
            log.event(self.settings.name, "ready", f"{batch.total} entries found by scanning")

    def _known(self, name: bytes) -> bool:
        return name in self.ready or name in self.timers

    def _in_order(self, name: bytes) -> bool:
        """Whether a catch-up scan may pass over a name: one that waits for its age it may take."""
        return name in self.ready or (name in self.timers and not self.timers.young(name))

    def _feed(self) -> None:
        """Give the workers as much of a backlog as there is room for."""
        room = min(self.ready.limit - self.ready.fresh, len(self._left))
        names = [name_in(self._left.pop()) for _ in range(room)]
        for name in names:
            self.timers.cancel(name)
        if self.ready.fill(names, How.CATCH_UP) < len(names):
            self.fall_behind()
            self._dropped = True

    def _found(self, found: Mark, how: How) -> None:
        kind = self.layout.kind(found.name)
        if self.layout.legacy and self.marks.complete(found.name, kind):
            self.offer(found.name, How.CLOSED)
        elif how is How.CATCH_UP and kind is Kind.ENTRY:  # in legacy mode
            self.offer(found.name, how)
        else:
            left = self.settings.grace_age - self.ages.age(found.name, found.ctime_ns)
            if left > 0 and not (self.orphans and kind in _HALVES):
                self.timers.set(found.name, self.now() + left, How.SWEEP, young=True)
            else:
                self.offer(found.name, How.SWEEP)

    def _mention(self, bystanders: list[Bystander]) -> None:
        """Say once of each file that is no entry and past the grace age that it is there."""
        for item in bystanders:
            if item.links > 1:
                self.offer(item.name, How.SWEEP)  # it may be a move of ours that was cut short
                continue
            age = self.ages.age(item.name, item.ctime_ns)
            if age >= self.settings.grace_age:
                self.mention(item.name, "left alone", f"{item.why}, for {show(round(age))}")

    def mention(self, name: bytes, what: str, why: str) -> None:
        """Log something about a name once."""
        if name not in self._mentioned and len(self._mentioned) < MAX_MENTIONED:
            self._mentioned.add(name)
            log.event(self.settings.name, what, f"{display(name)}: {why}")

    def stop(self) -> None:
        """Take no more hints and give out no more entries."""
        self.ready.close()
        self.watch.stop()
