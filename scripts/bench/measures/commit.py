"""6: `watcher.enqueue` beside the bare calls; in groups beside one by one."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable

import watcher
from bench.figures import rate, ratios, spread
from bench.rooms import METADATA, room
from bench.rows import Row, Target
from bench.stand import Stand, tell, warn

GROUPS = "enqueue_many"
MESSAGE = b"x" * 1800


def bare(stand: Stand, count: int) -> float:
    """Return commits a second of the reference."""
    with room(stand.base) as place:
        argv = [str(stand.reference), "commit", place.queue, str(count), str(len(MESSAGE))]
        found = json.loads(subprocess.run(argv, check=True, capture_output=True).stdout)
        return rate(count, found["first"], found["last"])


def one_by_one(stand: Stand, count: int) -> float:
    """Return commits a second of `watcher.enqueue`."""
    with room(stand.base) as place:
        watcher.enqueue(place.queue, MESSAGE, METADATA)  # so that late imports are done
        began = time.monotonic_ns()
        for _ in range(count):
            watcher.enqueue(place.queue, MESSAGE, METADATA)
        return rate(count, began, time.monotonic_ns())


def in_groups(stand: Stand, count: int) -> float:
    """Return commits a second of `watcher.enqueue_many`."""
    enqueue_many: Callable[..., object] = getattr(watcher, GROUPS)
    with room(stand.base) as place:
        items = [(MESSAGE, METADATA)] * count
        began = time.monotonic_ns()
        enqueue_many(place.queue, items)
        return rate(count, began, time.monotonic_ns())


def measure(stand: Stand) -> list[Row]:
    """Compare in many short rounds, because the cost of a sync changes with time."""
    count, times = stand.pick(200, 60), stand.pick(75, 5)
    grouped = hasattr(watcher, GROUPS)
    ours: list[float] = []
    others: list[float] = []
    groups: list[float] = []
    for number in range(times):
        if stand.reference and number % 2:
            others.append(bare(stand, count))
        ours.append(one_by_one(stand, count))
        if stand.reference and not number % 2:
            others.append(bare(stand, count))
        if grouped:
            groups.append(in_groups(stand, count))
    micro = [[1e6 / each for each in found] for found in (ours, others)]
    rows = [
        Row(
            6,
            "commit of one entry, `watcher.enqueue`",
            "us",
            spread(micro[0]),
            spread(micro[1]) if others else None,
            "reference",
            ratios(*micro) if others else None,
            Target(most=1.15),
        )
    ]
    if grouped:
        what = "commits in groups, `watcher.enqueue_many`"
        gained, least = ratios(groups, ours), Target(least=5.0)
        other = spread(ours)
        rows.append(Row(6, what, "entries/s", spread(groups), other, "one by one", gained, least))
    else:
        warn("commits in groups: there is no `watcher.enqueue_many`")
    return [tell(row) for row in rows]
