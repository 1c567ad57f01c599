"""What comes in, by a hint or by a scan, and where it goes: to the workers, to a timer, or nowhere.

Nowhere only while the queue is *behind*: there was no room, events were lost, or the clock was
stepped. Hints are dropped then, since the directory says the same, and a catch-up scan reads it.
Guarantees: no I/O; memory bounded by the limits of `Ready`, `Timers` and `Marks`; a hint that is
dropped leaves a scan wanted that begins later.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from watcher.age import Ages
from watcher.arrive.pairing import Marks
from watcher.arrive.ready import Ready
from watcher.arrive.scan import Mark, name_in
from watcher.arrive.source import Seen
from watcher.arrive.timers import Timers
from watcher.evidence import How
from watcher.spool.layout import Kind, Layout

HALVES = (Kind.MESSAGE_HALF, Kind.METADATA_HALF)


class Intake:
    """The entries of one queue that are known of and not yet in hand."""

    def __init__(
        self, layout: Layout, ages: Ages, grace_age: float, now: Callable[[], float]
    ) -> None:
        self.layout = layout
        self.ages = ages
        self.ready = Ready()
        self.timers = Timers()
        self.marks = Marks(layout)
        self.orphans = False  # there may be halves in orphans/ that wait for their other half
        self.scan_wanted = True  # a catch-up scan; at start nothing is known
        self.catching_up = False  # one is under way
        self.dropping = False  # hints are not kept until the next batch is scanned
        self.dropped = False  # one was not, since the scan under way began
        self.stirred = False  # the daemon has something to do sooner than it was
        self._grace_age = grace_age
        self._now = now

    def known(self, name: bytes) -> bool:
        """Whether a name waits, or is in hand."""
        return name in self.ready or name in self.timers

    def in_order(self, name: bytes) -> bool:
        """Whether a catch-up scan may pass over a name: one that waits for its age it may take."""
        return name in self.ready or (name in self.timers and not self.timers.young(name))

    def has_room(self) -> bool:
        """Whether so few entries wait that the next batch can be scanned."""
        return self.ready.fresh <= self.ready.limit // 4

    def keeps_time(self) -> bool:
        """Whether timers are heard: while behind only if there is room, or they would be lost."""
        return not self.dropping or self.has_room()

    # -- one entry ----------------------------------------------------------------------------

    def offer(self, name: bytes, how: How, heard: int = 0) -> None:
        """Give an entry to the workers, or fall behind when there is no room for it."""
        self.offer_all((name,), how, heard)

    def offer_all(self, names: Sequence[bytes], how: How, heard: int = 0) -> None:
        """Give many entries to the workers, as `offer` does one."""
        if self.dropping:
            self.dropped = True
        else:
            self._give(names, how, heard)

    def _give(self, names: Sequence[bytes], how: How, heard: int = 0) -> None:
        self.timers.cancel_all(names)
        if self.ready.fill(names, how, heard) < len(names):
            self.fall_behind()
            self.dropped = True

    def half(self, seen: Seen, name: bytes, heard: int) -> None:
        """Take a legacy hint: of either half, or of a `.pck` among them."""
        kind = self.layout.kind(name)
        if kind is not Kind.ENTRY and kind not in HALVES:
            return
        whole = self.marks.mark(name, kind)
        if whole is not None:
            self.offer(whole, How.CLOSED)
        elif kind is Kind.ENTRY and seen is Seen.RENAMED:
            self.offer(name, How.RENAMED, heard)
        elif self.orphans:
            self.offer(name, How.SWEEP)

    def found(self, entry: Mark, how: How) -> None:
        """Take an entry that a scan found: what is too young waits for its age."""
        kind = self.layout.kind(entry.name)
        if self.layout.legacy and self.marks.complete(entry.name, kind):
            self.offer(entry.name, How.CLOSED)
        elif how is How.CATCH_UP and kind is Kind.ENTRY:  # in legacy mode
            self.offer(entry.name, how)
        else:
            left = self._grace_age - self.ages.age(entry.name, entry.ctime_ns)
            if left > 0 and not (self.orphans and kind in HALVES):
                self.timers.set(entry.name, self._now() + left, How.SWEEP, young=True)
            else:
                self.offer(entry.name, How.SWEEP)

    # -- many ---------------------------------------------------------------------------------

    def feed(self, left: list[bytes]) -> None:
        """Move as much of a backlog as there is room for; packed marks, the oldest last."""
        room = min(self.ready.limit - self.ready.fresh, len(left))
        first = len(left) - room
        names = [name_in(mark) for mark in reversed(left[first:])]
        del left[first:]
        self._give(names, How.CATCH_UP)

    def offer_due(self, now: float) -> None:
        """Give the workers what has waited for its moment."""
        for due in self.timers.due(now):
            if not self.ready.push(due.name, due.how, due.heard):
                self.timers.set(due.name, now, due.how, due.heard, young=due.young)
                self.fall_behind()

    # -- behind -------------------------------------------------------------------------------

    def fall_behind(self, anew: bool = False) -> None:
        """Stop keeping hints: what they would say, a catch-up scan finds.

        A catch-up scan that is under way finds it too, being in the order of commit, unless that
        order is in doubt (`anew`); what came within one tick of the clock, or was in hand, when
        the scan went by, is found by the scan that follows one during which hints were dropped.
        """
        self.dropping = self.stirred = True
        if anew or not self.catching_up:
            self.scan_wanted = True

    def begin_catch_up(self) -> None:
        """Say that a catch-up scan begins; what is dropped from here on wants another."""
        self.catching_up, self.scan_wanted, self.dropped = True, False, False

    def end_scan(self) -> None:
        """Say that a scan came to its end; what was dropped meanwhile wants a catch-up scan."""
        self.catching_up = False
        self.scan_wanted = self.scan_wanted or self.dropped
