"""2: from the first rename to the last entry's handler: a storm, and a backlog."""

from __future__ import annotations

from collections.abc import Sequence

from bench import consumers
from bench.figures import rate, ratios, spread
from bench.rooms import Room, Writer, room
from bench.rows import Row, Target
from bench.stand import Stand, tell

PATIENCE = 60.0  # seconds
HALF, NONE = Target(least=0.5), Target()
STORM = 10_000  # below the kernel's queue of 16,384: none is dropped


def checked(result: dict[str, int], place: Room, count: int, began: str) -> float:
    """Return the rate, having seen that nothing is missing and nothing is left."""
    missing = count - result["handled"]
    if missing or place.waiting() > 1:  # the last one's unlink may be under way
        raise RuntimeError(f"{missing} of {count} not handled, {place.waiting()} left")
    return rate(count - 1, result[began], result["last"])


def storm(stand: Stand, count: int, argv: Sequence[str] | None = None) -> float:
    """Return entries a second while they are renamed in as fast as they go; None: ours."""
    with room(stand.base) as place:
        command = list(argv) if argv else consumers.daemon_argv(place)
        command = [part.replace("{queue}", place.queue) for part in command]
        writer = Writer(place, count)
        with consumers.running(command, place, count) as consumer:
            consumer.wait_ready() if argv else consumer.wait_armed()
            writer.go()
            writer.wait()
            result = consumer.result(PATIENCE)
            return checked(result, place, count, "first_commit")


def drain(stand: Stand, count: int, argv: Sequence[str] | None = None) -> float:
    """Return entries a second out of a backlog, from the beginning of the scan."""
    with room(stand.base) as place:
        place.fill(count)
        command = list(argv) if argv else consumers.daemon_argv(place, options='grace_age = "1s"')
        command = [part.replace("{queue}", place.queue) for part in command]
        with consumers.running(command, place, count) as consumer:
            result = consumer.result(PATIENCE)
            return checked(result, place, count, "began")


def measure(stand: Stand) -> list[Row]:
    """Compare the rates, events and backlog, with the reference's."""
    backlog, burst = stand.pick(30_000, 5_000), stand.pick(STORM, 4_000)
    events = [str(stand.reference), "events", "{queue}", str(burst)]
    oldest = [str(stand.reference), "drain", "{queue}", str(backlog)]
    any_order = [str(stand.reference), "drain-any", "{queue}", str(backlog)]
    storms: tuple[list[float], list[float]] = ([], [])
    drains: tuple[list[float], list[float], list[float]] = ([], [], [])
    for _ in range(stand.rounds):
        storms[0].append(storm(stand, burst))
        drains[0].append(drain(stand, backlog))
        if stand.reference:
            storms[1].append(storm(stand, burst, events))
            drains[1].append(drain(stand, backlog, oldest))
            drains[2].append(drain(stand, backlog, any_order))
    there = "throughput, a storm of", "throughput, a backlog of"
    rows = [
        compared(f"{there[0]} {burst:,}", *storms, target=HALF, plot="storm"),
        compared(f"{there[1]} {backlog:,}", *drains[:2], target=HALF, plot="backlog"),
    ]
    if stand.reference:
        note = "the reference in the order of readdir(3): what keeping the order of commit costs"
        rows.append(compared(f"{there[1]} {backlog:,}, any order", drains[0], drains[2], note=note))
    return [tell(row) for row in rows]


def compared(
    what: str,
    here: list[float],
    there: list[float],
    *,
    target: Target = NONE,
    note: str = "",
    plot: str = "",
) -> Row:
    """Return the row of two lists of rates."""
    other = spread(there) if there else None
    ratio = ratios(here, there) if there else None
    row = Row(2, what, "entries/s", spread(here), other, "reference", ratio, target)
    return row._replace(note=note, plot=plot)
