"""Every entry of one queue that is known of: ready for a worker, in hand, or waiting for a moment.

Events and scans add entries. An event is dropped only while the queue is *behind*: there was no
room, events were lost, or the clock was stepped. The directory holds what a dropped event told of,
and a catch-up scan reads it. `rules.behind` has the modes, and says when events count again.
Guarantees: no I/O; memory bounded by the limits of `Ready`, `Timers` and `Pairs`; after an event
was dropped a scan is wanted, and it begins later than the drop.
Fails: never.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Container, Sequence

from watcher.arrive.scan import ScanPosition, name_in
from watcher.arrive.source import Event, EventKind
from watcher.daemon.created import Created
from watcher.daemon.pairs import Pairs
from watcher.daemon.ready import Ready
from watcher.daemon.timers import Timers
from watcher.rules.age import Ages
from watcher.rules.behind import Cause, Mode, after
from watcher.rules.evidence import Proof
from watcher.rules.kinds import ENTRY_KINDS, HALVES, Kind
from watcher.rules.names import Layout, is_deferred

_ARRIVES = {EventKind.RENAMED: Proof.RENAMED, EventKind.CREATED: Proof.LINKED}
_OF_FILES = (
    *_ARRIVES,
    EventKind.CLOSED,
    EventKind.REMOVED,
    EventKind.LOOK,  # of a source that polls: it is told when a file comes, changes or goes
)


class Pending(Ready):
    """The entries of one queue: those that are ready, and beside them the timers and the pairs."""

    def __init__(
        self,
        layout: Layout,
        ages: Ages,
        grace_age: float,
        now: Callable[[], float],
        settle: float = 0.0,
    ) -> None:
        super().__init__()
        self.layout = layout
        self.ages = ages
        self.timers = Timers()
        self.pairs = Pairs(layout)
        self.created = Created()
        self.orphans = False  # there may be halves in orphans/ that wait for their other half
        self.mode = Mode.WANTED  # at start nothing is known
        self.tick_due = False  # the daemon's thread has something to do sooner than it knows
        self.closed_in_place: bytes | None = None  # one of the files that the last events closed
        self.left: Container[bytes] = ()  # names that wait for the next run of a trigger
        self._grace_age = grace_age
        self._settle = settle
        self._now = now

    def take_over(self, before: Pending, *, heard: bool = True) -> None:
        """Take what the settings before knew of, with its proof; the scan judges ages anew.

        `heard`: both ask the kernel for every event of a file.
        """
        self.pairs = before.pairs
        self.created.take_over(before.created, heard=heard)
        self.ages.take_over(before.ages)
        for name, proof, event_time_ns in before.take_all():
            self.push(name, proof, event_time_ns)
        for moment, due in before.timers.take_all():
            if not due.young or due.proof is Proof.LINKED:
                self.timers.set(due.name, moment, due.proof, due.event_time_ns, young=due.young)

    def take_renamed(self, before: Pending) -> None:
        """Take the entries that were renamed in, from settings with other rules for names."""
        layout = self.layout
        if layout.raw is not before.layout.raw or layout.marker or layout.companions:
            return
        waiting = [(0.0, item.name, item.proof, item.event_time_ns) for item in before.take_all()]
        waiting += [
            (moment, due.name, due.proof, due.event_time_ns)
            for moment, due in before.timers.take_all()
        ]
        for moment, name, proof, event_time_ns in waiting:
            if proof is not Proof.RENAMED or is_deferred(name):
                continue
            if layout.kind(name) is Kind.ENTRY:
                if moment:
                    self.timers.set(name, moment, proof, event_time_ns)
                else:
                    self.push(name, proof, event_time_ns)

    def known(self, name: bytes) -> bool:
        """Whether a name is ready, in hand, has a timer, or waits for a run."""
        return self.is_ready(name) or name in self.timers or name in self.left

    def in_order(self, name: bytes) -> bool:
        """Whether a catch-up scan passes over a name; it takes one that waits for its age.

        One that was linked in waits for its other name to go, or for its writer: unless events
        were lost, the scan knows less of it.
        """
        if self.is_ready(name):
            return True
        if name not in self.timers:
            return False
        return not self.timers.young(name) or self.created.closed(name) is False

    def has_room(self) -> bool:
        """Whether so few entries wait that the next batch can be scanned."""
        return self.fresh <= self.limit // 4

    def keeps_time(self) -> bool:
        """Whether timers may fire: while behind only if there is room for what they release."""
        return not self.mode.drops or self.has_room()

    # -- one entry ----------------------------------------------------------------------------

    def add(
        self, names: Sequence[bytes], proof: Proof, event_time_ns: int = 0, *, scanned: bool = False
    ) -> None:
        """Give entries to the workers; fall behind if there is no room for all of them.

        While behind, only those that the catch-up scan found are `scanned` and not dropped.
        """
        if self.mode.drops and not scanned:
            self.change(Cause.WANT)
            return
        if self.timers.names:
            self.timers.cancel_all(names)
        if self.fill(names, proof, event_time_ns) < len(names):
            self.fall_behind(anew=True)

    def on_raw_events(self, events: Sequence[Event], event_time_ns: int) -> Sequence[Event]:
        """Take the events of files of the raw format, in their order; return the other events.

        A file that was made and closed in one batch was written in place: no worker looks at it.
        """
        self.closed_in_place = None
        if self.layout.marker or self.layout.companions:
            events = self._without_companions(events)
        arrived: dict[bytes, Proof] = {}
        others: list[Event] = []
        for event in events:
            _tag, seen, name = event
            if seen is EventKind.CLOSED:
                if arrived.get(name) is Proof.LINKED:
                    del arrived[name]
                self._on_close(name)
            elif seen not in _ARRIVES or is_deferred(name):
                others.append(event)
            elif self.layout.kind(name) is Kind.ENTRY:
                arrived.pop(name, None)  # the last event of a name counts
                arrived[name] = _ARRIVES[seen]
                if seen is EventKind.CREATED:
                    self.created.on_create(name)
        for proof, names in itertools.groupby(arrived, key=arrived.__getitem__):
            self.add(list(names), proof, event_time_ns)
        return others

    def _without_companions(self, events: Sequence[Event]) -> list[Event]:
        """Have a worker look at each entry beside which a file came or went; return the rest.

        In a queue with markers an event of the entry itself is such a hint, too, and no more.
        """
        others: list[Event] = []
        for event in events:
            _tag, seen, name = event
            in_queue = seen in _OF_FILES and not is_deferred(name)
            kind = self.layout.kind(name) if in_queue else None
            if kind in (Kind.MARKER, Kind.COMPANION):
                entry = self.layout.entry_beside(name)
                if entry is not None:
                    self._look_at(entry)
            elif kind is Kind.ENTRY and self.layout.marker:
                if seen is not EventKind.REMOVED:
                    self._look_at(name)
            elif seen is not EventKind.REMOVED:
                others.append(event)
        return others

    def _look_at(self, entry: bytes) -> None:
        """Have a worker look at an entry now, with what is proved of it already."""
        _, due = self.timers.names.get(entry, (0.0, None))
        if due is None:
            self.add((entry,), Proof.NONE)
        else:
            self.add((entry,), due.proof, due.event_time_ns)

    def _on_close(self, name: bytes) -> None:
        """Note that a writer closed a file: it was not linked in.

        With `settle` its time begins, or begins anew; the claim looks whether it was changed since.
        """
        waiting = self.timers.waiting(name)
        if self.created.on_close(name):
            self.closed_in_place = name
            if waiting is not None and waiting.proof is Proof.LINKED:
                # Before its age a look is in vain; and a sweep passed over it, as it had a timer.
                self._wait(name, self._grace_age, Proof.NONE)
                waiting = None
        if waiting is not None and not waiting.young:
            return  # it waits for its next look, and not for its age: it was renamed in
        if self._settle and self.layout.kind(name) is Kind.ENTRY:
            self._wait(name, self._settle, Proof.CLOSED)

    def _wait(self, name: bytes, seconds: float, proof: Proof) -> None:
        """Give an entry to the workers in so many seconds, and no sooner."""
        self.tick_due |= self.timers.restart(name, self._now() + seconds, proof)

    def on_legacy_event(self, seen: EventKind, name: bytes, event_time_ns: int) -> None:
        """Take an event of legacy mode: of a half, or of a `.pck`, which may be one too."""
        kind = self.layout.kind(name)
        if kind not in ENTRY_KINDS or seen is EventKind.REMOVED:
            return
        whole = self.pairs.mark(name, kind)
        if whole is not None:
            self.add((whole,), Proof.CLOSED)
        elif kind is Kind.ENTRY and seen is EventKind.RENAMED:
            self.add((name,), Proof.RENAMED, event_time_ns)
        elif self.orphans:
            self.add((name,), Proof.NONE)

    def found(self, entry: ScanPosition, proof: Proof) -> float:
        """Take an entry that a scan found; return the seconds that it has to wait for its age."""
        kind = self.layout.kind(entry.name)
        if self.layout.marker:
            self.add((entry.name,), Proof.NONE)
        elif self.layout.legacy and self.pairs.complete(entry.name, kind):
            self.add((entry.name,), Proof.CLOSED)
        elif proof is Proof.NO_WRITER and kind is Kind.ENTRY:  # in legacy mode
            self.add((entry.name,), proof)
        else:
            limit = (self._settle if kind is Kind.ENTRY else 0.0) or self._grace_age
            left = limit - self.ages.age(entry.name, entry.ctime_ns)
            if left > 0 and not (self.orphans and kind in HALVES):
                self.timers.set(entry.name, self._now() + left, Proof.NONE, young=True)
                return left
            self.add((entry.name,), Proof.NONE)
        return 0.0

    # -- many ---------------------------------------------------------------------------------

    def feed(self, left: list[bytes]) -> None:
        """Move as much of a backlog as there is room for; packed positions, the oldest last."""
        room = min(self.limit - self.fresh, len(left))
        first = len(left) - room
        names = [name_in(mark) for mark in reversed(left[first:])]
        del left[first:]
        self.add(names, Proof.NO_WRITER, scanned=True)

    def add_due(self, now: float) -> None:
        """Give the workers the entries whose timer is due."""
        for due in self.timers.due(now):
            if not self.push(due.name, due.proof, due.event_time_ns):
                self.timers.set(due.name, now, due.proof, due.event_time_ns, young=due.young)
                self.fall_behind()

    # -- behind -------------------------------------------------------------------------------

    def fall_behind(self, anew: bool = False) -> None:
        """Drop events from now on: a catch-up scan finds what they tell of.

        A catch-up scan that is under way finds it too, because it goes in the order of commit,
        unless that order is in doubt (`anew`). It misses a file that was committed within the same
        tick of the clock, and one whose namesake was in hand, when it went by. The next scan finds
        these: one follows every scan during which events were dropped (`anew` too).
        """
        self.created.lose_events()
        self.tick_due = True
        self.change(Cause.FALL_BEHIND)
        if anew:
            self.change(Cause.WANT)

    def change(self, cause: Cause) -> None:
        """Change the mode."""
        self.mode = after(self.mode, cause)
