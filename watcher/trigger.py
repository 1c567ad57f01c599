"""Run the command of a trigger: the command takes the entries, watcher says when.

An entry that is ready, by the same evidence as everywhere, has the command run. Nothing is claimed,
removed, deferred or written to the journal. The command is started after its entry was seen, so an
entry that the command's own look at the directory misses was committed later, and its event or a
scan has the command run again (`rules.trigger_pace`).
Guarantees: one run at a time, also of several processes. For an entry that is ready a run follows,
or it is remembered in `left` and has a next run, or a sweep finds it again. Memory for `MAX_LEFT`
names.
Fails: a call never raises; if the directory or `.watcher/` cannot be used, the result is STUCK.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

from watcher.arrive.scan import START, name_in, scan
from watcher.claim.take import take
from watcher.errors import WatcherError, counted
from watcher.handle.entry import Entry
from watcher.handle.kinds.run_trigger import TriggerCommand
from watcher.observe.counters import Counters, Ended
from watcher.rules.age import SECOND, Clock
from watcher.rules.evidence import Action, Proof
from watcher.rules.form import Form
from watcher.rules.names import display, is_deferred
from watcher.rules.results import (
    DONE,
    AttemptEnd,
    AttemptResult,
    HandlerResult,
    NotClaimed,
    Reason,
    Renamed,
    Verdict,
)
from watcher.rules.retry import Policy
from watcher.rules.trigger_pace import Pace, Run, after_run, ready_since, wait_for
from watcher.settle.refused import describe_error
from watcher.spool import run_lock
from watcher.spool.claimed import ClaimOptions
from watcher.spool.spool import Spool

LOOKED = 1000  # entries, the oldest, of which it is looked whether a run took them
MAX_LEFT = 65_536  # names
BUSY_AGAIN = 1.0  # seconds until the next look while another process runs the command
# The worker has nothing more to do with this name now: it is gone, or `left` has it.
NOTHING_TO_DO = AttemptResult(AttemptEnd.GONE)
_BUSY = AttemptResult(AttemptEnd.RETURNS, "another process runs the command", BUSY_AGAIN)
_OF_ANOTHER_HANDLER = "deferred by another handler: `watcher requeue` puts it back for the command"


class Left(NamedTuple):
    """An entry that waits for the next run: which file it is, and since when it is there."""

    ino: int
    ctime_ns: int


class Ran(NamedTuple):
    """A run that ended."""

    outcome: HandlerResult
    run: Run
    taken: int  # of the `LOOKED` oldest entries

    def __str__(self) -> str:
        """Return what is logged."""
        run, there = self.run, counted(self.run.there, "entry", "entries")
        least = "at least " if run.there > LOOKED == self.taken else ""
        took = f"the command took {least}{self.taken} of {there}"
        words = f"{took} in {(run.ended - run.began) * 1000:.0f} ms"
        return f"{words}, and failed: {self.outcome.reason}" if run.failed else words


class Options(Protocol):
    """The options of the queue, as `Finisher` and `SweepOptions` have them."""

    @property
    def queue(self) -> str:
        """The queue's name."""

    @property
    def terms(self) -> ClaimOptions:
        """When an entry is ready."""

    @property
    def policy(self) -> Policy:
        """How soon the command runs again."""

    @property
    def clock(self) -> Clock:
        """Where the time comes from."""


class Record(Protocol):
    """Where a run is noted for the status, as `Attempt` has it.

    `in_hand` has, by thread, the entry for which the command runs, and since when (monotonic).
    """

    counters: Counters
    in_hand: dict[int, tuple[Entry, float]]


class NoRecord:
    """A record that no status shows: that of a sweep by hand."""

    def __init__(self) -> None:
        self.counters = Counters()
        self.in_hand: dict[int, tuple[Entry, float]] = {}


class TriggerRuns:
    """The runs of one queue's command; one thread calls it. See `Attempt` for the arguments.

    Attributes
    ----------
    pace:     what is remembered of the runs before
    left:     the entries that wait for the next run, the first to be found first
    overflow: whether more entries wait than `left` has room for
    listen:   called after each run
    """

    def __init__(self, handler: TriggerCommand, options: Options, record: Record) -> None:
        self.pace = Pace()
        self.left: dict[bytes, Left] = {}
        self.overflow = False
        self.listen: Callable[[Ran], None] = _ignore
        self._handler = handler
        self._record = record
        self._options = options
        self._terms = options.terms._replace(lock=False)
        self._clock = options.clock
        self._lock = threading.Lock()  # for `left`: the daemon's thread looks at it too
        self._not_ready: set[bytes] = set()  # names that were looked at too early

    def __call__(
        self,
        spool: Spool,
        name: bytes,
        proof: Proof,
        event_time_ns: int = 0,
        renamed: Renamed | None = None,
    ) -> AttemptResult:
        """Have the command run if the entry of this name is ready, and it is time for a run."""
        try:
            return self._look(spool, name, proof, event_time_ns, renamed)
        except (OSError, WatcherError) as error:
            return AttemptResult(AttemptEnd.STUCK, f"{display(name)}: {describe_error(error)}")

    def _look(
        self, spool: Spool, name: bytes, proof: Proof, event_time_ns: int, renamed: Renamed | None
    ) -> AttemptResult:
        if is_deferred(name):
            why = f"{display(name)}: {_OF_ANOTHER_HANDLER}"
            there = spool.stat_at(name) is not None
            return AttemptResult(AttemptEnd.PINNED, why) if there else NOTHING_TO_DO
        if not event_time_ns and name in self.left and self.next_run() > self._now():
            return NOTHING_TO_DO
        claim = take(spool, name, proof, self._terms, event_time_ns, renamed)
        if isinstance(claim, NotClaimed):
            # A file that watcher could not remove may be one that the command can.
            status = spool.stat(name) if claim.refusal is Reason.PINNED else None
            if status is None:
                return self._not_yet(name, claim)
            file = Left(status.st_ino, status.st_ctime_ns)
        else:
            file = Left(claim.parts[0].ino, max(part.ctime_ns for part in claim.parts))
            claim.release()
            if claim.action is Action.ORPHAN:
                return NOTHING_TO_DO
        return self._ready(spool, _Found(name, proof, event_time_ns, file))

    def _not_yet(self, name: bytes, refused: NotClaimed) -> AttemptResult:
        """Return why an entry is not ready, for the worker to look at it again as at any other."""
        refusal, why, wait, shape, proof, renamed = refused
        self._forget(name)
        if refusal is Reason.GONE:
            self._not_ready.discard(name)
        elif len(self._not_ready) < MAX_LEFT:
            self._not_ready.add(name)
        end = AttemptEnd(refusal.value)
        return AttemptResult(end, why, wait, shape, proof=proof, renamed=renamed)

    def _ready(self, spool: Spool, found: _Found) -> AttemptResult:
        """Run the command for an entry, or have the entry wait for the next run."""
        real, now = self._clock.real(), self._now()
        known = self.left.get(found.name)
        if found.name in self._not_ready:
            self._not_ready.discard(found.name)
            ready_ns = real
        elif known is not None and known.ino == found.file.ino and not found.event_time_ns:
            ready_ns = 0  # a run left it
        else:
            limits = (self._terms.grace, self._terms.settle, spool.layout.raw)
            ctime_ns = found.file.ctime_ns
            ready_ns = ready_since(found.proof, found.event_time_ns, ctime_ns, real, limits)
        if wait_for(self.pace, ready_ns, real, now) > 0:
            self._remember(found)
            return NOTHING_TO_DO
        lock = run_lock.take(spool)
        if lock is None:
            return _BUSY
        try:
            return self._run(spool, found, ready_ns, lock)
        finally:
            run_lock.give_back(spool, lock)

    def _run(self, spool: Spool, found: _Found, ready_ns: int, lock: int) -> AttemptResult:
        by_name = not (spool.layout.legacy or spool.layout.raw)
        batch = scan(spool, START, limit=LOOKED, by_name=by_name)
        before = [name_in(position) for position in batch.packed]
        stem = spool.layout.stem(found.name)
        entry = Entry(
            queue=self._options.queue, name=stem, directory=spool.path, parts=(), form=Form.RAW
        )
        began_ns, began, me = self._clock.real(), self._now(), threading.get_ident()
        self._record.in_hand[me] = entry, time.monotonic()
        try:
            outcome = self._handler.run_for(entry, spool.path, lock)
        finally:
            del self._record.in_hand[me]
            entry.end()
        if outcome.verdict is Verdict.STOPPED:
            return AttemptResult(AttemptEnd.STOPPED, outcome.reason)
        taken = sum(spool.stat(name) is None for name in before)
        waited = found.name in self.left
        gone = self._forget_gone(spool)
        there = spool.stat(found.name)
        stays = there is not None and there.st_ino == found.file.ino
        if stays:
            self._remember(found)
        run = Run(
            began=began,
            ended=self._now(),
            began_ns=began_ns,
            ended_ns=self._clock.real(),
            ready_ns=ready_ns,
            failed=outcome.verdict is not Verdict.DONE,
            there=batch.total,
            took=bool(taken or gone) or not stays,
            left_new=stays and not waited,
            left=len(self.left),
        )
        self.pace = after_run(self.pace, run, self._options.policy, random.random)
        self._count(run, outcome)
        self.listen(Ran(outcome, run, taken))
        return DONE if not run.failed else NOTHING_TO_DO

    def _count(self, run: Run, outcome: HandlerResult) -> None:
        """Count a run as an attempt; it waited since its entry became ready, if that was new."""
        ended = Ended.FAILED if run.failed else Ended.HANDLED
        waited = max(0.0, (run.began_ns - run.ready_ns) / SECOND) if run.ready_ns else 0.0
        times = (waited, run.ended - run.began, 0.0)
        self._record.counters.add(ended, time.monotonic(), times, outcome.reason)

    # -- what waits for the next run ----------------------------------------------------------

    def next_run(self) -> float:
        """Return the moment of the next run for the entries that wait; infinity if none does."""
        if not (self.left or self.overflow):
            return math.inf
        return max(self.pace.hold_until, self.pace.left_until)

    def run_soon(self) -> None:
        """Have the next run be due now: what was wrong may be mended."""
        self.pace = self.pace._replace(hold_until=0.0, left_until=0.0)

    def waiting(self, spool: Spool) -> list[tuple[bytes, Left]]:
        """Return the entries that wait for the next run and are there, the first found first."""
        self._forget_gone(spool)
        with self._lock:
            return list(self.left.items())

    def _remember(self, found: _Found) -> None:
        with self._lock:
            if found.name in self.left or len(self.left) < MAX_LEFT:
                self.left[found.name] = found.file
            else:
                self.overflow = True

    def _forget(self, name: bytes) -> None:
        with self._lock:
            self.left.pop(name, None)

    def _forget_gone(self, spool: Spool) -> int:
        """Forget the entries that are not there any more; return how many."""
        with self._lock:
            known = list(self.left.items())
        gone = [name for name, file in known if _ino(spool, name) != file.ino]
        for name in gone:
            self._forget(name)
        return len(gone)

    def _now(self) -> float:
        return self._clock.mono() / SECOND


class _Found(NamedTuple):
    """An entry that is ready: how it was found, and its file."""

    name: bytes
    proof: Proof
    event_time_ns: int
    file: Left


def _ino(spool: Spool, name: bytes) -> int | None:
    status = spool.stat(name)
    return None if status is None else status.st_ino


def _ignore(_ran: Ran) -> None:
    """Do nothing."""
