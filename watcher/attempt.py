"""One attempt at one entry: claim it, hand it to the handler, settle it. Stages 2 to 4 in a row.

The same code serves the daemon's workers and the sweep by hand.
Guarantees: the handler runs only under a claim and only on a complete entry; the files go only
after its word "done"; nothing that an entry holds or a handler does raises out of `attempt`.
Fails: while the disk refuses to settle an entry, the claim is kept and the settling (not the
handler) is tried again at growing intervals for as long as `Patience.pause` allows, so that nobody
does the work twice meanwhile; then the report is STUCK.
"""

from __future__ import annotations

import enum
import itertools
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from watcher.claim.take import Claim, Refusal, Refused, Terms, take
from watcher.entry import Entry
from watcher.errors import Undecodable, WatcherError
from watcher.evidence import Action, How, Shape
from watcher.handle.outcome import Handler, Outcome, Verdict
from watcher.lifecycle import Move, State, Transition, after
from watcher.settle import halfway, settle
from watcher.settle.backoff import delay
from watcher.spool.layout import display
from watcher.spool.spool import Spool


class Result(enum.Enum):
    """How an attempt ended."""

    DONE = "done"
    RETRY = "left for a later try"
    REJECTED = "moved to dead/"
    ORPHANED = "moved to orphans/"
    REUNITED = "reunited with its other half"
    FOLLOWED = "moved after its message"
    MISCONFIGURED = "the handler cannot be run"
    STUCK = "the disk refuses"
    GONE = Refusal.GONE.value
    BUSY = Refusal.BUSY.value
    YOUNG = Refusal.YOUNG.value
    WRITER = Refusal.WRITER.value
    FOREIGN = Refusal.FOREIGN.value
    ERROR = Refusal.ERROR.value


class Report(NamedTuple):
    """What became of an entry, why, and in how many seconds to look again."""

    result: Result
    why: str = ""
    wait: float | None = None
    shape: Shape = Shape.WHOLE


Listener = Callable[[Transition], None]


class Patience(NamedTuple):
    """What to do while the disk refuses.

    `pause` waits so many seconds and says whether to go on; `trouble` is told what is wrong, and
    None when it is over.
    """

    pause: Callable[[float], bool]
    trouble: Callable[[str | None], None]


class Attempt:
    """Attempts at the entries of one queue."""

    def __init__(
        self, queue: str, handler: Handler, terms: Terms, listen: Listener, patience: Patience
    ) -> None:
        self.queue = queue
        self.handler = handler
        self.terms = terms
        self.listen = listen
        self.patience = patience

    def __call__(
        self, spool: Spool, name: bytes, how: How, number: int = 1, heard: int = 0
    ) -> Report:
        """Make one attempt. `number` is 1 for the first; `heard` as in `take`."""
        claim = take(spool, name, how, self.terms, heard)
        try:
            if isinstance(claim, Refused):
                return self._refused(spool, name, claim)
            if claim.action is Action.ORPHAN:
                return self._abandon(claim)
            return self._work(claim, how, number)
        except (OSError, WatcherError) as error:
            return Report(Result.STUCK, f"{display(name)}: {told(error)}")
        finally:
            if isinstance(claim, Claim):
                claim.release()

    def _refused(self, spool: Spool, name: bytes, refused: Refused) -> Report:
        if refused.shape is Shape.HALF and (other := self._reunite(spool, name)):
            return Report(Result.REUNITED, other)
        if refused.refusal is Refusal.FOREIGN and halfway.finish_move(spool, name):
            return Report(Result.FOLLOWED, "a move that was cut short is complete")
        return Report(Result(refused.refusal.value), refused.why, refused.wait, refused.shape)

    def _reunite(self, spool: Spool, name: bytes) -> str:
        other = halfway.reunite(spool, name)
        if other is None:
            return ""
        self.tell(spool, name, State.ORPHAN, Move.REUNITE, f"{display(other)} came back")
        return display(other)

    def _abandon(self, claim: Claim) -> Report:
        """Half of a pair whose writer is gone: see that it is not half of something of ours."""
        spool, name = claim.spool, claim.name
        if other := self._reunite(spool, name):
            return Report(Result.REUNITED, other)
        if moved := halfway.follow(spool, claim.parts[0]):
            return Report(Result.FOLLOWED, display(moved))
        facts = {"queue": self.queue}
        self._insist(lambda: settle.put_away(spool, State.ORPHAN, claim.parts, claim.why, facts))
        self.tell(spool, name, State.ARRIVING, Move.ABANDON, claim.why)
        return Report(Result.ORPHANED, claim.why)

    def _work(self, claim: Claim, how: How, number: int) -> Report:
        spool, name = claim.spool, claim.name
        entry = _entry(claim, self.queue, self.terms, number)
        settle.usable(spool)  # or the work would be done again and again
        self.tell(spool, name, State.READY, Move.CLAIM, claim.why)
        began = time.monotonic()
        outcome = self.handler.run(entry)
        return self._settle(claim, how, entry, outcome, time.monotonic() - began)

    def _settle(
        self, claim: Claim, how: How, entry: Entry, outcome: Outcome, seconds: float
    ) -> Report:
        spool, name = claim.spool, claim.name
        if outcome.verdict is Verdict.DONE and claim.changed():
            why = "written to while it was handled: a new entry, when it is of age"
            self.tell(spool, name, State.CLAIMED, Move.RELEASE, why, seconds)
            return Report(Result.YOUNG, why, self.terms.grace)
        if outcome.verdict is Verdict.DONE:
            self._insist(lambda: settle.remove(spool, claim.parts))
            self.tell(spool, name, State.CLAIMED, Move.FINISH, outcome.reason, seconds)
            return Report(Result.DONE)
        if outcome.verdict is Verdict.REJECT:
            if entry.damage is not None and how is not How.RENAMED:
                young = self.terms.grace - claim.age()
                if young > 0:  # it may not be damaged but unfinished: its rename was not seen
                    self.tell(spool, name, State.CLAIMED, Move.RELEASE, entry.damage, seconds)
                    return Report(
                        Result.YOUNG, f"{entry.damage}; younger than the grace age", young
                    )
            facts = _facts(self.queue, entry, outcome)
            reason = outcome.reason
            self._insist(lambda: settle.put_away(spool, State.DEAD, claim.parts, reason, facts))
            self.tell(spool, name, State.CLAIMED, Move.REJECT, outcome.reason, seconds)
            return Report(Result.REJECTED, outcome.reason)
        self.tell(spool, name, State.CLAIMED, Move.RELEASE, outcome.reason, seconds)
        if outcome.verdict is Verdict.MISCONFIGURED:
            return Report(Result.MISCONFIGURED, outcome.reason)
        return Report(Result.RETRY, outcome.reason, outcome.after)

    def _insist(self, step: Callable[[], object]) -> None:
        """Take a settling step, again and again while the disk refuses, with the claim held."""
        for tried in itertools.count(1):
            try:
                step()
            except (OSError, WatcherError) as error:
                self.patience.trouble(told(error))
                if not self.patience.pause(delay(tried)):
                    raise
            else:
                if tried > 1:
                    self.patience.trouble(None)
                return

    def tell(
        self,
        spool: Spool,
        name: bytes,
        state: State,
        move: Move,
        detail: str = "",
        seconds: float = 0.0,
    ) -> None:
        """Tell the listener of a transition, by the life cycle's table."""
        self.listen(
            Transition(
                self.queue, spool.layout.stem(name), move, after(state, move), detail, seconds
            )
        )


def _facts(queue: str, entry: Entry, outcome: Outcome) -> dict[str, object]:
    """Gather what is known of a failed attempt, for the note beside the entry."""
    return {
        "queue": queue,
        "attempts": entry.attempt,
        "exit_status": outcome.exit_status,
        "stderr": outcome.stderr,
    }


def told(error: OSError | WatcherError) -> str:
    """Say in one line what went wrong."""
    if isinstance(error, OSError):
        return f"{error.strerror or error} (errno {error.errno})"
    return str(error)


def preview(spool: Spool, name: bytes, terms: Terms, held: Mapping[tuple[int, int], int]) -> Report:
    """Say what a sweep's attempt would come to, and change nothing.

    DONE stands for "to the handler". `held` is who has which file claimed (`claim.holders`).
    """
    claim = take(spool, name, How.SWEEP, terms._replace(lock=False))
    if isinstance(claim, Refused):
        return Report(Result(claim.refusal.value), claim.why, claim.wait, claim.shape)
    try:
        for part in claim.parts:
            if pid := held.get((spool.identity[0], part.ino)):
                return Report(Result.BUSY, f"claimed by process {pid}")
        if claim.action is Action.ORPHAN:
            return Report(Result.ORPHANED, claim.why, None, Shape.HALF)
        if claim.kind != "raw":
            _ = _entry(claim, "", terms, 1).metadata
    except Undecodable as error:
        return Report(Result.REJECTED, str(error))
    except OSError as error:
        return Report(Result.ERROR, f"{display(name)}: {told(error)}")
    finally:
        claim.release()
    return Report(Result.DONE, claim.why)


def _entry(claim: Claim, queue: str, terms: Terms, number: int) -> Entry:
    return Entry(
        queue=queue,
        name=claim.spool.layout.stem(claim.name),
        directory=claim.spool.path,
        parts=claim.parts,
        kind=claim.kind,
        attempt=number,
        limit=terms.max_size,
    )
