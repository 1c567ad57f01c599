"""An attempt at the copy of a message: what the message says is told to the handler.

Guarantees: as `Attempt`. A file that is no copy of a message is never handled, and no copy that is
withdrawn is begun. However an attempt ends, the next message of its name has its turn once the
first one is over.
Fails: as `Attempt`.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from watcher.attempt import Attempt, Begun
from watcher.daemon.message_copies import Copies
from watcher.errors import WatcherError
from watcher.jetstream.delivered import Delivery
from watcher.jetstream.deliveries import Deliveries
from watcher.rules.evidence import Proof
from watcher.rules.names import display
from watcher.rules.results import AttemptEnd, AttemptResult, HandlerResult, Renamed
from watcher.rules.stamp import Schedule
from watcher.spool.abort_request import AbortRequest
from watcher.spool.spool import Spool

NO_COPY = "no copy of a message: files are not put here by hand"


class MessageAttempt(Attempt):
    """Attempts at copies of messages."""

    copies: Copies  # these are set before the first attempt
    deliveries: Deliveries
    give_up_copy: Callable[[Delivery], None]  # of a message whose copy cannot be written
    on_gone: Callable[[], None]  # a copy is gone before its attempt

    def begin(  # noqa: D102 - as `Attempt.begin`
        self,
        spool: Spool,
        name: bytes,
        proof: Proof,
        event_time_ns: int = 0,
        renamed: Renamed | None = None,
        number: int = 0,
    ) -> Begun | AttemptResult:
        delivery = self.copies.begin(name)  # first: from now on it is not withdrawn
        if delivery is None:
            if spool.stat_at(name) is None:
                return AttemptResult(AttemptEnd.GONE)
            return AttemptResult(AttemptEnd.PINNED, f"{display(name)}: {NO_COPY}")
        begun: Begun | AttemptResult | None = None
        try:
            begun = super().begin(spool, name, proof, event_time_ns, renamed, number)
        finally:
            if not isinstance(begun, Begun):
                self._end(name)
        if not isinstance(begun, Begun):
            if begun.result is AttemptEnd.GONE:
                self.on_gone()
            return begun
        try:
            self._describe(begun, delivery)
        except WatcherError as error:
            self.let_go(begun)
            return AttemptResult(AttemptEnd.STUCK, f"{display(name)}: {error}")
        return begun

    def _describe(self, begun: Begun, delivery: Delivery) -> None:
        """Say what the message is; raise WatcherError if its attempt may not begin."""
        self.deliveries.begin(delivery)
        record = delivery.record
        if record.attempts:
            begun.claim.schedule = Schedule(
                record.due_ms or record.first_ms,
                record.attempts,
                record.crashes,
                waited=record.waited(time.time_ns() // 1_000_000),
            )
        begun.entry.describe(
            queue=delivery.queue or self.settlement.queue,
            key=delivery.key(self.deliveries.stream),
            metadata=delivery.metadata,
            attempt=record.attempts + 1,
            crashes=record.crashes,
            remembered=dict(record.remembered),
        )

    def let_go(self, begun: Begun) -> None:
        """Give up what was begun, without a result: it may be withdrawn."""
        super().let_go(begun)
        self._end(begun.claim.name)

    def settle(
        self, begun: Begun, outcome: HandlerResult, request: AbortRequest | None = None
    ) -> AttemptResult:
        """End an attempt; then the next message of the name has its turn."""
        try:
            return super().settle(begun, outcome, request)
        finally:
            self._end(begun.claim.name)

    def _end(self, name: bytes) -> None:
        for delivery in self.copies.let_go(name):
            self.give_up_copy(delivery)
