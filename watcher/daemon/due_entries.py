"""Give the workers of a queue the deferred entries that are due.

`Deferred` knows when each is due. This module lists `deferred/` for it, and takes no more names out
than may wait for a worker. The daemon's thread calls.
Guarantees: at most `DUE_AT_ONCE` deferred entries wait for a worker.
Fails: never. If `deferred/` cannot be read, `Health` says so, and the listing is tried again at
growing intervals.
"""

from __future__ import annotations

from collections.abc import Callable

from watcher.daemon.deferred import Deferred
from watcher.daemon.pending import Pending
from watcher.daemon.watch import Watch
from watcher.errors import WatcherError
from watcher.observe.health import Health
from watcher.rules.evidence import Proof
from watcher.rules.lifecycle import State
from watcher.spool.spool import Spool

DUE_AT_ONCE = 1_024  # deferred entries that may wait for a worker
ABOUT = "deferred entries"


class DueEntries:
    """The deferred entries of one queue, on their way to its workers."""

    def __init__(
        self,
        deferred: Deferred,
        pending: Pending,
        watch: Watch,
        health: Health,
        now: Callable[[], float],
    ) -> None:
        self._deferred = deferred
        self._pending = pending
        self._watch = watch
        self._health = health
        self._now = now
        self._next_listing = 0.0  # after one that failed

    def tick(self, now: float) -> None:
        """Give the workers what is due, and list the directory if too few names are known."""
        spool = self._watch.spool
        if spool is not None and self._deferred.wants_listing() and now >= self._next_listing:
            self.list_all(spool)
        for name in self._deferred.take(now, DUE_AT_ONCE - self._pending.due):
            self._pending.push(name, Proof.NONE)

    def list_all(self, spool: Spool) -> None:
        """Learn the names in `deferred/`."""
        try:
            directory = spool.state_dir(State.DEFERRED)
            if directory is not None:
                self._deferred.list_all(directory, self._pending.known)
            else:
                self._deferred.forget_the_rest()
        except (OSError, WatcherError) as error:
            why = f"deferred/ cannot be read: {error}"
            self._next_listing = self._watch.fail(ABOUT, why, self._now())
        else:
            self._health.trouble(ABOUT, None)

    def next(self) -> float | None:
        """Return the moment at which `tick` has something to do; None: a worker comes first."""
        if self._pending.due >= DUE_AT_ONCE:
            return None
        return self._deferred.next(self._next_listing)
