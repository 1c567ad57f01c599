"""One sweep by hand: the daemon's scan and the daemon's attempts, once, in the order of commit.

Guarantees: the same rules and claims as the daemon's, so it is safe beside any number of daemons
and sweeps; memory for one batch; a dry run opens files to read and asks for leases, and changes
nothing.
Fails: NoSuch, NotPermitted or Unavailable for the directory; never for an entry.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from watcher.age import Clock, SystemClock
from watcher.arrive.deferred import names_in, overdue
from watcher.arrive.scan import BATCH, MANY, START, Bystander, Mark, name_in, scan, unpacked
from watcher.attempt import Attempt, preview
from watcher.claim.holders import holders
from watcher.claim.take import Terms
from watcher.errors import NotPermitted
from watcher.evidence import How
from watcher.handle.outcome import Handler
from watcher.lifecycle import State
from watcher.recovery import recover
from watcher.report import Listener, Patience, Report, Result
from watcher.settle.policy import Policy
from watcher.settlement import Settlement
from watcher.spool.journal import FLUSH_AFTER
from watcher.spool.layout import DEFERRED, Kind, display
from watcher.spool.schedule import parse
from watcher.spool.spool import Spool

PATIENCE = 3.0  # seconds in all that a sweep waits for a disk that refuses


class Limits(NamedTuple):
    """When to stop early: seconds from the start, and entries handed to the handler."""

    seconds: float | None = None
    entries: int | None = None


@dataclass(slots=True)
class Summary:
    """What a sweep found and what became of it."""

    counts: dict[Result, int] = field(default_factory=dict)
    bystanders: dict[Kind, int] = field(default_factory=dict)
    found: int = 0
    waiting: int = 0  # deferred, and not due yet
    complete: bool = True  # False when a limit ended the sweep early
    seconds: float = 0.0

    def count(self, result: Result) -> int:
        """Return how many entries ended so."""
        return self.counts.get(result, 0)


class Line(NamedTuple):
    """One entry of a sweep: its message's file, and what became (or would become) of it."""

    name: bytes
    report: Report


_HANDED = (
    Result.DONE,
    Result.RETRY,
    Result.DEFERRED,
    Result.REJECTED,
    Result.MISCONFIGURED,
)


class Orders(NamedTuple):
    """What to sweep for: the queue's name, and on what terms its entries are taken and retried."""

    queue: str
    terms: Terms
    policy: Policy
    clock: Clock = SystemClock()


class Sweep:
    """A sweep of one directory. Iterate over `lines`; then `summary` is complete."""

    def __init__(
        self, spool: Spool, orders: Orders, handler: Handler | None, limits: Limits
    ) -> None:
        self.spool = spool
        self.summary = Summary()
        self.bystanders: list[Bystander] = []
        self._orders = orders
        self._handler = handler
        self._limits = limits
        self._began = time.monotonic()
        self._handed = 0

    def lines(self, listen: Listener) -> Iterator[Line]:
        """Sweep; yield what became of each entry. With no handler, what would become of it."""
        attempt = self._preview() if self._handler is None else self._attempt(self._handler, listen)
        due = self._due()  # before the sweep defers others
        yield from self._in_the_queue(attempt)
        for name in due:
            if self._over():
                self.summary.complete = False
                break
            yield from self._one(name, attempt)
        self.summary.seconds = time.monotonic() - self._began

    def _in_the_queue(self, attempt: Callable[[bytes], Report]) -> Iterator[Line]:
        mark: Mark | None = START
        layout = self.spool.layout
        by_name = not layout.legacy and not layout.raw
        while mark is not None:
            batch = scan(self.spool, mark, limit=MANY if by_name else BATCH, by_name=by_name)
            if mark == START:
                self.bystanders, self.summary.bystanders = batch.bystanders, batch.counts
                for item in batch.bystanders:
                    if item.links > 1:  # it may be a move of ours that was cut short
                        attempt(item.name)
            for found in batch.packed:
                if self._over():
                    self.summary.complete = False
                    return
                yield from self._one(name_in(found), attempt)
            mark = unpacked(batch.packed[-1]) if batch.more else None

    def _due(self) -> list[bytes]:
        """Return the deferred entries that are due, the longest due first."""
        directory = self.spool.peek(State.DEFERRED)
        if directory is None:
            return []
        now_ms = self._orders.clock.real() // 1_000_000
        due: list[bytes] = []
        for name in names_in(directory, self.spool.layout):
            found = parse(name)
            if found is not None and overdue(found[0], now_ms):
                due.append(DEFERRED + name)
            else:
                self.summary.waiting += 1
        return sorted(due)

    @property
    def handed(self) -> int:
        """How many entries went to the handler."""
        return self._handed

    def end_early(self) -> None:
        """Begin no other entry."""
        self._limits = Limits(0.0, 0)

    def _one(self, name: bytes, attempt: Callable[[bytes], Report]) -> Iterator[Line]:
        report = attempt(name)
        if report.result is Result.REUNITED:
            report = attempt(name)  # it is a pair now, and rules as one
        self.spool.journal.flush(FLUSH_AFTER)
        if report.result is Result.GONE:
            return  # another took it, or the other half's name stands for both
        self.summary.found += 1
        self.summary.counts[report.result] = self.summary.count(report.result) + 1
        if report.result in _HANDED:
            self._handed += 1
        yield Line(name, report)
        if report.result is Result.MISCONFIGURED:
            self.end_early()  # every other entry would fare the same

    def _over(self) -> bool:
        seconds, entries = self._limits
        late = seconds is not None and time.monotonic() - self._began >= seconds
        return late or (entries is not None and self._handed >= entries)

    def _attempt(self, handler: Handler, listen: Listener) -> Callable[[bytes], Report]:
        if not self.spool.writable():
            raise NotPermitted(
                f"{display(self.spool.path)}: not writable for us, so that entries could not"
                " be removed when done; check its owner and mode"
            )
        deadline = time.monotonic() + PATIENCE

        def pause(seconds: float) -> bool:
            time.sleep(seconds)
            return time.monotonic() < deadline

        patience = Patience(pause, lambda _text: None)
        queue, terms, policy, clock = self._orders
        settlement = Settlement(queue, terms, policy, clock, listen, patience)
        recover(self.spool, settlement)
        attempt = Attempt(handler, settlement)
        return lambda name: attempt(self.spool, name, How.SWEEP)

    def _preview(self) -> Callable[[bytes], Report]:
        held = holders()
        return lambda name: preview(self.spool, name, self._orders.terms, held)
