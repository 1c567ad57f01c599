"""9: what the journal and the ledger cost, on latency and on throughput."""

from __future__ import annotations

import sys

from bench import consumers, variant
from bench.figures import ratios, spread
from bench.measures import latency, throughput
from bench.rooms import Writer, room
from bench.rows import Row, Target
from bench.stand import Stand, tell

WITH = "with both"
BOTH = "without-both"
PARTS = (WITH, "without-ledger", "without-journal", BOTH)
PATIENCE = 60.0  # seconds
MOST = 1.15
STORMS = 7  # rounds


def handled(stand: Stand, part: str, count: int, rate: float) -> dict[str, int]:
    """Have the daemon handle entries without some part of it."""
    program = [] if part == WITH else [sys.executable, variant.__file__, part]
    with room(stand.base) as place:
        argv = consumers.daemon_argv(place, program=program)
        writer = Writer(place, count, rate)
        with consumers.running(argv, place, count) as consumer:
            consumer.wait_armed()
            writer.go()
            writer.wait()
            result = consumer.result(PATIENCE)
            throughput.checked(result, place, count, "first_commit")
            return result


def measure(stand: Stand) -> list[Row]:
    """Compare the daemon with itself less the one, the other, and both.

    The difference is some per cent of what one run varies by, so there are many short runs; every
    second round takes them the other way round, so that no part always comes after the same one.
    """
    single, burst = stand.pick(300, 100), stand.pick(10_000, 4_000)
    storms: dict[str, list[float]] = {part: [] for part in PARTS}
    medians: dict[str, list[float]] = {part: [] for part in PARTS}
    parts = (WITH, BOTH) if stand.quick else PARTS
    for number in range(stand.pick(STORMS, 1)):
        for part in parts[:: -1 if number % 2 else 1]:
            storm = handled(stand, part, burst, 0)
            spent = (storm["last"] - storm["first_commit"]) / latency.MICRO
            storms[part].append(spent / (burst - 1))
    for number in range(stand.pick(stand.rounds, 1)):
        for part in (WITH, BOTH)[:: -1 if number % 2 else 1]:
            alone = handled(stand, part, single, latency.RATE)
            medians[part].append(alone["p50"] / latency.MICRO)
    rows = []
    for what, found in (("an entry in a storm", storms), ("latency, p50", medians)):
        for part in parts[1:]:
            if not found[part]:
                continue
            target = Target(most=MOST) if part == BOTH else Target()
            ratio = ratios(found[WITH], found[part])
            ours, other = spread(found[WITH]), spread(found[part])
            rows.append(tell(Row(9, f"price: {what}", "us", ours, other, part, ratio, target)))
    return rows
