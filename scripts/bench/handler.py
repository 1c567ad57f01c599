"""The Python handlers of the benchmark: they only record when they were called.

    BENCH_EXPECT=1000  after so many entries, or at the end of the process, one line of JSON goes to
                       standard output, with the fields of reference.c

An entry's name says when it was renamed in (`bench.writer`).
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import sys
import time
from array import array
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from watcher import Entry

LOADED = time.monotonic_ns()
STARTED = time.process_time_ns()  # what the start took of the processor
EXPECT = int(os.environ.get("BENCH_EXPECT") or 0)
DIE_AT = int(os.environ.get("BENCH_DIE_AT", "-1"))  # entries handled before the daemon is killed
DAWDLES, STUCK = 0.02, 60.0  # seconds
STRIDE = 10_000  # in a long backlog the time of every 10,000th entry is kept


class Notes:
    """The calls, and when each came."""

    def __init__(self) -> None:
        self.starts = array("q")
        self.names: list[str] = []
        self.numbers = array("q")
        self.handled = 0
        self.told = False

    def tell(self) -> None:
        """Print the line, once."""
        if self.told:
            return
        self.told = True
        commits = [moment(name) for name in self.names]
        latencies = sorted(
            start - commit for start, commit in zip(self.starts, commits, strict=False)
        )
        line = {
            "handled": self.handled,
            "began": LOADED,
            "first": self.starts[0] if self.starts else 0,
            "last": self.starts[-1] if self.starts else 0,
            "first_commit": min(commits, default=0),
            "p50": ranked(latencies, 50),
            "p99": ranked(latencies, 99),
            "most": ranked(latencies, 100),
            "moments": list(self.starts[::STRIDE]) if self.handled > STRIDE else [],
            "late": most_late(self.numbers),
            "cpu": time.process_time_ns() - STARTED,
        }
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


def ranked(latencies: list[int], percent: int) -> int:
    """Return the nearest rank of a sorted list (as `bench.figures`, without its imports)."""
    if not latencies:
        return 0
    return latencies[max(-(-len(latencies) * percent // 100), 1) - 1]


def most_late(numbers: array[int]) -> int:
    """Return the largest number of places by which an entry came too late."""
    furthest, late = -1, 0
    for number in numbers:
        furthest = max(furthest, number)
        late = max(late, furthest - number)
    return late


NOTES = Notes()
if EXPECT:
    atexit.register(NOTES.tell)


def moment(name: str) -> int:
    """Return when an entry was renamed in, by its name: SECONDS.NANOSECONDS+NUMBER."""
    stamp, _, _ = name.partition("+")
    seconds, _, nanoseconds = stamp.partition(".")
    return int(seconds) * 1_000_000_000 + int(nanoseconds)


def timed(entry: Entry) -> None:
    """Do nothing; record the time."""
    notes = NOTES
    if notes.handled == DIE_AT:
        os.kill(os.getpid(), signal.SIGKILL)
    notes.starts.append(time.monotonic_ns())
    notes.names.append(entry.name)
    notes.handled += 1
    if notes.handled == EXPECT:
        notes.tell()


def reading(entry: Entry) -> None:
    """Decode the message and its metadata, as a real handler does."""
    timed(entry)
    if not entry.message or entry.metadata is None:
        raise ValueError(entry.name)


def ordered(entry: Entry) -> None:
    """Record the time and the entry's number in little memory: for a backlog of a million."""
    notes = NOTES
    notes.starts.append(time.monotonic_ns())
    notes.numbers.append(int(entry.name.rpartition("+")[2]))
    notes.handled += 1
    if notes.handled == EXPECT:
        notes.tell()


def noop(entry: Entry) -> None:
    """Do nothing at all."""


def noop_batch(entries: list[Entry]) -> None:
    """Do nothing at all, for many entries."""


def dawdling(_entry: Entry) -> None:
    """Take as long as a request to another program."""
    time.sleep(DAWDLES)


def stuck(_entry: Entry) -> None:
    """Not end while the benchmark looks."""
    time.sleep(STUCK)


def stuck_batch(_entries: list[Entry]) -> None:
    """Not end while the benchmark looks."""
    time.sleep(STUCK)


def failing_first(entry: Entry) -> None:
    """Fail once."""
    if entry.attempt == 1:
        raise ValueError(entry.name)
