"""When to look at an entry again: bounded, and each name once.

Guarantees: at most `limit` names; one that finds no room is the sweep's. A name that is due
earlier than it was is moved forward, never back.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Iterable
from typing import NamedTuple

from watcher.evidence import How

MAX_TIMERS = 65_536


class Due(NamedTuple):
    """A name whose moment has come."""

    name: bytes
    how: How
    heard: int = 0  # when its rename was heard of, as in `Ready`
    young: bool = False  # it waits for nothing but its age: a catch-up scan may take it sooner


class Timers:
    """Names by the moment (monotonic, seconds) at which they are worth another look."""

    def __init__(self, limit: int = MAX_TIMERS) -> None:
        self._limit = limit
        self._heap: list[tuple[float, bytes]] = []
        self._set: dict[bytes, tuple[float, Due]] = {}
        self._lock = threading.Lock()  # workers set, the watcher takes

    def __len__(self) -> int:
        return len(self._set)

    def __contains__(self, name: bytes) -> bool:
        return name in self._set

    def young(self, name: bytes) -> bool:
        """Whether a name waits for nothing but its age."""
        known = self._set.get(name)
        return known is not None and known[1].young

    def set(
        self, name: bytes, due: float, how: How, heard: int = 0, *, young: bool = False
    ) -> bool:
        """Set the timer of a name; True when it is now the earliest of all."""
        with self._lock:
            known = self._set.get(name)
            if known is not None and known[0] <= due:
                return False
            if known is None and len(self._set) >= self._limit:
                return False
            self._set[name] = (due, Due(name, how, heard, young))
            if len(self._heap) > 2 * len(self._set) + 64:  # mostly moments that count no more
                self._heap = [(moment, known_name) for known_name, (moment, _) in self._set.items()]
                heapq.heapify(self._heap)
            else:
                heapq.heappush(self._heap, (due, name))
            return self._earliest() == due

    def cancel(self, name: bytes) -> None:
        """Forget a name."""
        if name in self._set:
            with self._lock:
                self._set.pop(name, None)

    def cancel_all(self, names: Iterable[bytes]) -> None:
        """Forget many names."""
        if self._set:
            for name in names:
                self.cancel(name)

    def due(self, now: float) -> list[Due]:
        """Take out the names whose moment has come."""
        taken: list[Due] = []
        with self._lock:
            while self._heap and self._heap[0][0] <= now:
                moment, name = heapq.heappop(self._heap)
                known = self._set.get(name)
                if known is not None and known[0] == moment:
                    del self._set[name]
                    taken.append(known[1])
        return taken

    def next(self) -> float | None:
        """Return the earliest moment set, or None."""
        with self._lock:
            return self._earliest()

    def _earliest(self) -> float | None:
        while self._heap:
            moment, name = self._heap[0]
            known = self._set.get(name)
            if known is not None and known[0] == moment:
                return moment
            heapq.heappop(self._heap)
        return None
