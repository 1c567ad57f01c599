"""10: what a raw queue pays for IN_CREATE and IN_CLOSE_WRITE, which tell of commits by link(2).

`writers = "rename"` asks for renames alone: the narrow mask. Both are measured in one run, in turn,
with two writers: one renames its files in from another directory (one event an entry with either
mask), the other writes them in the queue under a temporary name (three events with the wide mask).
"""

from __future__ import annotations

from typing import NamedTuple

from bench import consumers, strace
from bench.figures import ratios, spread
from bench.measures import calls, latency, throughput
from bench.rooms import Writer, room
from bench.rows import Row
from bench.stand import Stand, tell, warn

PATIENCE = 60.0  # seconds
RAW = 'format = "raw"\nsuffix = ".pck"\n'
MASKS = {"wide": RAW, "narrow": RAW + 'writers = "rename"\n'}
WRITERS = {"from elsewhere": False, "written in the queue": True}


class Side(NamedTuple):
    """What was measured with one mask, in microseconds."""

    storm: list[float]  # from the first rename to the last handler, an entry
    cpu: list[float]  # the daemon's processor time, an entry
    p50: list[float]  # latency


def handled(stand: Stand, mask: str, count: int, rate: float, *, inside: bool) -> dict[str, int]:
    """Have the daemon handle entries with one of the masks."""
    with room(stand.base) as place:
        argv = consumers.daemon_argv(place, options=MASKS[mask])
        writer = Writer(place, count, rate, inside=inside)
        with consumers.running(argv, place, count) as consumer:
            consumer.wait_armed()
            writer.go()
            writer.wait()
            result = consumer.result(PATIENCE)
            throughput.checked(result, place, count, "first_commit")
            return result


def measure(stand: Stand) -> list[Row]:
    """Compare the wide mask with the narrow one."""
    single, burst = stand.pick(300, 100), stand.pick(4_000, 2_000)
    rows = []
    for what, inside in WRITERS.items():
        found = {mask: Side([], [], []) for mask in MASKS}
        for number in range(stand.rounds):
            for mask in list(MASKS)[:: -1 if number % 2 else 1]:
                side = found[mask]
                storm = handled(stand, mask, burst, 0, inside=inside)
                spent = storm["last"] - storm["first_commit"]
                side.storm.append(spent / latency.MICRO / (burst - 1))
                side.cpu.append(storm["cpu"] / latency.MICRO / burst)
                alone = handled(stand, mask, single, latency.RATE, inside=inside)
                side.p50.append(alone["p50"] / latency.MICRO)
        for about, wide, narrow in zip(
            ("a storm, an entry", "a storm, processor time an entry", "latency, p50, 200/s"),
            *(found[mask] for mask in MASKS),
            strict=True,
        ):
            words, ratio = f"raw, {what}: {about}", ratios(wide, narrow)
            row = Row(10, words, "us", spread(wide), spread(narrow), "narrow mask", ratio)
            rows.append(tell(row))
    return rows + counted(stand)


def counted(stand: Stand) -> list[Row]:
    """Count the system calls of an entry, in a storm and one at a time."""
    if not strace.here():
        warn("system calls are not counted: strace is not installed (apt-get install strace)")
        return []
    rows = []
    paces = {"in a storm": (stand.pick(2000, 400), 0.0)}
    if not stand.quick:
        paces["one at a time"] = (calls.SINGLES, calls.SINGLE)
    for what, inside in WRITERS.items():
        for pace, (entries, rate) in paces.items():
            wide, narrow = (
                sum(
                    calls.per_entry(
                        stand, entries, rate, options=MASKS[mask], inside=inside
                    ).values()
                )
                for mask in MASKS
            )
            words, ratio = f"raw, {what}: system calls an entry, {pace}", ratios([wide], [narrow])
            row = Row(10, words, "calls", spread([wide]), spread([narrow]), "narrow mask", ratio)
            rows.append(tell(row))
    return rows
