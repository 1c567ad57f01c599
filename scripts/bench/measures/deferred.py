"""8: the cost of 100,000 deferred entries for fresh ones."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from bench import consumers
from bench.figures import ratios, spread
from bench.measures import latency, throughput
from bench.rooms import Room, Writer, room
from bench.rows import Row, Target
from bench.stand import Stand, tell
from watcher.rules.stamp import Schedule, stamped

DELAY = 3600.0  # seconds: no entry is due while this runs
NO_COST = 1.1  # two medians of the same measure differ by so much
LISTED = 0.7  # seconds in which deferred/ is read
PATIENCE = 60.0  # seconds


def put_off(place: Room, count: int) -> None:
    """Make deferred entries in the format of `docs/spool-format.md`."""
    directory = os.fsencode(f"{place.queue}/.watcher/deferred")
    os.makedirs(directory)
    for path in (directory, os.path.dirname(directory)):
        os.chmod(path, 0o700)
    due = int((time.time() + DELAY) * 1000)
    for number in range(count):
        name = stamped(Schedule(due + number, 1, 0, DELAY, 0.0), b"%d" % number, b".pck")
        os.close(os.open(directory + b"/" + name, os.O_WRONLY | os.O_CREAT, 0o600))


def handled(place: Room, count: int, rate: float) -> dict[str, int]:
    """Have a daemon handle so many fresh entries."""
    with consumers.running(consumers.daemon_argv(place), place, count) as consumer:
        consumer.wait_armed()
        time.sleep(LISTED)
        writer = Writer(place, count, rate)
        writer.go()
        writer.wait()
        result = consumer.result(PATIENCE)
        throughput.checked(result, place, count, "first_commit")
        return result


def once(stand: Stand, place: Room) -> tuple[float, float]:
    """Return the microseconds an entry in a storm, and the median latency at 200/s."""
    count, single = stand.pick(10_000, 2_000), stand.pick(300, 100)
    storm = handled(place, count, 0)
    each = (storm["last"] - storm["first_commit"]) / (count - 1) / latency.MICRO
    return each, handled(place, single, latency.RATE)["p50"] / latency.MICRO


def measure(stand: Stand) -> list[Row]:
    """Compare with and without, in turn."""
    count = stand.pick(100_000, 5_000)
    beside: list[tuple[float, float]] = []
    alone: list[tuple[float, float]] = []
    with room(stand.base) as place, room(stand.base) as plain:
        put_off(place, count)
        for _ in range(stand.pick(stand.rounds, 1)):
            beside.append(once(stand, place))
            alone.append(once(stand, plain))
    what = ("an entry in a storm", "latency, p50")
    return [
        compared(f"{count:,} deferred: {name}", [a[key] for a in beside], [b[key] for b in alone])
        for key, name in enumerate(what)
    ]


def compared(what: str, beside: Sequence[float], alone: Sequence[float]) -> Row:
    """Return the row of one comparison."""
    ratio, target = ratios(beside, alone), Target(most=NO_COST)
    return tell(Row(8, what, "us", spread(beside), spread(alone), "with none", ratio, target))
