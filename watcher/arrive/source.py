"""The interface of an event source, and the events. No I/O.

An event is a hint, and the directory is the truth: the daemon looks at the file itself. An event
names a queue (by its tag), a file in it, and what happened; `EVERYTHING` means that events were
lost, so that the whole directory must be scanned.
"""

from __future__ import annotations

import enum
from typing import NamedTuple, Protocol

from watcher.spool.spool import Spool


class EventKind(enum.IntEnum):
    """What happened to a file or a directory."""

    RENAMED = 0  # renamed into the queue: IN_MOVED_TO
    CLOSED = 1  # closed by a writer: IN_CLOSE_WRITE; legacy mode and raw format
    LOOK = 2  # the file changed in some way: this proves nothing
    EVERYTHING = 3  # events were lost, or the source does not report them one by one
    GONE = 4  # the watch has ended, or the directory was moved or unmounted
    OURS = 5  # `.watcher`, or a directory in it, was moved or removed
    CREATED = 6  # a name was made, by open(2) or link(2): IN_CREATE; raw format only
    REMOVED = 7  # a name went: IN_DELETE, IN_MOVED_FROM; a queue with companions only


class Event(NamedTuple):
    """One event. `tag` is the queue's, or None for every queue."""

    tag: int | None
    seen: EventKind
    name: bytes = b""


class Source(Protocol):
    """A source of events; one of each kind serves all queues of a process (`Sources`)."""

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when there are events."""

    def arm(self, tag: int, spool: Spool) -> None:
        """Start to watch a queue; raise WatchFailed."""

    def disarm(self, tag: int) -> None:
        """Stop watching a queue; no error if it is not watched."""

    def read(self) -> list[Event]:
        """Return the events so far, without waiting."""

    def close(self) -> None:
        """Release all descriptors and threads."""
