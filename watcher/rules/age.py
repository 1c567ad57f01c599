"""How old is a file? From ctime, which a writer cannot set back, unless the clock cannot be right.

Guarantees: no clock step, and no ctime in the future, makes a file old before its time; such a
file counts from when this process first saw it unchanged, on the monotonic clock, so each
becomes old enough. Memory is bounded by `MAX_FUTURE` names.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

SECOND = 1_000_000_000
STEP = SECOND  # slewing (adjtime) moves the clock by 0.5 ms a second at most; more is a step
MAX_FUTURE = 100_000


class Clock(Protocol):
    """Where the time comes from; tests pass their own."""

    def real(self) -> int:
        """Nanoseconds since the epoch: the clock of ctime, which may be stepped."""

    def mono(self) -> int:
        """Nanoseconds on a clock that is never stepped and counts suspended time."""


class SystemClock:
    """The kernel's clocks."""

    real = staticmethod(time.time_ns)  # CLOCK_REALTIME; without a call of a Python function

    def mono(self) -> int:
        """CLOCK_BOOTTIME."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Step(NamedTuple):
    """The last step of the clock that was noticed: when, on both clocks (nanoseconds)."""

    real: int
    mono: int


def age_ns(ctime: int, real: int, mono: int, step: Step | None, first_seen: int | None) -> int:
    """Return a file's age in nanoseconds. PURE.

    `first_seen` (monotonic) is when the file was first seen with this ctime; it counts only for a
    ctime in the future. After a clock step a ctime before the step was written by another clock:
    the file did not change since, so it is at least as old as the step.
    """
    if ctime > real:
        return mono - first_seen if first_seen is not None else 0
    if step is not None and ctime < step.real:
        return mono - step.mono
    return real - ctime


class Ages:
    """The ages of the files of one queue, as this process can know them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()  # for what follows: workers and the daemon's thread ask
        self._offset = clock.real() - clock.mono()
        self._step: Step | None = None
        self._untold = False  # a step that `notice_step` has not reported yet
        self._future: dict[bytes, tuple[int, int]] = {}
        self._seen_again: dict[bytes, tuple[int, int]] = {}

    def take_over(self, before: Ages) -> None:
        """Know what `before` knows of the clock, and of files from the future."""
        with before._lock:
            self._offset, self._step, self._untold = before._offset, before._step, before._untold
            self._future, self._seen_again = dict(before._future), dict(before._seen_again)

    def notice_step(self) -> bool:
        """Compare the clocks; True when the wall clock was stepped since the last call."""
        with self._lock:
            self._compare()
            told, self._untold = self._untold, False
            return told

    def _compare(self) -> tuple[int, int]:
        """Read the clocks and note a step; smaller ones add up until they are one together.

        The caller holds the lock.
        """
        real, mono = self._clock.real(), self._clock.mono()
        if abs(real - mono - self._offset) > STEP:
            self._offset = real - mono
            self._step = Step(real, mono)
            self._untold = True
        return real, mono

    def age(self, name: bytes, ctime_ns: int) -> float:
        """Return the age of the file `name` in seconds."""
        with self._lock:
            real, mono = self._compare()
            first_seen = self._first_seen(name, ctime_ns, mono) if ctime_ns > real else None
            return age_ns(ctime_ns, real, mono, self._step, first_seen) / SECOND

    def why(self, ctime_ns: int) -> str:
        """Say which clock an age comes from, for people."""
        step = self._step
        if ctime_ns > self._clock.real():
            return "its ctime is in the future: counted from when it was first seen"
        if step is not None and ctime_ns < step.real:
            return "the clock was stepped: counted from the step"
        return "by its ctime"

    def forget_unseen(self, keep: Callable[[bytes], bool] = lambda _name: False) -> None:
        """Drop the names whose age was not asked for since the last call (once a sweep).

        `keep` says which to keep nevertheless: a name that waits for a timer is not asked about.
        """
        with self._lock:
            kept = {name: seen for name, seen in self._future.items() if keep(name)}
            self._future, self._seen_again = kept | self._seen_again, {}

    def _first_seen(self, name: bytes, ctime_ns: int, mono: int) -> int:
        known = self._seen_again.get(name) or self._future.get(name)
        seen = known if known is not None and known[0] == ctime_ns else (ctime_ns, mono)
        if name in self._seen_again or len(self._seen_again) < MAX_FUTURE:
            self._seen_again[name] = seen
        return seen[1]
