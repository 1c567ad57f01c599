"""Limit the `vanish` lines in the journal. PURE.

A `vanish` line says that an event named a file which was gone when a worker came to it. Any user
who may rename files in a queue can cause any number of them. The journal keeps a fixed number of
bytes, so without a limit these lines would push out its history.
Guarantees: in a minute at most `OF_ONE` lines for one name and `MOST` for all names; `FEW` in the
minute after one that reached its limit. The others are counted. Memory for the names of one minute.
Fails: never.
"""

from __future__ import annotations

MINUTE = 60.0  # seconds
MOST = 1_000  # lines in a minute
FEW = 100  # lines in the minute after one that was full
OF_ONE = 8  # lines of one name in a minute


class Vanished:
    """Counts the lines of the current minute. The caller holds a lock."""

    def __init__(self) -> None:
        self.unnamed = 0  # had no line, and are in no count in the journal yet
        self.total = 0  # calls of `allows`
        self._names: dict[bytes, int] = {}
        self._recent: set[bytes] = set()
        self._lines = 0
        self._room = MOST
        self._until = 0.0

    @property
    def pending(self) -> bool:
        """Whether names got a line since `take_names`."""
        return bool(self._recent)

    def take_names(self) -> set[bytes]:
        """Return the names that got a line since the last call."""
        names, self._recent = self._recent, set()
        return names

    def allows(self, name: bytes, now: float) -> bool:
        """Whether this name may have a line; if not, it is counted."""
        self.total += 1
        if now >= self._until:
            full = now < self._until + MINUTE and self._lines >= self._room
            self._room = FEW if full else MOST
            self._lines, self._until = 0, now + MINUTE
            self._names.clear()
        lines = self._names.get(name, 0)
        if self._lines >= self._room or lines >= OF_ONE:
            self.unnamed += 1
            return False
        self._names[name] = lines + 1
        if len(self._recent) < MOST:
            self._recent.add(name)
        self._lines += 1
        return True

    def take_unnamed(self, now: float) -> int:
        """Return how many had no line, if their minute is over; else 0."""
        if now < self._until:
            return 0
        count, self.unnamed = self.unnamed, 0
        return count
