"""Make docs/benchmarks/handlers.md from the rows of measure 12. PURE but for `write`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from bench.page import table
from bench.rows import Row, number

COMMAND = "python scripts/bench --only 12 --save"
INTRO = """# What each kind of handler costs

*Made by `{command}` on {date}; not edited by hand.*

Entries a second, on the default settings: the daemon keeps its journal, and its log has a line for
each entry. The command is `/bin/true`, the function does nothing, and the worker is a Python script
that answers `done` to each line. Beside them is what a script would do, with the same command: a
loop of Python threads over `subprocess`, which unlinks each file; `xargs -n 100`, with one `rm` for
each hundred; and `inotifywait -m | while read`, with one `rm` for each file. These keep no record,
never try again, and forget what they had in hand when they end.

All were measured in one run, in turn. Each program is stopped while the entries are committed; the
clock runs from the moment at which it goes on until the queue is empty. Files lie on {file system}
and on tmpfs.
"""
BUSY = """
**The machine was busy** (its load before was {load before}): only large differences mean something.
"""
IDLE = 1.5  # a load up to which the machine counts as idle
READING = """
A cell has the median of {rounds}; the lowest and the highest; and how many times the rate of
the subprocess loop with as many threads that is, in each round (the median).
"""


def rendered(found: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """Return the page."""
    about = {**found, **found["machine"], "command": COMMAND}
    parts = [INTRO.format_map(about), table([("", "this machine"), *found["machine"].items()])]
    if float(found["machine"].get("load before", 0)) > IDLE:
        parts.append(BUSY.format_map(about))
    parts.append(READING.format(rounds=rows[0].note))
    tables: list[str] = []
    cells: dict[str, dict[str, dict[str, str]]] = {}
    for row in rows:
        if row.table:
            tables += ["\n## One bad entry\n", table(row.table)]
            continue
        where, side, at_once = row.what.split(": ")
        cells.setdefault(where, {}).setdefault(side, {})[at_once] = _cell(row)
    for where, sides in cells.items():
        columns = list(dict.fromkeys(column for side in sides.values() for column in side))
        lines = [
            (name, *(side.get(column, "") for column in columns)) for name, side in sides.items()
        ]
        parts += [f"\n## On {where}\n", table([("entries/s", *columns), *lines])]
    return "\n".join([*parts, *tables])


def _cell(row: Row) -> str:
    if row.ours is None:
        return ""
    text = f"{number(row.ours.median)} ({number(row.ours.low)} to {number(row.ours.high)})"
    return text if row.ratio is None else f"{text}; {number(row.ratio.median)}x"


def write(found: Mapping[str, Any], rows: Sequence[Row], docs: str) -> None:
    """Write the page below the directory `docs`."""
    os.makedirs(f"{docs}/benchmarks", exist_ok=True)
    with open(f"{docs}/benchmarks/handlers.md", "w") as file:
        file.write(rendered(found, rows))
