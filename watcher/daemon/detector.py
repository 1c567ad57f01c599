"""Stage 1 of one queue: events, timers and scans fill `Pending`.

`tick` runs in the daemon's thread, `on_event` in the thread that reads events; the caller holds a
lock of the queue (`WorkerLoop.detecting`).
Guarantees: an event may be missed at the start, in an overflow, before a watch is armed again, at
a step of the clock, and when there is no room. In each case the queue is *behind*: events are
dropped, and the directory is scanned in batches, oldest first, until no entry is left; then events
count again. The watch is armed before the scan. Memory is bounded by the limits of `Pending`,
`Deferred` and `Mentions`, and one batch.
Fails: never for the state of a directory or an entry. `Health` says what is wrong, and the step is
tried again at growing intervals.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from watcher.arrive.scan import (
    BATCH,
    FIRST,
    MANY,
    START,
    Bystander,
    ScanPosition,
    scan,
    unpacked,
)
from watcher.arrive.source import Event, EventKind
from watcher.arrive.sources import Sources
from watcher.config.queue_settings import Queue
from watcher.daemon.deferred import Deferred
from watcher.daemon.due_entries import DueEntries
from watcher.daemon.pause import Pause
from watcher.daemon.pending import Pending
from watcher.daemon.waits import Waits
from watcher.daemon.watch import Watch
from watcher.durations import show
from watcher.errors import WatcherError, counted
from watcher.observe import log
from watcher.observe.health import Health
from watcher.observe.mentions import Mentions
from watcher.recovery import Recovered
from watcher.rules.age import SECOND, Ages, Clock
from watcher.rules.behind import Cause
from watcher.rules.evidence import Proof
from watcher.rules.kinds import ENTRY_KINDS, Kind
from watcher.rules.lifecycle import State
from watcher.rules.names import STATE_DIRECTORIES, is_deferred
from watcher.spool.marker_files import waits_for
from watcher.spool.spool import Spool

LIST_EVERY = 10  # sweeps between two listings of deferred/, if it is watched


class Swept(NamedTuple):
    """One sweep that ended: when it began (see `Detector.now`), its time, the entries it found."""

    at: float
    seconds: float
    found: int


class Detector:
    """Finds the entries of one directory."""

    def __init__(
        self,
        tag: int,
        settings: Queue,
        sources: Sources,
        clock: Clock,
        health: Health,
        recover: Callable[[Spool], Recovered],  # settles what dead processes left
    ) -> None:
        self.tag = tag
        self.settings = settings
        self.layout = settings.layout
        self.pending = Pending(
            self.layout, Ages(clock), settings.grace_age, self.now, settings.settle
        )
        self.deferred = Deferred(self.layout, clock)
        self.waits = Waits(settings, clock, self.pending.timers)
        self.mentions = Mentions(settings.name, self.layout)
        deaf = self.pending.created.lose_events
        pause = Pause(settings.name, health, self.pending)
        self.watch = Watch(tag, settings, sources, health, deaf, pause)
        self._due_entries = DueEntries(self.deferred, self.pending, self.watch, health, self.now)
        self.overflows = 0  # how often events were lost
        self.missed = 0  # entries that sweeps found and no event had reported
        self.last_sweep: Swept | None = None
        self.found = 0  # entries that catch-up scans found
        self.blind = False  # events do not arrive (`daemon.canary`): scans come often
        self.scan_cost = 0.0  # seconds from the begin of the last catch-up scan to its end
        self._scan_began = 0.0
        self._sweep_began = (0.0, 0)  # when, and what `missed` was
        self.scan_waits = False  # a scan goes on as soon as there is room: a worker wakes us then
        self._clock = clock
        self._health = health
        self._recover_dead = recover
        self._next_scan = 0.0  # after one that failed
        self._next_sweep = 0.0
        self._report_due = math.inf  # when taken entries are reported
        self.sweeps = 0  # that began
        # The scan under way, and where it stands.
        self._pass: tuple[Proof, ScanPosition] | None = None
        self._left: list[bytes] = []  # found by it, without room yet; the oldest last

    @property
    def spool(self) -> Spool | None:
        """The directory that is open."""
        return self.watch.spool

    def now(self) -> float:
        """Seconds on the clock that is never stepped."""
        return self._clock.mono() / SECOND

    def take_over(self, before: Detector) -> None:
        """Take over watch and names, if the directory is the same as before.

        The names that wait keep their proof, and the directory is scanned once more. If the rules
        for names changed, only those that were renamed in, and are entries now too, keep it.
        """
        if self.settings.path != before.settings.path:
            return
        if self.layout != before.layout:
            self.pending.take_renamed(before.pending)
            self.watch.follow(before.watch, self.now())
        else:
            self.mentions.take_over(before.mentions)
            self.overflows, self.missed = before.overflows, before.missed
            self.last_sweep = before.last_sweep
            self.pending.take_over(before.pending, heard=self.settings.writers != "rename")
            self.watch.take_over(before.watch)

    # -- events -------------------------------------------------------------------------------

    def on_event(self, seen: EventKind, name: bytes, event_time_ns: int) -> None:
        """Take an event that is not simply the rename of an entry into the queue."""
        pending = self.pending
        if is_deferred(name):
            pending.tick_due |= not pending.known(name) and self.deferred.add(name)
            return
        match seen:
            case EventKind.EVERYTHING:
                self.overflows += 1
                log.event(self.settings.name, "behind", "events were lost; scanning the directory")
                pending.fall_behind()
                self.watch.look_at_pause()
            case EventKind.GONE:
                self._lost("the watch ended: the directory was moved, removed or unmounted")
            case EventKind.OURS:
                pending.tick_due |= self.watch.on_ours(name, self.now())
            case EventKind.LOOK:
                if self.layout.kind(name) in ENTRY_KINDS:
                    pending.add((name,), Proof.NONE)
            case EventKind.RENAMED | EventKind.CLOSED | EventKind.CREATED | EventKind.REMOVED:
                if self.layout.legacy:
                    pending.on_legacy_event(seen, name, event_time_ns)

    def on_raw_events(self, events: Sequence[Event], event_time_ns: int) -> None:
        """Take events of a queue of the raw format."""
        pending = self.pending
        for _tag, seen, name in pending.on_raw_events(events, event_time_ns):
            self.on_event(seen, name, event_time_ns)
        if (closed := pending.closed_in_place) is not None:
            pending.tick_due |= self.waits.closed(closed)

    # -- what is due --------------------------------------------------------------------------

    def tick(self) -> float:
        """Do what is due; return the moment (see `now`) at which the next thing is."""
        now = self.now()
        if self.pending.ages.notice_step():
            detail = "files count their age from now, on the monotonic clock"
            log.event(self.settings.name, "clock stepped", detail, logging.WARNING)
            self.pending.fall_behind(anew=True)
        before = self.spool
        missed = self.watch.tick(now)
        if self.spool is not before:
            self._abandon_scan()
            self._next_sweep = now + self.settings.sweep_every
        if missed:
            self.pending.fall_behind()
        if self.spool is not None and now >= self._next_sweep and not self._scanning():
            self._begin_sweep(now)
        if self.pending.keeps_time():
            self.pending.add_due(now)
            if self.pending.timers.overflowed():
                self.pending.change(Cause.WANT)  # for those that found no room among the timers
        self._due_entries.tick(now)
        self._scan_if_wanted(now)
        self.waits.tick(now, self._is_there)
        if self.spool is not None:
            self._report_due = self.watch.custody.report_due(self.spool, now)
        self.scan_waits = self._scanning()  # before `_next_due` looks whether there is room
        return self._next_due()

    def _is_there(self, name: bytes) -> bool:
        return self.spool is not None and self.spool.stat(name) is not None

    def _scanning(self) -> bool:
        """Whether a scan is under way or wanted; the next sweep comes after it."""
        return self._pass is not None or self.pending.mode.wanted

    def _next_due(self) -> float:
        pending = self.pending
        moments = [] if self.watch.armed else [self.watch.next_try]
        if self.spool is not None:
            if not self._scanning():
                moments.append(self._next_sweep)
            elif pending.has_room():
                moments.append(self._next_scan)
        if pending.keeps_time() and (timer := pending.timers.next()) is not None:
            moments.append(timer)
        if (due := self._due_entries.next()) is not None:
            moments.append(due)
        if (due := self.waits.due) is not None:
            moments.append(due)
        if self._report_due < math.inf and self.spool is not None:
            moments.append(self._report_due)
        if (due := self.watch.check_due) is not None and self.spool is not None:
            moments.append(due)
        return min(moments, default=self.now() + self.settings.sweep_every)

    # -- scans --------------------------------------------------------------------------------

    def scan_now(self) -> None:
        """Scan at the next tick, as after lost events, unless a scan is under way."""
        if not self._scanning():
            self.pending.fall_behind()

    def sweep_now(self) -> None:
        """Sweep at the next tick."""
        self._next_sweep = 0.0

    def _begin_sweep(self, now: float) -> None:
        self._next_sweep = now + self.settings.sweep_every
        self.pending.ages.forget_unseen(self.pending.known)
        if self.watch.check_path(now, thoroughly=True):
            self.pending.fall_behind()
        self.watch.check_writable()
        self.watch.look_for_daemons()
        if self.spool is not None:
            self.sweeps += 1
            self.watch.custody.sweep(now)
            self._recover(self.spool)
            if not self.watch.arm_deferred() or self.sweeps % LIST_EVERY == 0:
                self._due_entries.list_all(self.spool)
            self._pass = (Proof.NONE, START)
            self._sweep_began = now, self.missed

    def _recover(self, spool: Spool) -> None:
        try:
            found = self._recover_dead(spool)
            if found.files or found.entries:
                files = counted(found.files, "file", "files")
                entries = counted(found.entries, "entry was", "entries were")
                what = f"{files} put back, {entries} in hand"
                log.event(self.settings.name, "recovered", f"a process died: {what}")
            self.pending.orphans = spool.has(STATE_DIRECTORIES[State.ORPHAN])
            self._health.trouble("what a crash left", found.trouble or None)
        except (OSError, WatcherError) as error:
            self._health.trouble("what a crash left", str(error))
        self._health.trouble("journal", spool.journal.trouble or None)
        self._health.trouble("ledger", spool.ledger.look(spool) or None)

    def _lost(self, why: str) -> None:
        self.watch.lose(why)
        self._abandon_scan()
        self.pending.tick_due = True

    def _abandon_scan(self) -> None:
        self._pass = None
        self.pending.change(Cause.GIVE_UP)

    def _scan_if_wanted(self, now: float) -> None:
        if self.spool is None:
            return
        if self._pass is None and self.pending.mode.wanted:
            self._recover(self.spool)
            self._pass, self._left = (Proof.NO_WRITER, START), []
            self._scan_began = self.now()
            self.pending.change(Cause.BEGIN)
        if self._pass is None or now < self._next_scan or not self.pending.has_room():
            return
        if self._left:
            self.pending.feed(self._left)
        else:
            self._scan_batch(self.spool, *self._pass)

    def _scan_batch(self, spool: Spool, proof: Proof, mark: ScanPosition) -> None:
        pending = self.pending
        pending.change(Cause.READ)  # from here on an event is seen, or a later batch finds the file
        skip = pending.known if proof is Proof.NONE else pending.in_order
        backlog = proof is Proof.NO_WRITER and not self.layout.legacy
        try:
            room = min(BATCH, pending.limit - pending.fresh)
            if backlog:
                room = FIRST if mark is START else MANY
            batch = scan(spool, mark, skip, room, by_name=backlog and not self.layout.raw)
        except OSError as error:
            pending.fall_behind(anew=True)
            self._abandon_scan()
            why = f"{self.settings.path}: the directory cannot be read: {error.strerror}"
            self._next_scan = self.watch.fail("scan", why, self.now())
            return
        self._health.trouble("scan", None)
        if proof is Proof.NO_WRITER and mark is START:
            # After the first batch, so that fresh entries need not wait.
            self._due_entries.list_all(spool)
        self.watch.works()
        last = unpacked(batch.packed[-1]) if batch.packed else mark
        if backlog:
            self._left = batch.packed[::-1]
            pending.feed(self._left)
        else:
            for found in batch.entries:
                self._found(spool, found, proof)
        if batch.more or self._left:
            self._pass = (proof, last)
            pending.fall_behind()
            return
        self._mention(batch.bystanders)
        self._pass = None
        pending.change(Cause.END)
        if proof is Proof.NO_WRITER:
            self.found += batch.total
            self.scan_cost = self.now() - self._scan_began
            if batch.total or not self.blind:
                entries = counted(batch.total, "entry", "entries")
                log.event(self.settings.name, "ready", f"{entries} found by scanning")
        else:
            began, missed = self._sweep_began
            self.last_sweep = Swept(began, self.now() - began, self.missed - missed)

    def _found(self, spool: Spool, found: ScanPosition, proof: Proof) -> None:
        """Take an entry that a scan found and of which no event told."""
        if self._waits_for_file(spool, found):
            return
        left, whole = self.pending.found(found, proof), self.layout.kind(found.name) is Kind.ENTRY
        if left and whole:
            self.waits.found(found.name, left)
        elif whole:
            self.missed += proof is Proof.NONE

    def _waits_for_file(self, spool: Spool, found: ScanPosition) -> bool:
        """Whether an entry waits for its marker, or for a companion to go; log it once, by age."""
        why = waits_for(self.layout, spool.fd, found.name)
        if why:
            age = self.pending.ages.age(found.name, found.ctime_ns)
            if age >= self.settings.grace_age:
                self.mentions.once(found.name, "waits", f"{why}, for {show(round(age))}")
        return bool(why)

    def _mention(self, bystanders: list[Bystander]) -> None:
        """Log once each file that is not an entry and is past the grace age."""
        for item in bystanders:
            if item.links > 1:
                self.pending.add((item.name,), Proof.NONE)  # a crash may have cut a move short
                continue
            age = self.pending.ages.age(item.name, item.ctime_ns)
            if age >= self.settings.grace_age:
                self.mentions.once(item.name, "left alone", f"{item.why}, for {show(round(age))}")

    def stop(self) -> None:
        """Take no more events and give out no more entries."""
        self.pending.close()
        self.pending.created.end()  # a worker may still ask, and no event tells it any more
        self.watch.stop()

    def close(self) -> None:
        """Close the directory; no worker needs it any more."""
        self.watch.close()
