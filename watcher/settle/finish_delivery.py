"""Finish an attempt at a copy of a message: the message is ended first, then the copy is removed.

`watcher work` handles copies of messages of a stream, which lie in a directory of its own. Where a
queue removes, defers or puts away an entry, this tells the server so, and removes the copy.

Guarantees: as `Finisher`, with the server in place of the disk: a message is acknowledged only
after "done", and what a next attempt needs is stored before the message is given back.
Fails: as `Finisher`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Protocol

from watcher.rules.lifecycle import Move, State
from watcher.rules.results import DONE, AttemptEnd, AttemptResult, HandlerResult, Verdict
from watcher.rules.stamp import Schedule
from watcher.settle.finish import FinishedAttempt, Finisher
from watcher.spool.claimed import Claim


class Messages(Protocol):
    """Where the messages are whose copies are handled; `name` is that of a copy."""

    def done(self, name: bytes) -> None:
        """Acknowledge a message; returns once the server has confirmed it. Raises TryAgain."""

    def done_together(self, names: Sequence[bytes]) -> None:
        """Acknowledge messages with one wait; `done` sees to those that were not confirmed."""

    def retry(
        self, name: bytes, schedule: Schedule, remembered: Mapping[str, object] | None
    ) -> None:
        """Give a message back for its next attempt; raises TryAgain."""

    def reject(self, name: bytes, why: str, facts: Mapping[str, object]) -> None:
        """Move a message to the dead letters; raises TryAgain."""


class MessageFinisher(Finisher):
    """Ends attempts at copies of messages."""

    messages: Messages  # set before the first attempt

    def settling(self, results: Sequence[tuple[Claim, HandlerResult]]) -> None:
        """Acknowledge what a batch has done: one wait for the server, and not one for each."""
        names = [
            claim.name
            for claim, outcome in results
            if outcome.verdict is Verdict.DONE and outcome.move_to is None
        ]
        if len(names) > 1:
            self.messages.done_together(names)

    def end_done(self, finished: FinishedAttempt) -> AttemptResult:
        """Acknowledge the message, and remove its copy."""
        outcome, name = finished.outcome, finished.claim.name
        if outcome.move_to is not None and not outcome.copied:
            report = super().end_done(finished)
            if report.result is AttemptEnd.DONE:  # now the copy is where it belongs, and is safe
                self.messages.done(name)
            return report
        self.messages.done(name)
        self._remove_copy(finished.claim)
        self.emit(finished.claim, State.CLAIMED, Move.FINISH, outcome.reason, finished)
        return DONE

    def end_rejected(self, finished: FinishedAttempt, why: str) -> AttemptResult:
        """Move the message to the dead letters, and remove its copy."""
        claim = finished.claim
        facts = self.facts(finished)
        self.record(claim, State.CLAIMED, Move.REJECT, why)
        self.messages.reject(claim.name, why, facts)
        self._remove_copy(claim)
        self.emit(claim, State.CLAIMED, Move.REJECT, why, finished)
        return AttemptResult(AttemptEnd.REJECTED, why)

    def end_deferred(self, finished: FinishedAttempt, schedule: Schedule) -> AttemptResult:
        """Give the message back until its next attempt, and remove its copy."""
        claim, reason = finished.claim, finished.outcome.reason
        self.messages.retry(claim.name, schedule, finished.outcome.remembered)
        self._remove_copy(claim)
        self.emit_deferred(finished, schedule)
        return AttemptResult(AttemptEnd.DEFERRED, reason, schedule.delay)

    @staticmethod
    def _remove_copy(claim: Claim) -> None:
        """Remove a copy, also one that its handler wrote to or replaced: the message is over."""
        with contextlib.suppress(FileNotFoundError):
            claim.spool.disk.unlink(claim.parts[0].name, claim.spool.fd)
