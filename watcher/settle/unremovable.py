"""Entries that are handled but cannot be removed: one file's EPERM or EACCES blocks no worker.

The kernel may refuse to remove or to rename one file of a writable directory: because of an
attribute (chattr +i), a security module, or a sticky bit that was set meanwhile. The handler has
done its work. So the claim is kept, no process handles the entry again, and the daemon thread
repeats the last step at growing intervals.

Guarantees: one lock for the list. At most `LIMIT` claims (each is a descriptor) are kept; `keep`
returns False for more. A claim is released once: after its step, or by `let_go`.
Fails: never.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import NamedTuple

from watcher.errors import WatcherError
from watcher.rules.backoff import delay
from watcher.rules.results import AttemptResult
from watcher.spool.claimed import Claim

LIMIT = 64  # claims
FIRST = 1.0  # seconds until the first new try, then doubling
LONGEST = 600.0  # seconds


class _Kept(NamedTuple):
    claim: Claim
    step: Callable[[], AttemptResult]
    tried: int
    due: float


class Unremovable:
    """The entries of one queue whose last step the kernel refused; shared by its workers."""

    def __init__(self, now: Callable[[], float], limit: int = LIMIT) -> None:
        self._now = now
        self._limit = limit
        self._kept: dict[bytes, _Kept] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, name: bytes) -> bool:
        return name in self._kept

    def keep(self, claim: Claim, step: Callable[[], AttemptResult]) -> bool:
        """Keep a claim, to take its last step later; False if there is no room for it."""
        with self._lock:
            if len(self._kept) >= self._limit or claim.name in self._kept:
                return False
            self._kept[claim.name] = _Kept(claim, step, 1, self._now() + delay(1, FIRST, LONGEST))
            return True

    def next(self) -> float:
        """Return the monotonic time of the next try, infinity if there is none."""
        with self._lock:
            return min((kept.due for kept in self._kept.values()), default=math.inf)

    def retry(self) -> list[tuple[bytes, AttemptResult]]:
        """Repeat the steps that are due; return the results of those that the kernel let through.

        Only the daemon thread calls it.
        """
        with self._lock:
            due = [(name, kept) for name, kept in self._kept.items() if kept.due <= self._now()]
        over: list[tuple[bytes, AttemptResult]] = []
        for name, kept in due:
            try:
                report = kept.step()
            except (OSError, WatcherError):
                tried = kept.tried + 1
                moment = self._now() + delay(tried, FIRST, LONGEST)
                with self._lock:
                    self._kept[name] = kept._replace(tried=tried, due=moment)
                continue
            with self._lock:
                del self._kept[name]
            kept.claim.release()
            over.append((name, report))
        return over

    def let_go(self) -> None:
        """Release every claim, when this process stops serving the queue."""
        with self._lock:
            kept, self._kept = list(self._kept.values()), {}
        for each in kept:
            each.claim.release()
