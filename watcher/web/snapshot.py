"""What was known of one queue at one moment, and how it went before. No I/O, no clock.

Guarantees: a snapshot never changes, so any thread may read it. `Past` has a bounded size, and
covers the time since its first point, or the last `POINTS` times `LONGEST_STEP`.
Fails: never.
"""

from __future__ import annotations

import functools
import json
from array import array
from dataclasses import dataclass
from typing import Any

from watcher.inspect.queue_status import QueueStatus
from watcher.inspect.status_json import record
from watcher.rules.lifecycle import State

POINTS = 720
STEP = 10.0  # seconds between two points at first
LONGEST_STEP = 40.0  # with 720 points: eight hours
DEPTHS = (State.READY, State.CLAIMED, State.DEFERRED, State.HELD, State.DEAD, State.ORPHAN)


@dataclass(frozen=True)
class QueueSnapshot:
    """One queue as it was at `sampled`; without a status, `error` says why it cannot be read."""

    name: str
    path: str
    sampled: float | None = None  # seconds since the epoch; None: not yet
    status: QueueStatus | None = None
    error: str = ""

    @functools.cached_property
    def json(self) -> bytes:
        """The object of `status --json`, with when it was sampled."""
        known: dict[str, Any] = {"queue": self.name, "path": self.path}
        if self.status is not None:
            known = record(self.status)
        sampled = None if self.sampled is None else round(self.sampled, 3)
        return json.dumps({**known, "sampled": sampled, "error": self.error or None}).encode()


class Past:
    """How many entries each state had, and the age of the oldest one that is ready.

    When it is full, every second point is dropped and the step between points doubles.
    """

    def __init__(self, points: int = POINTS) -> None:
        self._points = points
        self._step = STEP
        self._times = array("d")
        self._oldest = array("d")  # seconds; -1: there was none
        self._depths = {state: array("L") for state in DEPTHS}

    def __len__(self) -> int:
        return len(self._times)

    def add(self, status: QueueStatus) -> None:
        """Add a point, unless the last one is too near."""
        if self._times and 0 <= status.at - self._times[-1] < 0.9 * self._step:
            return
        if len(self._times) >= self._points:
            self._make_room()
        self._times.append(status.at)
        oldest = status.states[State.READY].oldest
        self._oldest.append(-1.0 if oldest is None else oldest)
        for state, depths in self._depths.items():
            depths.append(status.states[state].count if state in status.states else 0)

    def _make_room(self) -> None:
        part = slice(0, 1)
        if self._step < LONGEST_STEP:
            part = slice(0, None, 2)
            self._step *= 2
        del self._times[part], self._oldest[part]
        for depths in self._depths.values():
            del depths[part]

    def record(self, name: str) -> dict[str, object]:
        """Return all points, as JSON knows them."""
        return {
            "queue": name,
            "time": [round(each, 1) for each in self._times],
            "depth": {state.value: list(depths) for state, depths in self._depths.items()},
            "oldest": [None if each < 0 else round(each, 1) for each in self._oldest],
        }
