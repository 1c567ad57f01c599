"""Sum up lines about many entries that fail for the same reason.

Of each queue, move and kind of reason (`rules.reasons`) the first `IN_FULL` lines of a period are
logged; the others are counted, and one line says how many when the period ends. A period begins
with its first line, so the summary of a storm comes once a minute.

Guarantees: no thread wakes for it: the next line, the next wake-up of the daemon's thread (a sweep
at the latest) or the end of the daemon gives out what is due. Memory for `MOST` kinds; a line of
another kind is then logged in full. One lock. No clock of its own.
Fails: never.
"""

from __future__ import annotations

import math
import threading
from typing import NamedTuple

from watcher.rules.lifecycle import Move, Transition
from watcher.rules.reasons import kind_of

PERIOD = 60.0  # seconds
IN_FULL = 5  # lines
MOST = 100  # kinds
SUMMED = frozenset({Move.DEFER, Move.REJECT, Move.RELEASE})


class Kind(NamedTuple):
    """What lines that are summed up have in common."""

    queue: str
    move: Move
    reason: str


class Summary(NamedTuple):
    """How many lines of a kind were left out, within how many seconds."""

    kind: Kind
    lines: int
    seconds: float


class _Period:
    def __init__(self, began: float) -> None:
        self.began = began
        self.lines = 0


class Repeats:
    """The kinds of the current periods. `due` is when the first of them ends."""

    def __init__(self) -> None:
        self.due = math.inf
        self._periods: dict[Kind, _Period] = {}
        self._lock = threading.Lock()

    def in_full(self, record: Transition, now: float) -> bool:
        """Whether a transition is to be logged; if not, it is counted. `now` is monotonic."""
        if record.move not in SUMMED or not record.detail:
            return True
        kind = Kind(record.queue, record.move, kind_of(record.detail.partition("; attempt ")[0]))
        with self._lock:
            period = self._periods.get(kind)
            if period is None:
                if len(self._periods) >= MOST:
                    return True
                period = self._periods[kind] = _Period(now)
                self.due = min(self.due, now + PERIOD)
            period.lines += 1
            return period.lines <= IN_FULL

    def ended(self, now: float) -> list[Summary]:
        """End the periods that are over at `now` (`math.inf`: all); return what they left out."""
        with self._lock:
            over = [kind for kind, one in self._periods.items() if now >= one.began + PERIOD]
            ended = [(kind, self._periods.pop(kind)) for kind in over]
            begun = [one.began for one in self._periods.values()]
            self.due = min(begun, default=math.inf) + PERIOD
        return [
            Summary(kind, one.lines - IN_FULL, min(now, one.began + PERIOD) - one.began)
            for kind, one in ended
            if one.lines > IN_FULL
        ]
