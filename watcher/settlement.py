"""After the handler's word: which move an entry makes, told to the journal, made, told to the log.

Guarantees: an entry's files go only after "done"; the journal's line comes before the step, so that
no crash lets an entry go without a trace; what scheduling needs is on disk before anyone can forget
it.
Fails: while the disk refuses to remove an entry or to put it away, the claim is kept and the step
(not the handler) is tried again at growing intervals for as long as `Patience.pause` allows, so
that nobody does the work twice meanwhile; then it raises. A retry that cannot be written down is
left where it is, for this process to try again in the time its policy says.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from watcher.age import SECOND, Clock
from watcher.claim.take import Claim, Terms
from watcher.durations import show
from watcher.entry import Entry
from watcher.errors import WatcherError
from watcher.evidence import How
from watcher.handle.outcome import Outcome, Verdict
from watcher.lifecycle import Move, State, Transition, after
from watcher.report import DONE, Listener, Patience, Report, Result
from watcher.settle import settle
from watcher.settle.backoff import delay
from watcher.settle.policy import Policy
from watcher.spool.layout import DEFERRED, display
from watcher.spool.schedule import Schedule
from watcher.spool.spool import Spool

T = TypeVar("T")
WENT = "its file went while it was handled"


class Finished(NamedTuple):
    """An attempt that a handler ended: what was claimed, what it said, and in how many seconds."""

    claim: Claim
    outcome: Outcome
    seconds: float = 0.0
    entry: Entry | None = None  # None: the process that had it in hand died


class Settlement:
    """How the attempts of one queue end."""

    def __init__(
        self,
        queue: str,
        terms: Terms,
        policy: Policy,
        clock: Clock,
        listen: Listener,
        patience: Patience,
    ) -> None:
        self.queue = queue
        self.terms = terms
        self.policy = policy
        self.clock = clock
        self.listen = listen
        self.patience = patience
        self.tells = frozenset(Move)  # a listener that drops the others need not be told them

    def with_patience(self, patience: Patience) -> Settlement:
        """Return the same with another patience."""
        return Settlement(self.queue, self.terms, self.policy, self.clock, self.listen, patience)

    def settle(self, finished: Finished, how: How) -> Report:
        """Do what the handler's word asks for; raises OSError or WatcherError."""
        claim, outcome = finished.claim, finished.outcome
        match outcome.verdict:
            case Verdict.DONE:
                return self._done(finished)
            case Verdict.REJECT:
                return self._unfinished(finished, how) or self._reject(finished, outcome.reason)
            case Verdict.MISCONFIGURED:
                self.tell(claim, State.CLAIMED, Move.RELEASE, outcome.reason, finished.seconds)
                return Report(Result.MISCONFIGURED, outcome.reason)
            case Verdict.STOPPED:
                return Report(Result.STOPPED, outcome.reason)
            case Verdict.RETRY if not outcome.given:
                self.tell(claim, State.CLAIMED, Move.RELEASE, outcome.reason, finished.seconds)
                return Report(Result.STUCK, f"{display(claim.stem)}: {outcome.reason}")
            case Verdict.RETRY | Verdict.CRASHED:
                return self.retry(finished)

    def _done(self, finished: Finished) -> Report:
        claim, seconds = finished.claim, finished.seconds
        self.record(claim, State.CLAIMED, Move.FINISH)
        if not self._insist(lambda: settle.remove(claim.spool, claim.parts)):
            why = "written to while it was handled: a new entry, when it is of age"
            self.tell(claim, State.CLAIMED, Move.RELEASE, why, seconds)
            return Report(Result.YOUNG, why, self.terms.grace)
        self.tell(claim, State.CLAIMED, Move.FINISH, finished.outcome.reason, seconds)
        return DONE

    def _unfinished(self, finished: Finished, how: How) -> Report | None:
        """Leave alone what may not be damaged but unfinished: its rename was not seen."""
        claim, entry = finished.claim, finished.entry
        if entry is None or entry.damage is None:
            return None
        if how is How.RENAMED or claim.schedule is not None:
            return None
        young = self.terms.grace - claim.age()
        if young <= 0:
            return None
        self.tell(claim, State.CLAIMED, Move.RELEASE, entry.damage, finished.seconds)
        return Report(Result.YOUNG, f"{entry.damage}; younger than the grace age", young)

    def _reject(self, finished: Finished, why: str) -> Report:
        claim = finished.claim
        facts = self._facts(finished)
        self.record(claim, State.CLAIMED, Move.REJECT, why)
        if not self._insist(
            lambda: settle.put_away(claim.spool, State.DEAD, claim.parts, why, facts)
        ):
            return Report(Result.GONE, WENT)
        self.tell(claim, State.CLAIMED, Move.REJECT, why, finished.seconds)
        return Report(Result.REJECTED, why)

    def retry(self, finished: Finished) -> Report:
        """Defer an entry to its next attempt, or give it up; raises OSError or WatcherError."""
        claim, outcome = finished.claim, finished.outcome
        schedule = self._counted(finished)
        if schedule.crashes >= self.policy.max_crashes and outcome.verdict is Verdict.CRASHED:
            times = f"{schedule.crashes} times" if schedule.crashes > 1 else "once"
            why = f"poison: it was {times} in hand when a process died; last: {outcome.reason}"
            return self._reject(finished, why)
        wait = self.policy.next(schedule.attempts, schedule.waited, outcome.after, random.random)
        if wait is None:
            gave_up = self.policy.gave_up(schedule.attempts, schedule.waited)
            return self._reject(finished, f"{gave_up}: {outcome.reason}")
        due_ms = (self.clock.real() + round(wait * SECOND)) // 1_000_000
        schedule = schedule._replace(due_ms=due_ms, delay=wait)
        facts = self._facts(finished) | {"next_attempt_ms": due_ms}
        self.record(claim, State.CLAIMED, Move.DEFER)
        try:
            name = settle.defer(claim.spool, claim.parts, schedule, outcome.reason, facts)
        except (OSError, WatcherError) as error:
            self.patience.trouble(f"cannot defer {display(claim.stem)}: {told(error)}")
            self.tell(claim, State.CLAIMED, Move.RELEASE, outcome.reason, finished.seconds)
            return Report(Result.RETRY, outcome.reason, wait)
        if not name:
            return Report(Result.GONE, WENT)
        self.patience.trouble(None)
        detail = f"{outcome.reason}; attempt {schedule.attempts + 1} in {show(round(wait, 1))}"
        self.tell(claim, State.CLAIMED, Move.DEFER, detail, finished.seconds)
        return Report(Result.DEFERRED, outcome.reason, wait, name=DEFERRED + name)

    def _counted(self, finished: Finished) -> Schedule:
        """Return what the entry has been through, this attempt included."""
        before = finished.claim.schedule
        crashed = finished.outcome.verdict is Verdict.CRASHED
        if before is None:
            return Schedule(0, attempts=1, crashes=int(crashed))
        return before._replace(
            attempts=before.attempts + 1,
            crashes=before.crashes + crashed,
            waited=before.waited + before.delay + finished.seconds,
        )

    def abandon(self, claim: Claim) -> Report:
        """Move half of a pair whose writer is gone to orphans/; raises OSError or WatcherError."""
        facts = {"queue": self.queue}
        state = State.ARRIVING if claim.schedule is None else State.DEFERRED
        self.record(claim, state, Move.ABANDON, claim.why)
        if not self._insist(
            lambda: settle.put_away(claim.spool, State.ORPHAN, claim.parts, claim.why, facts)
        ):
            return Report(Result.GONE, WENT)
        self.tell(claim, state, Move.ABANDON, claim.why)
        return Report(Result.ORPHANED, claim.why)

    def _insist(self, step: Callable[[], T]) -> T:
        """Take a settling step, again and again while the disk refuses, with the claim held."""
        tried = 0
        while True:
            try:
                value = step()
            except (OSError, WatcherError) as error:
                tried += 1
                self.patience.trouble(told(error))
                if not self.patience.pause(delay(tried)):
                    raise
            else:
                if tried:
                    self.patience.trouble(None)
                return value

    @staticmethod
    def record(claim: Claim, state: State, move: Move, detail: str = "") -> None:
        """Put a line into the journal: before the step, so that the step is never unexplained."""
        part = claim.parts[0]
        claim.spool.journal.record(state, move, part.ino, part.name, detail)

    def tell(
        self, claim: Claim, state: State, move: Move, detail: str = "", seconds: float = 0.0
    ) -> None:
        """Tell the listener of a transition, by the life cycle's table."""
        if move in self.tells:
            state = after(state, move)
            self.listen(Transition(self.queue, claim.stem, move, state, detail, seconds))

    def _facts(self, finished: Finished) -> dict[str, object]:
        """Gather what is known of a failed attempt, for the note beside the entry."""
        outcome, counted = finished.outcome, self._counted(finished)
        return {
            "queue": self.queue,
            "attempts": counted.attempts,
            "crashes": counted.crashes,
            "first_failure": round(self.clock.real() / SECOND - counted.waited, 3),
            "exit_status": outcome.exit_status,
            "stderr": outcome.stderr,
        }


def told(error: OSError | WatcherError) -> str:
    """Say in one line what went wrong."""
    if isinstance(error, OSError):
        return f"{error.strerror or error} (errno {error.errno})"
    return str(error)


def path_of(spool: Spool, claim: Claim) -> bytes:
    """Return the directory that a claimed entry lies in."""
    if claim.parts[0].directory < 0:
        return spool.path
    return spool.path + b"/.watcher/deferred"
