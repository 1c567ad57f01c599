"""What became of the attempts of one queue: counts for the last hour, times, kinds of failures.

Every worker counts each attempt that it ends; the daemon's thread reads now and then, to publish.
For metrics there are totals since the start too: attempts by how they ended, and a histogram of
each stage, with the fixed `BOUNDS`.
Guarantees: bounded memory, whatever comes: a ring of counts, buckets of times that grow by an
eighth of a power of two (so a time is known within 6 %), and the `MOST_KINDS` newest kinds of
failures. An attempt that is handled costs a fraction of a microsecond, because in a storm the times
of one in `SAMPLE_EVERY` stand for those since the last sample; the counts are exact. So is the
number of attempts in each histogram, and no number of a histogram ever shrinks. No clock is read
here.
Fails: never.
"""

from __future__ import annotations

import bisect
import enum
import math
import threading
from array import array
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from watcher.rules.reasons import kind_of

SLOT = 10.0  # seconds that are counted together
SLOTS = 360  # an hour of them
LONG_SLOT = 60  # slots whose times are kept together: ten minutes
WINDOWS = {"1m": 6, "5m": 30, "60m": SLOTS}  # slots
STAGES = ("wait", "handler", "settle")
SAMPLES = 64  # attempts of a slot whose times are counted, before only one in so many is:
SAMPLE_EVERY = 17  # a prime number: what comes in turns is sampled in turns
MOST_KINDS = 64
# Seconds; the upper ends of a histogram's buckets, each included. The last bucket has no end.
BOUNDS = (
    *(0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
    *(1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0),
)
_SHORTEST = 1e-6  # seconds; a wait is negative after a step of the clock


class Ended(enum.IntEnum):
    """How an attempt ended, as it is counted; FAILED: deferred by a failure, or given up."""

    HANDLED = 0
    FAILED = 1
    REJECTED = 2


_HANDLED = Ended.HANDLED  # on the hot path: one lookup fewer
_frexp, _bucket = math.frexp, bisect.bisect_left


class Percentiles(NamedTuple):
    """How long one stage took: in how many attempts, and in seconds."""

    attempts: int
    p50: float
    p99: float


class Histogram(NamedTuple):
    """How long one stage took since the start.

    `counts` has the attempts of each bucket of `BOUNDS` and, last, of longer ones; `seconds` is
    their sum. A storm's sample counts for those since the last one, in both.
    """

    counts: tuple[int, ...]
    seconds: float


class Totals(NamedTuple):
    """The attempts since the start; each histogram has all of them."""

    handled: int
    failed: int
    rejected: int
    stages: dict[str, Histogram]


class Kind(NamedTuple):
    """One kind of failure in the last hour; the moments are on the monotonic clock."""

    reason: str
    attempts: int
    first: float
    last: float


class Counters:
    """The counts of one queue; a reload passes them on.

    Attributes
    ----------
    attempts:     how many were counted, since the start
    last_success: when one was handled (monotonic); None: none was
    in_a_row:     how many failed since then
    """

    def __init__(self) -> None:
        self.attempts = 0
        self.last_success: float | None = None
        self.in_a_row = 0
        self._lock = threading.Lock()  # for all that follows, and for changes of the above
        self._slot = -1  # the one that is counted in: the time divided by SLOT
        self._at = 0  # its place in the ring
        self._samples = 0  # attempts of this slot whose times were counted
        self._until_sample = 0  # further ones to leave out
        self._in_histograms = 0  # attempts that are; the others came after the last sample
        self._last_sample = (0.0,) * len(STAGES)
        self._histograms = [array("Q", bytes(8 * (len(BOUNDS) + 1))) for _ in STAGES]
        self._sums = [0.0 for _ in STAGES]
        self._unsuccessful = {Ended.FAILED: 0, Ended.REJECTED: 0}  # since the start
        self._counts = [array("Q", bytes(8 * SLOTS)) for _ in Ended]
        self._buckets = _new_buckets()  # of the long slot that is counted in, by stage
        self._past: dict[int, list[defaultdict[int, int]]] = {}  # by long slot, that one included
        self._kinds: dict[str, dict[int, tuple[int, float, float]]] = {}  # by long slot too

    def add(
        self, ended: Ended, now: float, seconds: tuple[float, float, float], reason: str = ""
    ) -> None:
        """Count an attempt that ended `now` (monotonic); `seconds` of each of the `STAGES`."""
        slot = int(now / SLOT)
        kind = "" if ended is _HANDLED else kind_of(reason)
        with self._lock:
            if slot != self._slot:
                self._turn(slot)
            self.attempts += 1
            self._counts[ended][self._at] += 1
            if self._until_sample:
                self._until_sample -= 1
            else:  # not a function of its own: it would be called for each lone entry
                self._samples += 1
                self._until_sample = 0 if self._samples < SAMPLES else SAMPLE_EVERY - 1
                weight = self.attempts - self._in_histograms  # this one, and those left out
                self._in_histograms, self._last_sample = self.attempts, seconds
                for at, taken in enumerate(seconds):
                    each = taken if taken > _SHORTEST else _SHORTEST  # noqa: FURB136 - without a call
                    mantissa, exponent = _frexp(each)
                    self._buckets[at][8 * exponent + int(16 * mantissa)] += weight
                    self._histograms[at][_bucket(BOUNDS, each)] += weight
                    self._sums[at] += each * weight
            if ended is _HANDLED:
                self.last_success, self.in_a_row = now, 0
            else:
                self._unsuccessful[ended] += 1
                self.in_a_row += ended is Ended.FAILED
                self._add_kind(kind, now)

    def _turn(self, slot: int) -> None:
        """Count in another slot; the caller holds the lock. The clock never goes back by a slot."""
        for past in range(max(self._slot + 1, slot - SLOTS + 1), slot + 1):
            for counts in self._counts:
                counts[past % SLOTS] = 0
        long = slot // LONG_SLOT
        if long not in self._past:
            self._buckets = self._past[long] = _new_buckets()
            oldest = long - SLOTS // LONG_SLOT
            self._past = {key: value for key, value in self._past.items() if key > oldest}
            for kind, slots in list(self._kinds.items()):
                kept = {key: value for key, value in slots.items() if key > oldest}
                self._kinds[kind] = kept
                if not kept:
                    del self._kinds[kind]
        if slot != self._slot:
            self._samples = self._until_sample = 0
        self._slot, self._at = slot, slot % SLOTS

    def _add_kind(self, kind: str, now: float) -> None:
        slots = self._kinds.pop(kind, {})
        if len(self._kinds) >= MOST_KINDS:
            del self._kinds[next(iter(self._kinds))]  # the one that was not seen for longest
        self._kinds[kind] = slots
        long = self._slot // LONG_SLOT
        count, first, _last = slots.get(long, (0, now, now))
        slots[long] = (count + 1, first, now)

    def windows(self, now: float) -> dict[str, tuple[int, int, int]]:
        """Return how many were handled, failed and rejected in each of the `WINDOWS`."""
        with self._lock:
            self._turn(max(self._slot, int(now / SLOT)))
            rings = [[*counts[self._at + 1 :], *counts[: self._at + 1]] for counts in self._counts]
        sums = {name: [sum(ring[-slots:]) for ring in rings] for name, slots in WINDOWS.items()}
        return {name: (counts[0], counts[1], counts[2]) for name, counts in sums.items()}

    def totals(self) -> Totals:
        """Return what was counted since the start."""
        with self._lock:
            if weight := self.attempts - self._in_histograms:
                # Those after the last sample. They stay where this puts them: a number that was
                # read once must not shrink.
                self._in_histograms = self.attempts
                for at, each in enumerate(self._last_sample):
                    self._histograms[at][_bucket(BOUNDS, each)] += weight
                    self._sums[at] += max(_SHORTEST, each) * weight
            failed, rejected = self._unsuccessful.values()
            stages = {
                stage: Histogram(tuple(self._histograms[at]), self._sums[at])
                for at, stage in enumerate(STAGES)
            }
            return Totals(self.attempts - failed - rejected, failed, rejected, stages)

    def times(self, now: float) -> dict[str, Percentiles]:
        """Return how long each stage took in the last hour."""
        with self._lock:
            self._turn(max(self._slot, int(now / SLOT)))
            kept = [[list(buckets.items()) for buckets in each] for each in self._past.values()]
        return {stage: percentiles(each[at] for each in kept) for at, stage in enumerate(STAGES)}

    def failures(self, now: float) -> list[Kind]:
        """Return the kinds of failures of the last hour, the most frequent one first."""
        with self._lock:
            self._turn(max(self._slot, int(now / SLOT)))
            kinds = {kind: list(slots.values()) for kind, slots in self._kinds.items()}
        found = [
            Kind(kind, sum(slot[0] for slot in slots), slots[0][1], slots[-1][2])
            for kind, slots in kinds.items()
        ]
        return sorted(found, key=lambda kind: -kind.attempts)


def _new_buckets() -> list[defaultdict[int, int]]:
    return [defaultdict(int) for _ in STAGES]


def percentiles(parts: Iterable[Iterable[tuple[int, int]]]) -> Percentiles:
    """Return the percentiles of all values in buckets, each as the middle of its bucket. PURE."""
    buckets: defaultdict[int, int] = defaultdict(int)
    for part in parts:
        for key, count in part:
            buckets[key] += count
    total, below = sum(buckets.values()), 0
    found: list[float] = []
    for key in sorted(buckets):
        below += buckets[key]
        while len(found) < 2 and below >= total * (0.5, 0.99)[len(found)]:  # noqa: PLR2004
            exponent = (key - 8) // 8
            found.append((key - 8 * exponent + 0.5) / 16 * 2.0**exponent)
    return Percentiles(total, found[0], found[1]) if total else Percentiles(0, 0.0, 0.0)
