"""4: a backlog of a million: time to the first entry, memory, cost of an entry, order."""

from __future__ import annotations

import json
import os
import subprocess
import time
from typing import Any, NamedTuple

from bench import consumers
from bench.figures import Spread, rate, spread
from bench.measures.idle import resident
from bench.rooms import Writer, room
from bench.rows import Row, Target
from bench.stand import Stand, tell

LOOK_EVERY = 0.05  # seconds between two looks at the memory
NANO = 1e9
SMALL = 10_000
STORM = 10_000
BATCH = 32_768  # entries of one batch of a scan: the order may differ by so many places
PATIENCE = 600.0
NOTED = 16  # bytes for an entry that the handler of the benchmark keeps


class Drained(NamedTuple):
    """The result for one backlog."""

    result: dict[str, Any]
    first_after: float  # seconds from the start of the process
    memory: float  # MB at most, above the idle daemon's
    left: int

    @property
    def each(self) -> float:
        """Microseconds an entry, without the first."""
        return 1e6 / rate(self.result["handled"] - 1, self.result["first"], self.result["last"])


def idle_memory(stand: Stand) -> float:
    """Return the memory of the daemon with the same handler and nothing to do, in MB."""
    with room(stand.base) as place:
        argv = consumers.daemon_argv(place, "ordered")
        with consumers.running(argv, place) as consumer:
            consumer.wait_armed()
            return resident(consumer.pid)


def drained(stand: Stand, count: int, storm: int, idle: float) -> Drained:
    """Start the daemon on a backlog; add a storm once it watches."""
    with room(stand.base) as place:
        place.fill(count)
        os.sync()  # else the write-back would be measured too
        writer = Writer(place, storm, first=count) if storm else None
        argv = consumers.daemon_argv(place, "ordered", 'grace_age = "1s"')
        began = time.monotonic_ns()
        most = 0.0
        with consumers.running(argv, place, count + storm) as consumer:
            ends = time.monotonic() + PATIENCE
            line = ""
            while not line and time.monotonic() < ends and consumer.process.poll() is None:
                most = max(most, resident(consumer.pid))
                if writer is not None and consumers.armed(consumer.pid):
                    writer.go()
                    writer.wait()
                    writer = None
                line = consumer.line(LOOK_EVERY)
            result = consumer.found(line) if line else consumer.result(1.0)
            time.sleep(consumers.SETTLE)
            left = place.waiting()
    noted = result["handled"] * NOTED / (1 << 20)
    first_after = (result["first"] - began) / NANO
    return Drained(result, first_after, most - idle - noted, left)


def bare(stand: Stand, count: int) -> float:
    """Return microseconds an entry of the reference: the cost of the file system at that size."""
    with room(stand.base) as place:
        place.fill(count)
        os.sync()
        argv = [str(stand.reference), "drain", place.queue, str(count)]
        found = json.loads(subprocess.run(argv, check=True, capture_output=True).stdout)
        return 1e6 / rate(count - 1, found["first"], found["last"])


def measure(stand: Stand) -> list[Row]:
    """Drain the great backlog once and small ones before and after it."""
    os.sync()  # so that the files of other measures are not written back now
    great, few = stand.pick(1_000_000, 20_000), stand.pick(SMALL, 4_000)
    idle = idle_memory(stand)
    small = [drained(stand, few, 0, idle).each for _ in range(stand.pick(2, 1))]
    big = drained(stand, great, STORM, idle)
    small += [drained(stand, few, 0, idle).each for _ in range(stand.pick(2, 1))]
    limit = [bare(stand, count) for count in (few, great)] if stand.reference else []
    cost, middle = big.each, spread(small)
    lost = great + STORM - big.result["handled"]
    ratio = Spread(cost / middle.median, cost / middle.high, cost / middle.low)

    note = f"the reference: {limit[1]:.1f}, of {few:,} {limit[0]:.1f} us" if limit else ""

    def row(what: str, unit: str, value: float, most: float) -> Row:
        name = f"a backlog of {great:,}: {what}"
        return tell(Row(4, name, unit, spread([value]), target=Target(most=most, of="ours")))

    return [
        row("first handled after start", "s", big.first_after, 2.0),
        row("memory above the idle daemon's", "MB", big.memory, 64.0),
        tell(
            Row(
                4,
                f"a backlog of {great:,}: an entry",
                "us",
                spread([cost]),
                middle,
                f"of {few:,}",
                ratio,
                Target(most=1.2),
                note,
            )
        ),
        row(f"lost, with a storm of {STORM:,} meanwhile", "entries", float(lost + big.left), 0.0),
        row("places out of order, at most", "entries", float(big.result["late"]), float(BATCH)),
    ]
