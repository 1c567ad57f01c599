"""When to look at an entry again: bounded, and each name once.

Guarantees: at most `limit` names. If a name finds no room, `overflowed` says so later, and a scan
finds it when there is room again. A new moment of a known name counts only if it is earlier.
Fails: never.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Iterable
from typing import NamedTuple

from watcher.rules.evidence import Proof

MAX_TIMERS = 65_536


class Due(NamedTuple):
    """A name whose moment has come."""

    name: bytes
    proof: Proof
    event_time_ns: int = 0  # as in `Item`
    young: bool = False  # it waits only for its age: a catch-up scan may take it sooner


class Timers:
    """Names by the moment (monotonic, seconds) at which they are worth another look."""

    def __init__(self, limit: int = MAX_TIMERS) -> None:
        self._limit = limit
        self._overflowed = False
        self._heap: list[tuple[float, bytes]] = []
        self.names: dict[bytes, tuple[float, Due]] = {}  # "is it empty?" is asked without the lock
        self._lock = threading.Lock()  # workers set timers, the daemon's thread takes

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: bytes) -> bool:
        return name in self.names

    def young(self, name: bytes) -> bool:
        """Whether a name waits only for its age."""
        known = self.names.get(name)
        return known is not None and known[1].young

    def waiting(self, name: bytes) -> Due | None:
        """Return what is known of a name that waits; None if it does not."""
        known = self.names.get(name)
        return None if known is None else known[1]

    def set(
        self, name: bytes, due: float, proof: Proof, event_time_ns: int = 0, *, young: bool = False
    ) -> bool:
        """Set the timer of a name; return True if it is now the earliest of all."""
        with self._lock:
            known = self.names.get(name)
            if known is not None and known[0] <= due:
                return False
            if known is None and len(self.names) >= self._limit:
                self._overflowed = True
                return False
            self.names[name] = (due, Due(name, proof, event_time_ns, young))
            if len(self._heap) > 2 * len(self.names) + 64:  # most of it is out of date
                self._heap = [
                    (moment, known_name) for known_name, (moment, _) in self.names.items()
                ]
                heapq.heapify(self._heap)
            else:
                heapq.heappush(self._heap, (due, name))
            return self._earliest() == due

    def restart(self, name: bytes, due: float, proof: Proof) -> bool:
        """Set the timer of a name that waits only for its age, also to a later moment.

        Returns True if it is now the earliest of all.
        """
        self.cancel(name)
        return self.set(name, due, proof, young=True)

    def overflowed(self) -> bool:
        """Whether a name found no room, and half of the room is free now; True only once."""
        if not self._overflowed or len(self.names) > self._limit // 2:
            return False
        with self._lock:
            overflowed, self._overflowed = self._overflowed, False
            return overflowed

    def cancel(self, name: bytes) -> None:
        """Forget a name."""
        if name in self.names:
            with self._lock:
                self.names.pop(name, None)

    def cancel_all(self, names: Iterable[bytes]) -> None:
        """Forget many names."""
        for name in names:
            self.cancel(name)

    def due(self, now: float) -> list[Due]:
        """Take out the names whose moment has come."""
        taken: list[Due] = []
        with self._lock:
            while self._heap and self._heap[0][0] <= now:
                moment, name = heapq.heappop(self._heap)
                known = self.names.get(name)
                if known is not None and known[0] == moment:
                    del self.names[name]
                    taken.append(known[1])
        return taken

    def take_all(self) -> list[tuple[float, Due]]:
        """Take out every name, with its moment."""
        with self._lock:
            taken = list(self.names.values())
            self.names, self._heap = {}, []
        return taken

    def next(self) -> float | None:
        """Return the earliest moment set, or None."""
        with self._lock:
            return self._earliest()

    def _earliest(self) -> float | None:
        while self._heap:
            moment, name = self._heap[0]
            known = self.names.get(name)
            if known is not None and known[0] == moment:
                return moment
            heapq.heappop(self._heap)
        return None
