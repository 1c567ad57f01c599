"""Count the entries of a queue by state, by the kind of their reason, and by age. PURE.

The age is the time since the commit, if the entry's note tells it, else the time in the state: what
has been tried again for days is old, however late its last attempt was.
Guarantees: memory for `MOST` kinds of reasons a state, however many entries there are; the others
are counted together. Each entry is counted once.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import NamedTuple

from watcher.inspect.list_entries import EntryInfo
from watcher.rules.lifecycle import State
from watcher.rules.reasons import kind_of

MOST = 1_000  # kinds of reasons a state
OTHERS = "(other reasons)"
BOUNDS = {  # seconds
    "<1m": 60.0,
    "<10m": 600.0,
    "<1h": 3600.0,
    "<6h": 6 * 3600.0,
    "<1d": 86400.0,
    "<7d": 7 * 86400.0,
}
AGES = (*BOUNDS, "older")
_NO_REASON = {
    State.READY: "waits for a worker",
    State.ARRIVING: "is being written",
    State.DONE: "was handled",
}
_REMEMBERED = 4_096  # reasons whose kind is known


class Row(NamedTuple):
    """The entries of one state with reasons of one kind: how many of which age."""

    reason: str
    ages: tuple[int, ...]  # one for each of `AGES`

    @property
    def total(self) -> int:
        """How many entries these are."""
        return sum(self.ages)


class Summary:
    """The counts of one queue."""

    def __init__(self) -> None:
        self._counts: dict[State, dict[str, list[int]]] = {}
        self._oldest: dict[State, float] = {}
        self._kind_of = functools.lru_cache(_REMEMBERED)(kind_of)

    def add(self, found: EntryInfo, now: float) -> None:
        """Count one entry; `now` in seconds since the epoch."""
        committed = found.note.get("committed_ns")
        age = max(found.age, now - committed / 1e9) if isinstance(committed, int) else found.age
        kinds = self._counts.setdefault(found.state, {})
        kind = self._kind_of(found.why) if found.why else _NO_REASON.get(found.state, "no reason")
        if kind not in kinds and len(kinds) >= MOST:
            kind = OTHERS
        kinds.setdefault(kind, [0] * len(AGES))[_place(age)] += 1
        self._oldest[found.state] = max(age, self._oldest.get(found.state, 0.0))

    def states(self) -> Iterator[tuple[State, float, list[Row]]]:
        """Yield each state with entries, the age of its oldest, and its rows, the largest first."""
        for state in State:
            if state in self._counts:
                rows = [Row(kind, tuple(ages)) for kind, ages in self._counts[state].items()]
                rows.sort(key=lambda row: (-row.total, row.reason))
                yield state, self._oldest[state], rows


def _place(age: float) -> int:
    return next((place for place, most in enumerate(BOUNDS.values()) if age < most), len(BOUNDS))
