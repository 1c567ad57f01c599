"""What follows from the result of an attempt: one table, and what it remembers of names.

Guarantees: memory for `MAX_COUNTED` names. After a reload, moments to look again and deferred
entries go to the worker of the new settings.
Fails: never.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NamedTuple, Protocol

from watcher.claim.passing import holder, stranger
from watcher.daemon.detector import Detector
from watcher.daemon.pending import Pending
from watcher.daemon.ready import Item
from watcher.durations import show
from watcher.observe.health import Health
from watcher.rules.backoff import delay
from watcher.rules.evidence import Proof, Shape
from watcher.rules.names import display
from watcher.rules.results import AttemptEnd, AttemptResult, Renamed
from watcher.settle.unremovable import Unremovable

LOOK_AGAIN = 1.0  # seconds until the second look at what was refused, then doubling
BUSY_AGAIN = 0.05  # seconds until the second look at an entry that is claimed, then doubling
HELD_FOR = 1.0  # seconds that an entry is busy before its holder is looked for
LOOK_LONGEST = 60.0  # seconds
# The same for a renamed file that a process still has open for writing. A download that was moved
# before its last buffer was written is closed in an instant; a log file may stay open for hours.
WRITER_AGAIN, WRITER_LONGEST = 0.2, 5.0
# The same for a file that was linked in and has its other name still: the second step of the
# writer's commit comes in an instant, or never.
LINKS_AGAIN = 0.02
MAX_COUNTED = 65_536  # names whose attempts are counted


class Look(NamedTuple):
    """What is remembered of an entry that could not be claimed yet."""

    event_time_ns: int = 0  # when its event was read
    looks: int = 0  # how many attempts were made
    renamed: Renamed | None = None  # the file whose rename was seen


class Served(Protocol):
    """The worker that has a queue, as far as it matters here."""

    detector: Detector
    pending: Pending
    health: Health


class FollowUp:
    """What one queue's workers do about the results of their attempts."""

    def __init__(
        self,
        detector: Detector,
        health: Health,
        unremovable: Unremovable,
        current: Callable[[], Served],
        wake: Callable[[], None],
    ) -> None:
        self.unremovable = unremovable
        self._detector = detector
        self._pending = detector.pending
        self._health = health
        self._current = current  # the worker that has the queue now
        self._wake = wake
        self._lock = threading.Lock()  # for the next two; worker threads call
        self.not_deferred: set[bytes] = set()  # names whose deferral the disk refused
        self.looks: dict[bytes, Look] = {}

    def take_over(self, before: FollowUp) -> None:
        """Share the memory of the settings before: both use it for a while.

        Called before a thread of these settings has started.
        """
        self.unremovable = before.unremovable
        self._lock, self.not_deferred = before._lock, before.not_deferred

    def __call__(  # noqa: C901, PLR0912 - a table
        self, item: Item, report: AttemptResult
    ) -> None:
        """Do what follows from the result of an attempt at an entry."""
        name, proof = item.name, item.proof
        if report.result is AttemptEnd.BUSY and name in self.unremovable:
            return  # this process has it claimed
        stuck = report.result in (
            AttemptEnd.STUCK,
            AttemptEnd.ERROR,
            AttemptEnd.PINNED,
            AttemptEnd.KEPT,
        )
        if report.result is not AttemptEnd.BUSY:
            self._health.entry(name, report.why if stuck else None)
        match report.result:
            case AttemptEnd.DONE | AttemptEnd.REJECTED | AttemptEnd.GONE | AttemptEnd.FOLLOWED:
                self._settled(name, gone=report.result is AttemptEnd.GONE)
            case AttemptEnd.DEFERRED:
                self._settled(name)
                if report.name and self._current().detector.deferred.add(report.name):
                    self._wake()
            case AttemptEnd.RETRY:  # and the disk refused the deferral
                self._note_not_deferred(name)
                self.again(item, report.wait or 0.0, proof)
            case AttemptEnd.YOUNG:
                self._until_of_age(item, report)
            case AttemptEnd.BUSY:
                self._mind_holder(name, self._look_again(item, BUSY_AGAIN))
            case AttemptEnd.RETURNS:
                self.again(item, report.wait or 0.0, proof)
            case AttemptEnd.KEPT:
                self._wake()  # the daemon's thread has to learn when to try again
            case AttemptEnd.PINNED:
                self._detector.mentions.once(name, "left alone", report.why.partition(": ")[2])
                self._look_again(item)
            case AttemptEnd.STUCK | AttemptEnd.ERROR:
                self._look_again(item)
            case AttemptEnd.ORPHANED:
                self._pending.orphans = True
                self._pending.pairs.forget(name)
            case AttemptEnd.REUNITED:
                self.again(item, LOOK_AGAIN, Proof.NONE)
            case AttemptEnd.FOREIGN | AttemptEnd.WRITER | AttemptEnd.UNPROVEN:
                self._wait_for_writer(item, report)  # or an event or a sweep brings it back
            case AttemptEnd.STOPPED:
                self.again(item, 0.0, proof)  # it was given back, or this process is about to exit
            case AttemptEnd.MISCONFIGURED:
                pass  # `WorkerLoop` follows with `HandlerTrial` follows

    def _is_taken(self) -> bool:
        """Whether an entry is gone that no process of watcher may have taken, and no moment is set.

        The moment is one for all entries that are gone, so that a storm of them wakes no thread.
        """
        spool, custody = self._detector.spool, self._detector.watch.custody
        return spool is not None and spool.journal.vanished.pending and not custody.reports_soon

    def _note_not_deferred(self, name: bytes) -> None:
        with self._lock:
            if len(self.not_deferred) < MAX_COUNTED:
                self.not_deferred.add(name)

    def _mind_holder(self, name: bytes, wait: float) -> None:
        """Report the process that has an entry claimed for long and does not handle entries."""
        spool = self._detector.spool
        if wait < HELD_FOR or spool is None:
            return
        if other := stranger(spool, name):
            why = f"claimed by {other}, which hands it to no handler, for {show(wait)} or longer"
            self._health.entry(name, f"{display(name)}: {why}")
            self._detector.mentions.once(name, "busy", why)
        elif wait >= LOOK_LONGEST:
            why = f"claimed by {holder(spool, name)}, for {show(wait)} or longer"
            self._detector.mentions.once(name, "busy", why)

    def _until_of_age(self, item: Item, report: AttemptResult) -> None:
        if report.name and report.name != item.name:  # it was deferred and is in the queue again
            item = Item(report.name, item.proof)
        if report.shape is Shape.WHOLE:
            self._detector.waits.tell(item.name, report.why, report.wait or 0.0)
        self.again(item, report.wait or 0.0, report.proof, young=True)

    def _settled(self, name: bytes, *, gone: bool = False) -> None:
        self._pending.pairs.forget(name)
        with self._lock:
            self.looks.pop(name, None)
            over = name in self.not_deferred and len(self.not_deferred) == 1
            self.not_deferred.discard(name)
        if over:
            self._current().detector.watch.on_disk(None)
        if gone and self._is_taken():
            self._wake()  # the daemon's thread reports it soon
        spool = self._detector.spool
        if spool is not None and spool.unwritten:
            self._detector.watch.on_note(spool.unwritten)
            spool.unwritten = ""

    def _look_again(self, item: Item, first: float = LOOK_AGAIN) -> float:
        """Look at an entry again soon, and ever less often; return in how many seconds."""
        looks = self._count_look(item, None)
        wait = delay(looks, first, LOOK_LONGEST)
        self.again(item, wait, item.proof)
        return wait

    def _wait_for_writer(self, item: Item, report: AttemptResult) -> None:
        """Look again soon, and ever less often, at a file that waits only for its writer."""
        linked = report.proof is Proof.LINKED
        quiet = linked or report.result is AttemptEnd.UNPROVEN
        if not quiet and item.proof is not Proof.CLOSED:  # its next close brings that one back
            self._detector.mentions.once(item.name, "left alone", report.why)
        if report.result is AttemptEnd.UNPROVEN and item.proof is Proof.LINKED and not linked:
            # It waits for its age. If it had a timer, the event of the link cancelled it.
            self.again(item, self._detector.settings.grace_age, Proof.NONE, young=True)
        if report.proof is Proof.NONE:
            return
        looks = self._count_look(item, report.renamed)
        first, longest = WRITER_AGAIN, WRITER_LONGEST
        if report.result is AttemptEnd.FOREIGN:
            first, longest = LINKS_AGAIN, LOOK_LONGEST
        wait = delay(looks, first, longest)
        if linked and wait >= longest:  # a writer of a large file, or another name that stays
            self._detector.mentions.once(item.name, "left alone", report.why)
        self.again(item, wait, report.proof, young=linked)

    def _count_look(self, item: Item, renamed: Renamed | None) -> int:
        """Note one more attempt at an entry; return its number."""
        name, _, event_time_ns = item
        with self._lock:
            known = self.looks.get(name, Look(event_time_ns))
            same = known.event_time_ns == event_time_ns  # otherwise it may be another file by now
            looks = known.looks + 1 if same else 1
            if name in self.looks or len(self.looks) < MAX_COUNTED:
                self.looks[name] = Look(event_time_ns, looks, renamed)
        return looks

    def again(self, item: Item, seconds: float, proof: Proof, *, young: bool = False) -> None:
        """Give an entry out again in so many seconds."""
        due, timers = self._detector.now() + seconds, self._current().pending.timers
        if timers.set(item.name, due, proof, item.event_time_ns, young=young):
            self._wake()
