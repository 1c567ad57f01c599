"""Finish an attempt: choose the transition, write it to the journal, perform it on disk, log it.

Guarantees: an entry's files are removed only after "done". The journal's line is written before the
step, so that no crash removes an entry without a trace. What a next attempt needs is on disk before
the claim is released.
Fails: while the disk refuses to remove or to move an entry, the claim is kept and the step (not the
handler) is repeated at growing intervals, for as long as `DiskRetry.pause` returns True; then it
raises. If the kernel refuses one entry of a writable directory, the claim is kept for a later try
(`unremovable`) and the worker goes on. A retry that cannot be written down leaves the entry where
it is; this process tries it again when the policy says.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, Protocol

from watcher.durations import show
from watcher.errors import WatcherError
from watcher.rules.age import SECOND, Clock
from watcher.rules.delays import Delays, before_claim
from watcher.rules.evidence import Proof
from watcher.rules.lifecycle import Move, State, Transition, after
from watcher.rules.names import display, in_deferred
from watcher.rules.pair_names import metadata_name
from watcher.rules.results import DONE, AttemptEnd, AttemptResult, HandlerResult, Verdict
from watcher.rules.retry import Policy
from watcher.rules.stamp import Schedule
from watcher.settle import moves
from watcher.settle.refused import DiskRetry, Step, describe_error, insist, put_by
from watcher.settle.unremovable import Unremovable
from watcher.spool.attempt_detail import ATTEMPT, LONGEST_REASON, AttemptDetail, format_detail
from watcher.spool.birth import birth_ns
from watcher.spool.claimed import Claim, ClaimOptions
from watcher.spool.notes import REMEMBERED
from watcher.spool.spool import Spool

REWRITTEN = "written to while it was handled: a new entry, when it is of age"
WENT = "its file went while it was handled"

Listener = Callable[[Transition], None]


class Handled(Protocol):
    """What a `Finisher` needs of the entry that the handler was given."""

    damage: str | None  # why its contents could not be decoded, if the handler asked for them
    attempt: int
    process: int | None

    @property
    def known_key(self) -> str:
        """The entry's key if it was computed, else ""."""

    def is_as_read(self) -> bool | None:
        """Whether its file still holds what was read from it; None if that is not known."""


class FinishedAttempt(NamedTuple):
    """An attempt that ended: what was claimed, the handler's result, and how long all took."""

    claim: Claim
    outcome: HandlerResult
    seconds: float = 0.0
    entry: Handled | None = None  # None: the process that ran the handler died
    committed: float = 0.0  # when its writer committed it, in seconds since the epoch
    claimed: float = 0.0  # when it was claimed, likewise
    ended: float = 0.0  # when the handler's result was there, in seconds of the monotonic clock


class Finisher:
    """Ends the attempts of one queue. Shared by its workers: it is not changed after its set-up.

    What an end does to an entry is in `end_done`, `end_deferred` and `end_rejected`. A subclass
    whose entries are somewhere else too replaces these (`finish_delivery`). Each may be called more
    than once for one attempt, until it does not raise.
    """

    def __init__(
        self,
        queue: str,
        terms: ClaimOptions,
        policy: Policy,
        clock: Clock,
        listen: Listener,
        patience: DiskRetry,
    ) -> None:
        self.queue = queue
        self.terms = terms
        self.policy = policy
        self.clock = clock
        self.listen = listen
        self.patience = patience
        self.unremovable: Unremovable | None = None  # None: no later tries in this process
        self.emitted = frozenset(Move)  # the moves that `listen` is called for

    def with_patience(self, patience: DiskRetry) -> Finisher:
        """Return a copy with another `DiskRetry`; it keeps no claims and emits every move."""
        return Finisher(self.queue, self.terms, self.policy, self.clock, self.listen, patience)

    def settling(self, results: Sequence[tuple[Claim, HandlerResult]]) -> None:
        """Do for the entries of a batch what is cheaper for all at once; `settle` follows for each.

        Raises nothing. A directory has nothing that is.
        """

    def settle(self, finished: FinishedAttempt, proof: Proof) -> AttemptResult:
        """Do what the handler's result asks for; raises OSError or WatcherError."""
        claim, outcome = finished.claim, finished.outcome
        match outcome.verdict:
            case Verdict.DONE:
                part, spool, born = claim.parts[0], claim.spool, None
                # A unique name tells this file from all others: no birth time is asked for.
                if claim.schedule is not None or not spool.layout.is_unique_name(part.name):
                    born = birth_ns(part.fd) or 0
                took, schedule = int(finished.seconds * 1000), claim.schedule
                wait = max(0, (time.time_ns() - part.ctime_ns) // 1_000_000 - took)
                number = 1 if schedule is None else schedule.attempts + 1
                attempt = ATTEMPT % (number, took, wait)
                removed = spool.archive is None and outcome.move_to is None
                detail = attempt if removed else _with_place(attempt, spool, outcome)
                spool.journal.record(State.CLAIMED, Move.FINISH, part.ino, part.name, detail, born)
                try:
                    return self.end_done(finished)
                except (OSError, WatcherError) as error:
                    return insist(
                        claim,
                        partial(self.end_done, finished),
                        error,
                        self.patience,
                        self.unremovable,
                    )
            case Verdict.REJECT:
                left = self._unfinished(finished, proof)
                return left or self.end_rejected(finished, outcome.reason)
            case Verdict.MISCONFIGURED:
                self.emit(claim, State.CLAIMED, Move.RELEASE, outcome.reason, finished)
                return AttemptResult(AttemptEnd.MISCONFIGURED, outcome.reason)
            case Verdict.STOPPED:
                return AttemptResult(AttemptEnd.STOPPED, outcome.reason)
            case Verdict.RETRY if not outcome.attempted:
                self.emit(claim, State.CLAIMED, Move.RELEASE, outcome.reason, finished)
                return AttemptResult(AttemptEnd.STUCK, f"{display(claim.stem)}: {outcome.reason}")
            case Verdict.RETRY | Verdict.CRASHED:
                return self.retry(finished)

    def end_done(self, finished: FinishedAttempt) -> AttemptResult:
        """Remove a handled entry, or move it to where it belongs now."""
        claim = finished.claim
        is_as_read = _nothing_read if finished.entry is None else finished.entry.is_as_read
        if not moves.remove(claim.spool, claim.parts, is_as_read, finished.outcome):
            self.emit(claim, State.CLAIMED, Move.RELEASE, REWRITTEN, finished)
            return AttemptResult(
                AttemptEnd.YOUNG,
                REWRITTEN,
                self.terms.settle or self.terms.grace,
                name=claim.parts[0].queue_name,
            )
        if Move.FINISH in self.emitted:
            self.emit(claim, State.CLAIMED, Move.FINISH, finished.outcome.reason, finished)
        return DONE

    def _unfinished(self, finished: FinishedAttempt, proof: Proof) -> AttemptResult | None:
        """Leave a file that cannot be decoded: if no rename was seen, it may be incomplete."""
        claim, entry = finished.claim, finished.entry
        if entry is None or entry.damage is None:
            return None
        if proof is Proof.RENAMED or claim.schedule is not None:
            return None
        young = self.terms.grace - claim.age()
        if young <= 0:
            return None
        self.emit(claim, State.CLAIMED, Move.RELEASE, entry.damage, finished)
        return AttemptResult(AttemptEnd.YOUNG, f"{entry.damage}; younger than the grace age", young)

    def end_rejected(self, finished: FinishedAttempt, why: str) -> AttemptResult:
        """Move an entry to dead/; write to the journal first."""
        claim = finished.claim
        facts = self.facts(finished)
        self.record(claim, State.CLAIMED, Move.REJECT, _detail(finished, why))

        def step() -> AttemptResult:
            if not moves.put_away(claim.spool, State.DEAD, claim.parts, why, facts):
                return AttemptResult(AttemptEnd.GONE, WENT)
            self.emit(claim, State.CLAIMED, Move.REJECT, why, finished)
            return AttemptResult(AttemptEnd.REJECTED, why)

        return self._insist_or_stay(claim, step)

    def retry(self, finished: FinishedAttempt) -> AttemptResult:
        """Defer an entry to its next attempt, or give it up; raises OSError or WatcherError."""
        claim, outcome = finished.claim, finished.outcome
        schedule = self._counted(finished)
        if schedule.crashes >= self.policy.max_crashes and outcome.verdict is Verdict.CRASHED:
            times = f"{schedule.crashes} times" if schedule.crashes > 1 else "once"
            why = f"poison: it was {times} in hand when a process died; last: {outcome.reason}"
            return self.end_rejected(finished, why)
        wishes = (outcome.after, random.random, outcome.at_least)
        wait = self.policy.next(schedule.attempts, schedule.waited, *wishes)
        if wait is None:
            gave_up = self.policy.gave_up(schedule.attempts, schedule.waited)
            return self.end_rejected(finished, f"{gave_up}: {outcome.reason}")
        due_ms = (self.clock.real() + round(wait * SECOND)) // 1_000_000
        schedule = schedule._replace(due_ms=due_ms, delay=wait)
        detail = _detail(finished, outcome.reason[:LONGEST_REASON], wait)
        self.record(claim, State.CLAIMED, Move.DEFER, detail)

        def step() -> AttemptResult:
            return self.end_deferred(finished, schedule)

        try:
            return step()
        except (OSError, WatcherError) as error:
            if self.unremovable is not None and (
                kept := put_by(claim, step, error, self.unremovable)
            ):
                return kept
            if not moves.is_still(claim.spool, claim.parts[0]):  # it moved; its `.db` did not
                return insist(claim, step, error, self.patience, self.unremovable)
            self.record(claim, State.CLAIMED, Move.RELEASE)  # it is where it was
            self.patience.trouble(f"cannot defer {display(claim.stem)}: {describe_error(error)}")
            self.emit(claim, State.CLAIMED, Move.RELEASE, outcome.reason, finished)
            return AttemptResult(AttemptEnd.RETRY, outcome.reason, wait)

    def end_deferred(self, finished: FinishedAttempt, schedule: Schedule) -> AttemptResult:
        """Move an entry to deferred/, or to its next moment there."""
        claim, reason = finished.claim, finished.outcome.reason
        facts = self.facts(finished) | {"next_attempt_ms": schedule.due_ms}
        name = moves.defer(claim.spool, claim.parts, schedule, reason, facts)
        if not name:
            return AttemptResult(AttemptEnd.GONE, WENT)
        self.patience.trouble(None)
        self.emit_deferred(finished, schedule)
        return AttemptResult(AttemptEnd.DEFERRED, reason, schedule.delay, name=in_deferred(name))

    def _counted(self, finished: FinishedAttempt) -> Schedule:
        """Return the entry's attempts, crashes and waits, this attempt included."""
        before = finished.claim.schedule
        crashed = finished.outcome.verdict is Verdict.CRASHED
        if before is None:
            return Schedule(0, 1, int(crashed), identity=finished.claim.identity())
        return before._replace(
            attempts=before.attempts + 1,
            crashes=before.crashes + crashed,
            identity=finished.claim.identity(),
            waited=before.waited + before.delay + finished.seconds,
        )

    def abandon(self, claim: Claim) -> AttemptResult:
        """Move one file of an incomplete pair to orphans/; raises OSError or WatcherError."""
        facts = {"queue": self.queue}
        state = State.ARRIVING if claim.schedule is None else State.DEFERRED
        there = claim.parts[0].queue_name
        missing = "its message" if there.endswith(b".db") else display(metadata_name(there))
        why = f"{missing} is missing; {claim.why}"
        self.record(claim, state, Move.ABANDON, why)

        def step() -> AttemptResult:
            if not moves.put_away(claim.spool, State.ORPHAN, claim.parts, why, facts):
                return AttemptResult(AttemptEnd.GONE, WENT)
            self.emit(claim, state, Move.ABANDON, why)
            return AttemptResult(AttemptEnd.ORPHANED, why)

        return self._insist_or_stay(claim, step)

    def _insist_or_stay(self, claim: Claim, step: Step) -> AttemptResult:
        """Take a step, repeated while the disk refuses; write to the journal if it gives up."""
        try:
            try:
                return step()
            except (OSError, WatcherError) as error:
                return insist(claim, step, error, self.patience, self.unremovable)
        except (OSError, WatcherError):
            self.record(claim, State.CLAIMED, Move.RELEASE)
            raise

    @staticmethod
    def record(claim: Claim, state: State, move: Move, detail: str = "") -> None:
        """Write a transition to the journal, before the step: so each step is explained.

        The birth time tells the file from a later one with its inode number.
        """
        part = claim.parts[0]
        born = birth_ns(part.fd) or 0
        claim.spool.journal.record(state, move, part.ino, part.name, detail, born)

    def emit(
        self,
        claim: Claim,
        state: State,
        move: Move,
        detail: str = "",
        finished: FinishedAttempt | None = None,
        next_try: float | None = None,
    ) -> None:
        """Call the listener with a transition, if it asked for that move.

        `finished` is the attempt that ends with it.
        """
        if move not in self.emitted:
            return
        now, queue, stem = after(state, move), self.queue, claim.stem
        if finished is None or (entry := finished.entry) is None:
            self.listen(Transition(queue, stem, move, now, detail))
            return
        outcome, delays = finished.outcome, delays_of(finished)
        printed = (outcome.stdout, outcome.stderr) if outcome.stdout or outcome.stderr else None
        about = (entry.attempt, next_try, entry.known_key, entry.process, printed)
        self.listen(Transition(queue, stem, move, now, detail, finished.seconds, delays, *about))

    def emit_deferred(self, finished: FinishedAttempt, schedule: Schedule) -> None:
        """Call the listener with a deferral, and when the next attempt is due."""
        wait = f"in {show(round(schedule.delay, 1))}" if schedule.delay else "at once"
        detail = f"{finished.outcome.reason}; attempt {schedule.attempts + 1} {wait}"
        due = schedule.due_ms / 1000
        self.emit(finished.claim, State.CLAIMED, Move.DEFER, detail, finished, next_try=due)

    def facts(self, finished: FinishedAttempt) -> dict[str, object]:
        """Return what the note beside the entry says about a failed attempt."""
        outcome, counted = finished.outcome, self._counted(finished)
        told = {} if outcome.remembered is None else {REMEMBERED: dict(outcome.remembered)}
        return told | {
            "queue": self.queue,
            "attempts": counted.attempts,
            "crashes": counted.crashes,
            "first_failure": round(self.clock.real() / SECOND - counted.waited, 3),
            "exit_status": outcome.exit_status,
            "stderr": outcome.stderr,
        }


def _with_place(attempt: bytes, spool: Spool, outcome: HandlerResult) -> str:
    """Return what the journal says of an attempt whose files go to a directory."""
    if outcome.move_to is not None:
        where = display(outcome.move_to)
    else:
        where = "" if spool.archive is None else spool.archive.where()
    return f"{attempt.decode()}: to {where}"


def _detail(finished: FinishedAttempt, text: str, next_in: float | None = None) -> str:
    """Return what the journal says of an attempt that failed.

    How long it took is not known if the process that made it died.
    """
    claim, took, wait = finished.claim, None, None
    if finished.entry is not None:
        took = finished.seconds
        wait = (time.time_ns() - claim.parts[0].ctime_ns) / SECOND - took
    number = 1 if claim.schedule is None else claim.schedule.attempts + 1
    status = finished.outcome.exit_status
    return format_detail(AttemptDetail(number, took, wait, status, next_in, text))


def delays_of(finished: FinishedAttempt) -> Delays:
    """Return where the time of an entry went until now, the end of an attempt."""
    schedule, committed = finished.claim.schedule, finished.committed
    settle = time.monotonic() - finished.ended
    if schedule is None:  # as `before_claim` says, without a call
        wait = finished.claimed - committed
        return Delays(0.0, wait if wait > 0 else 0.0, finished.seconds, settle)
    earlier, wait = before_claim(finished.claimed, committed, schedule.due_ms / 1000)
    return Delays(earlier, wait, finished.seconds, settle)


def _nothing_read() -> None:
    """Return None: what the handler read is not known."""


def path_of(spool: Spool, claim: Claim) -> bytes:
    """Return the directory that a claimed entry lies in."""
    if claim.parts[0].directory is None:
        return spool.path
    return spool.home.path + b"/deferred"
