"""When each deferred entry falls due: out of the names in `deferred/`, bounded, each once.

Guarantees: at most `limit` names are held, those that are due first. For the others the directory
is listed again before the first of them is due. Moments are on the monotonic clock: after a step of
the wall clock an entry waits for its own delay at most, and not all entries are due at once.
Fails: `list_all` raises OSError when the directory cannot be read.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable

from watcher.arrive.scan import deferred_names, is_deferred_message
from watcher.rules.age import SECOND, Clock
from watcher.rules.names import Layout, Location, in_deferred
from watcher.rules.stamp import Schedule, parse

LIMIT = 65_536


class Deferred:
    """The deferred entries of one queue, by the moment they fall due (monotonic, seconds)."""

    def __init__(self, layout: Layout, clock: Clock, limit: int = LIMIT) -> None:
        self._layout = layout
        self._clock = clock
        self._limit = limit
        self._heap: list[tuple[float, bytes]] = []
        self._known: set[bytes] = set()
        self._horizon: float | None = None  # from this moment on not all entries are held
        self._lock = threading.Lock()  # workers add, the daemon's thread takes

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, name: bytes) -> bool:
        return name in self._known

    def add(self, name: bytes) -> bool:
        """Note deferred/STAMP-NAME; return True if it is now the earliest of all."""
        return is_deferred_message(Location.parse(name).name, self._layout) and self._note(name)

    def _note(self, name: bytes) -> bool:
        found = parse(Location.parse(name).name)
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
        """Drop the latest quarter at once, because it costs a sort; the caller holds the lock."""
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
        """Note the names in `deferred/`, except those for which `skip` returns True."""
        names = (in_deferred(name) for name in deferred_names(directory, self._layout))
        wanted = (name for name in names if name not in self._known and not skip(name))
        earliest = heapq.nsmallest(self._limit + 1, wanted)  # a name begins with its due moment
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
        """Whether the directory is to be listed: few of the names that were held are left."""
        return self._horizon is not None and len(self._known) <= self._limit // 4

    def forget_the_rest(self) -> None:
        """Note that there are no other names than those that are held: the directory is gone."""
        with self._lock:
            self._horizon = None

    def next(self, listing: float = 0.0) -> float | None:
        """Return the moment at which the next entry falls due, or None.

        Entries that are not held count from `listing` on: no list can be had before.
        """
        with self._lock:
            moments = [self._heap[0][0]] if self._heap else []
            if self._horizon is not None:
                moments.append(max(self._horizon, listing))
        return min(moments, default=None)
