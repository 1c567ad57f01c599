"""One attempt at one entry: claim it, hand it to the handler, settle it. Stages 2 to 4 in a row.

The same code serves the daemon's workers and the sweep by hand.
Guarantees: the handler runs only under a claim, only on a complete entry, and only after the ledger
says so; the files go only after its word "done"; nothing that an entry holds or a handler does
raises out of `attempt`.
Fails: as `Settlement`; the report is then STUCK.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from watcher.claim import ledger
from watcher.claim.deferred import take_deferred
from watcher.claim.take import Claim, Refusal, Refused, Terms, take
from watcher.entry import Entry
from watcher.errors import Undecodable, WatcherError
from watcher.evidence import Action, How, Shape
from watcher.handle.outcome import Handler
from watcher.lifecycle import Move, State, Transition, after
from watcher.report import Report, Result
from watcher.settle import halfway, settle
from watcher.settlement import Finished, Settlement, path_of, told
from watcher.spool.layout import DEFERRED, Kind, display
from watcher.spool.schedule import parse
from watcher.spool.spool import Spool


class Attempt:
    """Attempts at the entries of one queue."""

    def __init__(self, handler: Handler, settlement: Settlement) -> None:
        self.handler = handler
        self.settlement = settlement

    def __call__(self, spool: Spool, name: bytes, how: How, heard: int = 0) -> Report:
        """Make one attempt at a name in the queue, or (deferred/STAMP-NAME) in deferred/.

        `heard` as in `take`.
        """
        terms = self.settlement.terms
        if name.startswith(DEFERRED):
            claim = take_deferred(spool, name, terms)
        else:
            claim = take(spool, name, how, terms, heard)
        try:
            if isinstance(claim, Refused):
                return self._refused(spool, name, claim, heard)
            if claim.action is Action.ORPHAN:
                return self._abandon(claim)
            return self._work(claim, how)
        except (OSError, WatcherError) as error:
            return Report(Result.STUCK, f"{display(name)}: {told(error)}")
        finally:
            if isinstance(claim, Claim):
                claim.release()

    def _refused(self, spool: Spool, name: bytes, refused: Refused, heard: int) -> Report:
        report = Report(Result(refused.refusal.value), refused.why, refused.wait, refused.shape)
        if name.startswith(DEFERRED):
            if refused.shape is Shape.HALF and self._catch_up(spool, name):
                return Report(Result.REUNITED, "its .db came after it")
            file = name.removeprefix(DEFERRED)
            if refused.refusal is Refusal.FOREIGN and halfway.finish_move(
                spool, file, State.DEFERRED
            ):
                return Report(Result.FOLLOWED, "a move that was cut short is complete")
            return report
        if refused.shape is Shape.HALF and (other := self._reunite(spool, name)):
            return Report(Result.REUNITED, other)
        if refused.refusal is Refusal.FOREIGN and halfway.finish_move(spool, name):
            return Report(Result.FOLLOWED, "a move that was cut short is complete")
        if refused.refusal is Refusal.GONE and spool.layout.kind(name) is Kind.ENTRY:
            # By our own hand or another daemon's, which the journal knows, or by a stranger's.
            # When it was heard of tells it from a namesake that had gone its way long before.
            when = f"heard of at {heard / 1e9:.6f}" if heard else ""
            spool.journal.record(State.READY, "vanish", 0, name, when)
        return report

    @staticmethod
    def _catch_up(spool: Spool, name: bytes) -> bool:
        """Bring the `.db` of a deferred message after it, if it stayed behind."""
        file = name.removeprefix(DEFERRED)
        found = parse(file)
        if found is None:
            return False
        return halfway.catch_up(spool, file, found[1].rpartition(b".")[0] + b".db")

    def _reunite(self, spool: Spool, name: bytes) -> str:
        other = halfway.reunite(spool, name)
        if other is None:
            return ""
        stem = spool.layout.stem(name)
        state = after(State.ORPHAN, Move.REUNITE)
        shown = display(other)
        self.settlement.listen(
            Transition(self.settlement.queue, stem, Move.REUNITE, state, f"{shown} came back")
        )
        return shown

    def _abandon(self, claim: Claim) -> Report:
        """Half of a pair whose writer is gone: see that it is not half of something of ours."""
        if claim.schedule is not None:
            if self._catch_up(claim.spool, claim.name):
                return Report(Result.REUNITED, "its .db came after it")
        elif other := self._reunite(claim.spool, claim.name):
            return Report(Result.REUNITED, other)
        if moved := halfway.follow(claim.spool, claim.parts[0]):
            return Report(Result.FOLLOWED, display(moved))
        return self.settlement.abandon(claim)

    def _work(self, claim: Claim, how: How) -> Report:
        spool = claim.spool
        entry = _entry(claim, self.settlement.queue, self.settlement.terms)
        if spool.own < 0:
            settle.usable(spool)  # or the work would be done again and again
        ledger.of(spool).take(spool, claim.parts[0])
        self.settlement.tell(claim, State.READY, Move.CLAIM, claim.why)
        began = time.monotonic()
        outcome = self.handler.run(entry)
        finished = Finished(claim, outcome, time.monotonic() - began, entry)
        report = self.settlement.settle(finished, how)
        if report.result is not Result.DONE:  # it may still be there, and no longer in hand
            ledger.of(spool).let_go()
        return report


def preview(spool: Spool, name: bytes, terms: Terms, held: Mapping[tuple[int, int], int]) -> Report:
    """Say what a sweep's attempt would come to, and change nothing.

    DONE stands for "to the handler". `held` is who has which file claimed (`claim.holders`).
    """
    terms = terms._replace(lock=False)
    if name.startswith(DEFERRED):
        claim = take_deferred(spool, name, terms)
    else:
        claim = take(spool, name, How.SWEEP, terms)
    if isinstance(claim, Refused):
        return Report(Result(claim.refusal.value), claim.why, claim.wait, claim.shape)
    try:
        for part in claim.parts:
            if pid := held.get((spool.identity[0], part.ino)):
                return Report(Result.BUSY, f"claimed by process {pid}")
        if claim.action is Action.ORPHAN:
            return Report(Result.ORPHANED, claim.why, None, Shape.HALF)
        if claim.kind != "raw":
            _ = _entry(claim, "", terms).metadata
    except Undecodable as error:
        return Report(Result.REJECTED, str(error))
    except OSError as error:
        return Report(Result.ERROR, f"{display(name)}: {told(error)}")
    finally:
        claim.release()
    return Report(Result.DONE, claim.why)


def _entry(claim: Claim, queue: str, terms: Terms) -> Entry:
    entry = Entry(
        queue=queue,
        name=claim.stem,
        directory=path_of(claim.spool, claim),
        parts=claim.parts,
        kind=claim.kind,
        limit=terms.max_size,
    )
    if claim.schedule is not None:
        entry.attempt, entry.crashes = claim.schedule.attempts + 1, claim.schedule.crashes
    return entry
