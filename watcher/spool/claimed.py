"""A claimed entry: its files, open and locked, and the options of the claim.

Guarantees: while a `Claim` lives, no other process or thread can claim the entry. The lock is
flock(2), held by the open file description: a command that inherits the descriptor keeps the claim
if this process dies, and the kernel ends it with the last descriptor. A claim has one owner: the
worker, sweep or command that made it. The owner calls `release` once.
Fails: OSError from `touched`, if the disk cannot be read.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

from watcher import mailman
from watcher.rules.age import Ages
from watcher.rules.evidence import Action, AgeLimits, Writer
from watcher.rules.form import Form
from watcher.rules.names import display
from watcher.rules.results import NotClaimed, Reason
from watcher.rules.stamp import Schedule
from watcher.spool import removable
from watcher.spool.part import Part, identity_of
from watcher.spool.spool import Spool


class ClaimOptions(NamedTuple):
    """How a queue's entries are claimed."""

    grace: float  # seconds
    ages: Ages
    max_size: int = mailman.MAX_SIZE  # bytes
    lock: bool = True  # False: a dry run, which only looks
    largest: int | None = None  # bytes of a file, read or not; None: no limit
    renames: bool = False  # raw: every writer of the queue renames its files in
    complete: bool = False  # known as complete, whether its marker is there or not
    settle: float = 0.0  # raw, seconds: how long a file must be closed and unchanged; 0: off
    # Whether a writer closed the file of this name since its IN_CREATE; None: events were lost.
    # It reads the events that are queued first. Without events nothing is proved.
    closed: Callable[[bytes], bool | None] = lambda _name: True

    @property
    def limits(self) -> AgeLimits:
        """How old a file must be."""
        return AgeLimits(self.grace, self.settle)


class Claim:
    """One claimed entry. `parts[0]` is its message's file; close with `release`."""

    __slots__ = (
        *("action", "asks", "form", "gone", "linked", "name", "parts", "schedule"),
        *("spool", "stem", "terms", "why", "writer"),
    )

    def __init__(
        self, spool: Spool, name: bytes, stem: bytes, terms: ClaimOptions, *, asks: bool = False
    ) -> None:
        self.spool = spool
        self.name = name
        self.stem = stem  # the entry's NAME
        self.linked = False  # whether one of its files has another name
        self.terms = terms
        self.parts: tuple[Part, ...] = ()
        self.asks = asks and spool.asks  # the kernel is asked for writers
        known = self.asks and spool.leases
        self.writer = Writer.NONE if known else Writer.UNKNOWN  # to any of them, when claimed
        self.form = Form.RAW if spool.layout.raw else Form.PCK
        self.action = Action.TAKE
        self.schedule: Schedule | None = None  # of a deferred entry
        self.why = ""
        self.gone = False  # its files were removed, and no other process has their descriptors

    def identity(self) -> int:
        """Return what tells this commit of its name from others; 0 for a unique name."""
        if self.spool.layout.is_unique_name(self.parts[0].queue_name):
            return 0
        known = 0 if self.schedule is None else self.schedule.identity
        return known or identity_of(self.parts[0])

    def age(self) -> float:
        """Seconds since the youngest of the entry's files last changed."""
        youngest = max(part.ctime_ns for part in self.parts)
        return self.terms.ages.age(self.name, youngest)  # as a scan asks: `scan.ScanPosition`

    def touched(self) -> bool:
        """Whether any of its files changed since this process opened it."""
        for part in self.parts:
            now = os.fstat(part.fd)
            if now.st_size != part.size or now.st_ctime_ns != part.ctime_ns:
                return True
        return False

    def pinned(self) -> NotClaimed | None:
        """Return which of its files has an attribute that forbids its removal; None if none has."""
        for part in self.parts:
            if part.directory is None and (attribute := removable.pinned(part.fd)):
                why = f"cannot be removed: it is {attribute}; chattr -{attribute[0]} it"
                return NotClaimed(Reason.PINNED, f"{display(part.name)}: {why}")
        return None

    def release(self) -> None:
        """Unlock and close the entry's files.

        Closing alone does not unlock: a process that the handler left running may have inherited
        the descriptors. Files that are `gone` need no unlock.
        """
        for part in self.parts:
            if self.terms.lock and not self.gone:
                self.spool.disk.unlock(part.fd)
            os.close(part.fd)
        self.parts = ()
