"""What a source of events is to the daemon: something that gives hints. No I/O.

An event is a hint; the directory is the truth. A hint names a queue (by its tag), a file in it,
and what was seen; `EVERYTHING` says that hints were lost, so look at the whole directory.
"""

from __future__ import annotations

import enum
from typing import NamedTuple, Protocol

from watcher.spool.spool import Spool


class Seen(enum.IntEnum):
    """What a source saw."""

    RENAMED = 0  # renamed into the queue: IN_MOVED_TO
    CLOSED = 1  # closed by a writer: IN_CLOSE_WRITE; legacy mode only
    LOOK = 2  # something about this name changed: proves nothing
    EVERYTHING = 3  # hints were lost or not given one by one
    GONE = 4  # the watch has ended, or the directory was moved or unmounted


class Hint(NamedTuple):
    """One thing seen. `tag` is the queue's, or None for every queue."""

    tag: int | None
    seen: Seen
    name: bytes = b""


class Source(Protocol):
    """Where hints come from; one of each kind for all queues of a process (`Sources`)."""

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when there are hints."""

    def arm(self, tag: int, spool: Spool) -> None:
        """Watch a queue from now on; raise WatchFailed."""

    def disarm(self, tag: int) -> None:
        """Stop watching; a queue that is not watched is no error."""

    def read(self) -> list[Hint]:
        """Return the hints there are, without waiting."""

    def close(self) -> None:
        """Give everything back."""
