"""One sweep by hand: one scan and one attempt at each entry, in the order of commit.

Guarantees: the rules and claims are the daemon's, so a sweep is safe beside any number of daemons
and sweeps. It needs memory for one batch. A dry run opens files for reading and asks for leases; it
changes nothing.
Fails: NoSuch, NotPermitted or Unavailable for the directory; never for an entry.
"""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from watcher.arrive.scan import (
    BATCH,
    MANY,
    START,
    Bystander,
    ScanPosition,
    deferred_names,
    name_in,
    scan,
    unpacked,
)
from watcher.attempt import Attempt, Begun, preview
from watcher.batch import Batch, most_in_batch
from watcher.claim.holders import holders
from watcher.claim.passing import holder
from watcher.errors import NotPermitted, Unavailable
from watcher.handle.batch_handler import BatchHandler
from watcher.handle.handler import Handler
from watcher.recovery import recover
from watcher.rules.age import Clock, SystemClock
from watcher.rules.doubt import Doubt
from watcher.rules.evidence import Proof
from watcher.rules.kinds import Kind
from watcher.rules.lifecycle import State
from watcher.rules.names import display, in_deferred
from watcher.rules.results import AttemptEnd, AttemptResult
from watcher.rules.retry import Policy
from watcher.rules.stamp import overdue, parse
from watcher.settle.finish import Finisher, Listener
from watcher.settle.refused import DiskRetry, describe_error
from watcher.settle.retention import Retention
from watcher.spool import inode_numbers
from watcher.spool.claimed import ClaimOptions
from watcher.spool.journal import FLUSH_AFTER
from watcher.spool.spool import Spool

PATIENCE = 3.0  # seconds: how long a sweep waits in all for a disk that refuses


class Limits(NamedTuple):
    """When to end early: after so many seconds, or so many entries given to the handler."""

    seconds: float | None = None
    entries: int | None = None


@dataclass(slots=True)
class Summary:
    """What a sweep found, and what became of the entries."""

    counts: dict[AttemptEnd, int] = field(default_factory=dict)
    bystanders: dict[Kind, int] = field(default_factory=dict)
    found: int = 0
    waiting: int = 0  # deferred, and not due yet
    complete: bool = True  # False: a limit or a signal ended the sweep early
    seconds: float = 0.0

    def count(self, result: AttemptEnd) -> int:
        """Return how many entries ended with this result."""
        return self.counts.get(result, 0)


class Line(NamedTuple):
    """One entry of a sweep: its file, and what became (in a dry run: would become) of it."""

    name: bytes
    report: AttemptResult


_HANDED = (
    AttemptEnd.DONE,
    AttemptEnd.RETRY,
    AttemptEnd.DEFERRED,
    AttemptEnd.REJECTED,
    AttemptEnd.MISCONFIGURED,
)


class SweepOptions(NamedTuple):
    """The queue's name, and how its entries are claimed and retried."""

    queue: str
    terms: ClaimOptions
    policy: Policy
    clock: Clock = SystemClock()


class Sweep:
    """A sweep of one directory. Iterate over `lines`; then `summary` is complete."""

    def __init__(
        self, spool: Spool, orders: SweepOptions, handler: Handler | None, limits: Limits
    ) -> None:
        self.spool = spool
        self.summary = Summary()
        self.bystanders: list[Bystander] = []
        self._orders = orders
        self._handler = handler
        self._limits = limits
        self._began = time.monotonic()
        self._handed = 0
        self._ended = False  # `end_early` was called: no other call of a split batch begins
        self._batches: tuple[Attempt, BatchHandler] | None = None
        self._doubt = Doubt()
        self._suspects: list[Line] = []  # failed with MISCONFIGURED; at most `EAGER` of `Doubt`

    def lines(self, listen: Listener) -> Iterator[Line]:
        """Sweep; yield a line for each entry. Without a handler, this is a dry run."""
        attempt = self._preview() if self._handler is None else self._attempt(self._handler, listen)
        due = self._due()  # listed first: the sweep will defer other entries
        yield from self._in_the_queue(attempt)
        yield from self._each(due, attempt)
        for line in self._suspects:
            yield self._counted(line)
        self.summary.seconds = time.monotonic() - self._began

    def _in_the_queue(self, attempt: Callable[[bytes], AttemptResult]) -> Iterator[Line]:
        mark: ScanPosition | None = START
        layout = self.spool.layout
        by_name = not layout.legacy and not layout.raw
        while mark is not None:
            batch = scan(self.spool, mark, limit=MANY if by_name else BATCH, by_name=by_name)
            if mark == START:
                self.bystanders, self.summary.bystanders = batch.bystanders, batch.counts
                for item in batch.bystanders:
                    if (
                        item.links > 1
                    ):  # it may be an interrupted move of watcher: link without unlink
                        attempt(item.name)
            yield from self._each(map(name_in, batch.packed), attempt)
            if not self.summary.complete:
                return
            mark = unpacked(batch.packed[-1]) if batch.more else None

    def _each(
        self, names: Iterable[bytes], attempt: Callable[[bytes], AttemptResult]
    ) -> Iterator[Line]:
        """Attempt each entry, or each batch of them, until a limit is reached."""
        left = iter(names)
        while some := list(itertools.islice(left, self._most())):
            if self._over():
                self.summary.complete = False
                return
            if self._batches is None:
                yield from self._reported(some[0], self._settled(some[0], attempt), attempt)
                continue
            for name, report in self._together(some, *self._batches):
                yield from self._reported(name, report, attempt)

    def _most(self) -> int:
        """Return how many entries are attempted together: no more than the limit allows."""
        if self._batches is None:
            return 1
        most, entries = min(self._batches[1].most, most_in_batch(1)), self._limits.entries
        return most if entries is None else max(1, min(most, entries - self._handed))

    def _together(
        self, names: Sequence[bytes], attempt: Attempt, handler: BatchHandler
    ) -> list[Line]:
        """Attempt some entries in as few batches as they fit into."""
        lines: list[Line] = []

        def settled(begun: Begun, report: AttemptResult) -> None:
            lines.append(Line(begun.claim.name, report))

        batch = Batch(attempt, handler, settled, lambda: self._ended)
        try:
            for name in names:
                if batch.full():
                    batch.run()
                begin = functools.partial(
                    attempt.begin, self.spool, name, Proof.NONE, number=batch.number
                )
                found = begin()
                if isinstance(found, AttemptResult) and found.result is AttemptEnd.REUNITED:
                    found = begin()  # the pair is complete now
                if isinstance(found, Begun):
                    batch.add(found)
                else:
                    lines.append(Line(name, found))
            batch.run()
        finally:
            batch.let_go()
            self.spool.journal.flush(FLUSH_AFTER)
        return lines

    def _due(self) -> list[bytes]:
        """Return the deferred entries that are due, in the order of their due times."""
        directory = self.spool.state_dir(State.DEFERRED)
        if directory is None:
            return []
        now_ms = self._orders.clock.real() // 1_000_000
        due: list[bytes] = []
        for name in deferred_names(directory, self.spool.layout):
            found = parse(name)
            if found is not None and overdue(found[0], now_ms):
                due.append(in_deferred(name))
            else:
                self.summary.waiting += 1
        return sorted(due)

    @property
    def handed(self) -> int:
        """How many entries were given to the handler."""
        return self._handed

    def end_early(self) -> None:
        """Begin no other entry."""
        self._limits, self._ended = Limits(0.0, 0), True

    def _reported(
        self, name: bytes, report: AttemptResult, attempt: Callable[[bytes], AttemptResult]
    ) -> Iterator[Line]:
        if report.result is AttemptEnd.BUSY and self._handler is not None:
            report = report._replace(why=holder(self.spool, name))
        if report.result is AttemptEnd.GONE:
            return  # another process took it, or the pair is listed under its other file's name
        if report.result in _HANDED:
            self._handed += 1
        if report.result is AttemptEnd.MISCONFIGURED:
            self._suspects.append(Line(name, report))
            if not self._doubt.eager:
                self.end_early()  # the handler is broken: every other entry would fail too
            return
        yield self._counted(Line(name, report))
        if (
            self._suspects and not self._doubt.held
        ):  # the handler ran for another entry: these failures count
            suspects, self._suspects = self._suspects, []
            for line in suspects:
                yield self._counted(Line(line.name, self._settled(line.name, attempt)))

    def _settled(self, name: bytes, attempt: Callable[[bytes], AttemptResult]) -> AttemptResult:
        report = attempt(name)
        if report.result is AttemptEnd.REUNITED:
            report = attempt(name)  # the pair is complete now: attempt it
        self.spool.journal.flush(FLUSH_AFTER)
        return report

    def _counted(self, line: Line) -> Line:
        result = line.report.result
        self.summary.found += 1
        self.summary.counts[result] = self.summary.count(result) + 1
        return line

    def clear_archive(self) -> int:
        """Remove what is too old from the archive; return how many files.

        Raises Unavailable, or another WatcherError, if it cannot be listed.
        """
        retention = Retention(self._orders.clock)
        try:
            while not self._late() and retention.batch(self.spool):
                pass
        except OSError as error:
            raise Unavailable(f"{self.spool.archive}: {describe_error(error)}") from None
        return retention.removed

    def _late(self) -> bool:
        seconds = self._limits.seconds
        return seconds is not None and time.monotonic() - self._began >= seconds

    def _over(self) -> bool:
        entries = self._limits.entries
        return self._late() or (entries is not None and self._handed >= entries)

    def _attempt(self, handler: Handler, listen: Listener) -> Callable[[bytes], AttemptResult]:
        if not self.spool.writable():
            raise NotPermitted(
                f"{display(self.spool.path)}: not writable by this user, so entries could not"
                " be removed when done; check its owner and mode"
            )
        inode_numbers.check(self.spool)
        self.spool.check_archives()
        deadline = time.monotonic() + PATIENCE

        def pause(seconds: float) -> bool:
            time.sleep(seconds)
            return time.monotonic() < deadline

        patience = DiskRetry(pause, lambda _text: None)
        queue, terms, policy, clock = self._orders
        settlement = Finisher(queue, terms, policy, clock, listen, patience)
        recover(self.spool, settlement)
        attempt = Attempt(handler, settlement)
        self._doubt = attempt.doubt
        if isinstance(handler, BatchHandler):
            self._batches = attempt, handler
        return lambda name: attempt(self.spool, name, Proof.NONE)

    def _preview(self) -> Callable[[bytes], AttemptResult]:
        held = holders()
        return lambda name: preview(self.spool, name, self._orders.terms, held)
