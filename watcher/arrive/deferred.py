"""When each deferred entry falls due: out of the names in `deferred/`, bounded, each once.

Guarantees: at most `limit` names are held, the earliest; for the rest the directory is listed again
before the first of them is due. What is due is told on the monotonic clock: a step of the wall
clock neither parks an entry (it waits its own delay at most) nor makes them all due at once.
Fails: `list_all` raises OSError when the directory cannot be read.
"""

from __future__ import annotations

import heapq
import os
import threading
from collections.abc import Callable

from watcher.age import SECOND, Clock
from watcher.spool.disk import DIRECTORY
from watcher.spool.layout import DEFERRED, Layout
from watcher.spool.schedule import Schedule, parse

LIMIT = 65_536


class Deferred:
    """The deferred entries of one queue, by the moment they fall due (monotonic, seconds)."""

    def __init__(self, layout: Layout, clock: Clock, limit: int = LIMIT) -> None:
        self._layout = layout
        self._clock = clock
        self._limit = limit
        self._heap: list[tuple[float, bytes]] = []
        self._known: set[bytes] = set()
        self._horizon: float | None = None  # entries from here on are not all held
        self._lock = threading.Lock()  # workers add, the watcher takes

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, name: bytes) -> bool:
        return name in self._known

    def add(self, name: bytes) -> bool:
        """Take note of deferred/STAMP-NAME; True when it is now the earliest of all."""
        return is_entry(name.removeprefix(DEFERRED), self._layout) and self._note(name)

    def _note(self, name: bytes) -> bool:
        found = parse(name.removeprefix(DEFERRED))
        if found is None:
            return False
        due = self._due(found[0])
        with self._lock:
            if name in self._known:
                return False
            if len(self._known) >= self._limit and not self._beyond(due):
                self._drop_latest()
            if self._beyond(due):
                return False
            self._known.add(name)
            heapq.heappush(self._heap, (due, name))
            return self._heap[0][1] == name

    def _beyond(self, due: float) -> bool:
        return self._horizon is not None and due >= self._horizon

    def _drop_latest(self) -> None:
        """Make room for what falls due before them: many at once, as it costs a sort; we lock."""
        self._heap.sort()
        kept = self._limit * 3 // 4
        self._horizon = self._heap[kept][0]
        self._known.difference_update(name for _, name in self._heap[kept:])
        del self._heap[kept:]

    def _due(self, schedule: Schedule) -> float:
        now_ms = self._clock.real() // 1_000_000
        wait = min(max(0.0, (schedule.due_ms - now_ms) / 1000), schedule.delay)
        return self._clock.mono() / SECOND + wait

    def list_all(self, directory: int, skip: Callable[[bytes], bool]) -> None:
        """Take note of what lies in `deferred/`, but the names that `skip` knows of."""
        names = (DEFERRED + name for name in names_in(directory, self._layout))
        wanted = (name for name in names if name not in self._known and not skip(name))
        earliest = heapq.nsmallest(self._limit + 1, wanted)  # a name begins with its moment
        with self._lock:
            self._horizon = None
        for name in earliest:
            self._note(name)

    def take(self, now: float, room: int) -> list[bytes]:
        """Take out names that are due, `room` at most."""
        taken: list[bytes] = []
        with self._lock:
            while self._heap and self._heap[0][0] <= now and len(taken) < room:
                name = heapq.heappop(self._heap)[1]
                self._known.discard(name)
                taken.append(name)
        return taken

    def wants_listing(self) -> bool:
        """Whether the names that are not held may be due: all that are held fall due before."""
        return self._horizon is not None and len(self._known) <= self._limit // 4

    def forget_the_rest(self) -> None:
        """Take it that there are no names but those that are held: the directory is gone."""
        with self._lock:
            self._horizon = None

    def next(self, listing: float = 0.0) -> float | None:
        """Return the moment at which the next entry falls due, or None.

        For those that are not held that is `listing` at the earliest: before, no list can be had.
        """
        with self._lock:
            moments = [self._heap[0][0]] if self._heap else []
            if self._horizon is not None:
                moments.append(max(self._horizon, listing))
        return min(moments, default=None)


def is_entry(name: bytes, layout: Layout) -> bool:
    """Whether a stamped name is an entry's message, and not its metadata, its note or scratch."""
    if layout.raw:
        return name[:1] != b"." and name.endswith(layout.suffix) and not name.endswith(b".tmp")
    return name.endswith((b".pck", b".msg"))


def names_in(directory: int, layout: Layout) -> list[bytes]:
    """Return the deferred entries' names as they lie in the directory; opens none of them.

    With them comes a `.db` without a message: the end of a pair that was done when we died.
    """
    fd = os.open(b".", DIRECTORY, dir_fd=directory)
    try:
        names = [os.fsencode(name) for name in os.listdir(fd)]
    finally:
        os.close(fd)
    entries = [name for name in names if is_entry(name, layout) and name[:1] != b"."]
    metadata = () if layout.raw else [name for name in names if name.endswith(b".db")]
    if metadata:
        stems = {name[:-4] for name in entries}
        entries += [name for name in metadata if name[:-3] not in stems and name[:1] != b"."]
    return entries


def overdue(schedule: Schedule, now_ms: int) -> bool:
    """Whether an entry is due by the wall clock alone, as a sweep by hand must judge. PURE.

    One that lies further ahead than it was ever to wait was stamped by a clock that has been set
    back since: it is due.
    """
    return not now_ms < schedule.due_ms <= now_ms + schedule.delay * 1000 + 1
