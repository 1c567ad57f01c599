"""One attempt at one entry: claim it, hand it to the handler, settle it. Stages 2 to 4 in a row.

`begin` and `settle` are the steps before and after the handler. The same code serves the daemon's
workers and the sweep by hand.
Guarantees: the handler runs only under a claim, only on a complete entry, and only after the ledger
has the entry. The files are removed only after the handler succeeded. Neither the contents of an
entry nor a handler makes an attempt raise.
Fails: as `Finisher`; the result is then STUCK.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import NamedTuple

from watcher.claim.take import take
from watcher.claim.take_deferred import take_deferred
from watcher.errors import Undecodable, WatcherError
from watcher.handle.entry import Entry
from watcher.handle.handler import Handler
from watcher.observe.counters import Counters, Ended
from watcher.rules.age import SECOND
from watcher.rules.breaker import Breaker
from watcher.rules.doubt import Doubt
from watcher.rules.evidence import Action, Proof, Shape
from watcher.rules.kinds import Kind
from watcher.rules.lifecycle import Move, State, Transition, after
from watcher.rules.names import Location, display, is_deferred
from watcher.rules.pair_names import metadata_name
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
from watcher.rules.stamp import parse
from watcher.settle import interrupted, moves
from watcher.settle.finish import FinishedAttempt, Finisher, path_of
from watcher.settle.refused import describe_error
from watcher.spool import abort_request
from watcher.spool.abort_request import AbortRequest
from watcher.spool.claimed import Claim, ClaimOptions
from watcher.spool.notes import committed_ns
from watcher.spool.part import too_large
from watcher.spool.spool import Spool

_HANDLED = Ended.HANDLED
_COMPLETE = "a move that was cut short is complete"


class Begun(NamedTuple):
    """An entry in hand: claimed, in the ledger, and ready for its handler; `settle` ends it."""

    claim: Claim
    entry: Entry
    proof: Proof
    claimed: float  # when it was claimed, in seconds since the epoch
    began: float  # the same moment (monotonic)
    too_large: HandlerResult | None  # the result without a run of the handler
    ticket: int  # of the doubt
    trip: int  # of the breaker
    number: int = 0  # among the entries that this thread has in hand


class Attempt:
    """Attempts at the entries of one queue."""

    def __init__(self, handler: Handler, settlement: Finisher, breaker: int = 0) -> None:
        self.handler = handler
        self.settlement = settlement
        self.doubt = Doubt()
        self.breaker = Breaker(breaker)
        self.counters = Counters()
        # By `id` of the entry: what is in hand, and since when (monotonic).
        self.in_hand: dict[int, tuple[Entry, float]] = {}

    def __call__(
        self,
        spool: Spool,
        name: bytes,
        proof: Proof,
        event_time_ns: int = 0,
        renamed: Renamed | None = None,
    ) -> AttemptResult:
        """Make one attempt at a name in the queue, or (as deferred/STAMP-NAME) in deferred/.

        `event_time_ns` and `renamed` as in `take`.
        """
        begun = self.begin(spool, name, proof, event_time_ns, renamed)
        if isinstance(begun, AttemptResult):
            return begun
        try:
            outcome = begun.too_large or self.handler.run(begun.entry)
        except BaseException:
            self.let_go(begun)
            raise
        return self.settle(begun, outcome)

    def begin(
        self,
        spool: Spool,
        name: bytes,
        proof: Proof,
        event_time_ns: int = 0,
        renamed: Renamed | None = None,
        number: int = 0,
    ) -> Begun | AttemptResult:
        """Claim an entry and write it down in the ledger; or return the result without a claim.

        `number` tells it from the others that this thread has in hand. What was begun ends with
        `settle`, or with `let_go`.
        """
        terms = self.settlement.terms
        if is_deferred(name):
            claim = take_deferred(spool, name, terms)
        else:
            claim = take(spool, name, proof, terms, event_time_ns, renamed)
        keep = False
        in_place = proof is Proof.CLOSED and spool.layout.raw
        try:
            if isinstance(claim, NotClaimed):
                # IN_CREATE and, of one file, IN_CLOSE_WRITE commit nothing.
                seen = None if in_place or proof is Proof.LINKED else event_time_ns
                return self._refused(spool, name, claim, seen)
            special = claim.linked or claim.action is Action.ORPHAN
            if special and (report := self._without_handler(claim)) is not None:
                keep = report.result is AttemptEnd.KEPT
                return report
            if (proof <= Proof.NO_WRITER or in_place) and (pinned := claim.pinned()) is not None:
                return AttemptResult(AttemptEnd.PINNED, pinned.why)
            message, schedule = claim.parts[0], claim.schedule
            layout, largest = spool.layout, claim.terms.largest
            fits = len(claim.parts) == 1 and (largest is None or message.size <= largest)
            entry = Entry(
                queue=self.settlement.queue,
                name=claim.stem,
                directory=spool.path if message.directory is None else path_of(spool, claim),
                parts=claim.parts,
                form=claim.form,
                limit=claim.terms.max_size,
                is_unique_name=layout.is_unique_name(message.unstamped or message.name),
                layout=layout,
                identity=0 if schedule is None else schedule.identity,
                key_name=layout.key_name(claim.stem) if layout.raw else None,
            )
            if schedule is not None:
                entry.attempt, entry.crashes = schedule.attempts + 1, schedule.crashes
            if spool.process_dir is None:
                # Otherwise a handled entry could not be removed, and would be handled again.
                moves.usable(spool)
            spool.ledger.take(spool, message, number)
            if Move.CLAIM in self.settlement.emitted:
                self.settlement.emit(claim, State.READY, Move.CLAIM, claim.why)
            result = None if fits else _too_large(claim, entry)
            tickets = self.doubt.ticket, self.breaker.ticket
            now = time.time(), time.monotonic()
            begun = Begun(claim, entry, proof, *now, result, *tickets, number)
            self.in_hand[id(entry)] = entry, begun.began
            keep = True
            return begun  # noqa: TRY300 - `finally` needs `keep`
        except (OSError, WatcherError) as error:
            return AttemptResult(AttemptEnd.STUCK, f"{display(name)}: {describe_error(error)}")
        finally:
            if isinstance(claim, Claim) and not keep:
                claim.release()

    def _refused(
        self, spool: Spool, name: bytes, refused: NotClaimed, event_time_ns: int | None
    ) -> AttemptResult:
        report = _report(refused)
        if is_deferred(name):
            if refused.shape is Shape.HALF and self._rejoin(spool, name):
                return AttemptResult(AttemptEnd.REUNITED, "its .db came after it")
            if refused.refusal is Reason.FOREIGN and interrupted.finish_move(spool, name):
                return AttemptResult(AttemptEnd.FOLLOWED, _COMPLETE)
            return report
        if refused.shape is Shape.HALF and (other := self._reunite(spool, name)):
            return AttemptResult(AttemptEnd.REUNITED, other)
        if refused.refusal is Reason.FOREIGN and interrupted.finish_move(spool, name):
            return AttemptResult(AttemptEnd.FOLLOWED, _COMPLETE)
        gone = refused.refusal is Reason.GONE and spool.layout.kind(name) is Kind.ENTRY
        # With markers no event of an entry says that it was committed.
        if gone and event_time_ns is not None and not spool.layout.marker:
            spool.journal.vanish(name, event_time_ns)
        return report

    @staticmethod
    def _rejoin(spool: Spool, name: bytes) -> bool:
        """Move the `.db` of a deferred message to its side, if a crash left it elsewhere."""
        file = Location.parse(name).name
        found = parse(file)
        if found is None:
            return False
        return interrupted.rejoin_deferred(spool, file, metadata_name(found[1]))

    def _reunite(self, spool: Spool, name: bytes) -> str:
        other = interrupted.reunite(spool, name)
        if other is None:
            return ""
        stem = spool.layout.stem(name)
        state = after(State.ORPHAN, Move.REUNITE)
        shown = display(other)
        self.settlement.listen(
            Transition(self.settlement.queue, stem, Move.REUNITE, state, f"{shown} came back")
        )
        return shown

    def _without_handler(self, claim: Claim) -> AttemptResult | None:
        """Complete a move that was cut short, or abandon half a pair; None if it is neither."""
        spool, name = claim.spool, claim.name
        if claim.linked and interrupted.finish_move(spool, name):
            return AttemptResult(AttemptEnd.FOLLOWED, _COMPLETE)
        return self._abandon(claim) if claim.action is Action.ORPHAN else None

    def _abandon(self, claim: Claim) -> AttemptResult:
        """Move half of a pair to orphans/, unless its other half is in a state directory."""
        if claim.schedule is not None:
            if self._rejoin(claim.spool, claim.name):
                return AttemptResult(AttemptEnd.REUNITED, "its .db came after it")
        elif other := self._reunite(claim.spool, claim.name):
            return AttemptResult(AttemptEnd.REUNITED, other)
        if moved := interrupted.rejoin_put_away(claim.spool, claim.parts[0]):
            return AttemptResult(AttemptEnd.FOLLOWED, display(moved))
        return self.settlement.abandon(claim)

    def settle(
        self, begun: Begun, outcome: HandlerResult, request: AbortRequest | None = None
    ) -> AttemptResult:
        """End an attempt by its handler's result; the claim is given up, whatever is raised.

        `request` is the operator's word that aborted it, if that is known.
        """
        handled = time.monotonic()
        claim, entry, proof, claimed, began, _, ticket, trip, number = begun
        spool, schedule = claim.spool, claim.schedule
        breaker, keep = self.breaker, False
        try:
            committed = (
                claim.parts[0].ctime_ns / SECOND
                if schedule is None and len(claim.parts) == 1  # without a call
                else _committed(claim)
            )
            due = committed if schedule is None else schedule.due_ms / 1000
            if outcome.verdict is not Verdict.DONE and outcome.ran:
                request = request or self.abort_request(begun)
                outcome = outcome if request is None else request.result(outcome)
            if outcome.verdict is not Verdict.DONE or self.doubt.minds:
                outcome = self.doubt.weigh(claim.stem, ticket, outcome)
            if request is None and (breaker.in_a_row or outcome.verdict is not Verdict.DONE):
                breaker.learn(claim.stem, trip, outcome)
            finished = FinishedAttempt(
                claim, outcome, handled - began, entry, committed, claimed, handled
            )
            report = self.settlement.settle(finished, proof)
            keep = report.result is AttemptEnd.KEPT
            if (ended := _HANDLED if report is DONE else _ended(report, outcome)) is not None:
                now = time.monotonic()
                self.counters.add(
                    ended, now, (claimed - due, handled - began, now - handled), outcome.reason
                )
            claim.gone = report.result is AttemptEnd.DONE and not entry.lent
            if report.result is not AttemptEnd.DONE:
                spool.ledger.let_go(number)  # the file may still be there, and is no longer in hand
            return report  # noqa: TRY300 - `finally` needs `keep`
        except (OSError, WatcherError) as error:
            why = f"{display(claim.name)}: {describe_error(error)}"
            return AttemptResult(AttemptEnd.STUCK, why)
        finally:
            del self.in_hand[id(entry)]
            entry.end()  # before the descriptors are closed: a handler may have kept the entry
            if not keep:
                claim.release()

    @staticmethod
    def abort_request(begun: Begun) -> AbortRequest | None:
        """Return the word of an operator that aborted this attempt, once; None if none did."""
        own, message = begun.claim.spool.process_dir, begun.claim.parts[0]
        return None if own is None else abort_request.take(own.fd, message.ino, message.ctime_ns)

    def let_go(self, begun: Begun) -> None:
        """Give up what was begun, without a result: the entry stays where it is."""
        begun.claim.spool.ledger.let_go(begun.number)
        del self.in_hand[id(begun.entry)]
        begun.entry.end()
        begun.claim.release()


def preview(
    spool: Spool, name: bytes, terms: ClaimOptions, held: Mapping[tuple[int, int], int]
) -> AttemptResult:
    """Return the result that a sweep's attempt would have; change nothing.

    DONE means that the handler would be called. `held` has the process of each claimed file
    (`claim.holders`).
    """
    terms = terms._replace(lock=False)
    if is_deferred(name):
        claim = take_deferred(spool, name, terms)
    else:
        claim = take(spool, name, Proof.NONE, terms)
    if isinstance(claim, NotClaimed):
        return _report(claim)
    try:
        if (pinned := claim.pinned()) is not None:
            return AttemptResult(AttemptEnd.PINNED, pinned.why)
        for part in claim.parts:
            if pid := held.get((spool.identity[0], part.ino)):
                return AttemptResult(AttemptEnd.BUSY, f"claimed by process {pid}")
        if claim.action is Action.ORPHAN:
            return AttemptResult(AttemptEnd.ORPHANED, claim.why, None, Shape.HALF)
        entry = Entry(
            queue="",
            name=claim.stem,
            directory=b"",
            parts=claim.parts,
            form=claim.form,
            limit=terms.max_size,
        )
        if _too_large(claim, entry):
            return AttemptResult(AttemptEnd.REJECTED, entry.damage or "")
        _ = entry.metadata
    except Undecodable as error:
        return AttemptResult(AttemptEnd.REJECTED, str(error))
    except OSError as error:
        return AttemptResult(AttemptEnd.ERROR, f"{display(name)}: {describe_error(error)}")
    finally:
        claim.release()
    return AttemptResult(AttemptEnd.DONE, claim.why)


def _ended(report: AttemptResult, outcome: HandlerResult) -> Ended | None:
    """Return how an attempt that did not end well is counted; None: the handler did not fail."""
    match report.result:
        case AttemptEnd.DEFERRED | AttemptEnd.RETRY:
            return Ended.FAILED
        case AttemptEnd.REJECTED:
            return Ended.REJECTED if outcome.verdict is Verdict.REJECT else Ended.FAILED
        case _:
            return None


def _report(refused: NotClaimed) -> AttemptResult:
    refusal, why, wait, shape, proof, renamed = refused
    return AttemptResult(AttemptEnd(refusal.value), why, wait, shape, proof=proof, renamed=renamed)


def _committed(claim: Claim) -> float:
    """Return when the writer committed a claimed entry, in seconds since the epoch."""
    schedule, known = claim.schedule, committed_ns(claim.spool, claim.parts)
    if known is None and schedule is not None:  # no note says it: since the first failure at least
        return schedule.due_ms / 1000 - schedule.waited - schedule.delay
    return (known or 0) / SECOND


def _too_large(claim: Claim, entry: Entry) -> HandlerResult | None:
    """Reject an entry that is too large, before it is read or hashed."""
    largest = claim.terms.largest
    for part in claim.parts:
        if largest is not None and part.size > largest:
            entry.damage = too_large(part.size, largest)
            return HandlerResult(Verdict.REJECT, entry.damage, ran=False)
    return None
