"""1: from the rename to the start of the handler, 200 entries a second."""

from __future__ import annotations

from typing import Any

from bench import consumers, figures
from bench.rooms import Writer, room
from bench.rows import Row, Target
from bench.stand import Stand, tell

RATE = 200.0  # entries a second
PATIENCE = 20.0  # seconds after the last rename
MICRO = 1000.0  # nanoseconds


def once(stand: Stand, count: int, *, ours: bool) -> dict[str, Any]:
    """Make one round on one side."""
    with room(stand.base) as place:
        if ours:
            argv = consumers.daemon_argv(place)
        else:
            argv = [str(stand.reference), "events", place.queue, str(count)]
        with consumers.running(argv, place, count) as consumer:
            consumer.wait_armed() if ours else consumer.wait_ready()
            writer = Writer(place, count, RATE)
            writer.go()
            writer.wait()
            result = consumer.result(PATIENCE)
    if result["handled"] != count:
        raise RuntimeError(f"{count - result['handled']} of {count} entries were not handled")
    return result


def measure(stand: Stand) -> list[Row]:
    """Compare the median and the 99th percentile."""
    count = stand.pick(600, 200)
    ours: list[dict[str, Any]] = []
    others: list[dict[str, Any]] = []
    for number in range(stand.rounds):
        for mine in (True, False) if number % 2 == 0 else (False, True):
            if mine:
                ours.append(once(stand, count, ours=True))
            elif stand.reference:
                others.append(once(stand, count, ours=False))
    rows = []
    for key, most in (("p50", 2.0), ("p99", 3.0)):
        here = [one[key] / MICRO for one in ours]
        there = [one[key] / MICRO for one in others]
        rows.append(
            tell(
                Row(
                    1,
                    f"latency, rename to handler start, {key}, 200/s",
                    "us",
                    figures.spread(here),
                    figures.spread(there) if there else None,
                    "reference",
                    figures.ratios(here, there) if there else None,
                    Target(most=most),
                    plot="latency" if key == "p50" else "",
                )
            )
        )
    return rows
