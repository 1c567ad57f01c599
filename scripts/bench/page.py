"""Make docs/benchmarks.md and its plots from the numbers. PURE but for `write`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench.plot import Bar, bars
from bench.rows import number

HEADINGS = {
    1: "Latency",
    2: "Throughput",
    3: "System calls",
    4: "A great backlog",
    5: "Idle, and short-lived processes",
    6: "Commit",
    7: "A command for each entry",
    8: "Deferred entries",
    9: "The price of the journal and the ledger",
    10: "The events of a raw queue",
    11: "Peers",
}
WHY = "if one is not met, [the profile](benchmarks/profile.md) says why."
COMMAND = "python scripts/bench --only {}"
PLOTS = {
    "latency": "From the rename to the start of the handler, the median",
    "storm": "From the rename to the unlink, in a storm",
    "backlog": "Out of a backlog",
}
LOGARITHMIC = ("latency",)
INTRO = """# Benchmarks

*Made by `{command}` on {date}, in {seconds} s; not edited by hand. The numbers:
[results.json](benchmarks/results.json).*

Everything is measured side by side in one run on one file system: ours, then the other side, then
ours again. A ratio is taken within each round; the table has the median of the rounds and, in
parentheses, the lowest and the highest. **The reference** is `scripts/bench/reference.c`: the same
necessary system calls for each entry and nothing else, no thread, no list, no sweep. The handler
is a python function that notes when it was called and does nothing. The log is at `warning`.
"""


def rendered(found: Mapping[str, Any]) -> str:
    """Return the page."""
    parts = [INTRO.format(**found), table([("", "this machine"), *found["machine"].items()])]
    told = [row["met"] for row in found["rows"] if row["met"] is not None]
    parts.append(f"\n{told.count(True)} of {len(told)} targets are met; {WHY}\n")
    for measure, heading in HEADINGS.items():
        rows = [row for row in found["rows"] if row["measure"] == measure]
        if not rows:
            continue
        name = "peers" if measure == max(HEADINGS) else str(measure)
        parts += [f"\n## {heading}\n", f"`{COMMAND.format(name)}`\n"]
        if any(row["ours"] for row in rows):
            parts.append(table([HEAD, *(_cells(row) for row in rows if row["ours"])]))
        for plot in sorted({row["plot"] for row in rows if row["plot"]}):
            if measure != max(HEADINGS):
                parts.append(f"\n![{PLOTS[plot]}](benchmarks/{plot}.svg)\n")
        for row in rows:
            if row["table"]:
                parts += [f"\n{row['what']}:\n", table(row["table"])]
    return "\n".join(parts)


HEAD = ("", "watcher", "beside", "ratio", "target", "")


def _cells(row: Mapping[str, Any]) -> Sequence[str]:
    other, ratio = row["other"], row["ratio"]
    met = {True: "met", False: "**not met**", None: ""}[row["met"]]
    note = f"; {row['note']}" if row["note"] and not row["table"] else ""
    return (
        f"{row['what']}{note}",
        f"{number(row['ours']['median'])} {row['unit']}",
        f"{row['against']} {number(other['median'])}" if other else "",
        f"{number(ratio['median'])} ({number(ratio['low'])} to {number(ratio['high'])})"
        if ratio
        else "",
        row["target"],
        met,
    )


def table(lines: Iterable[Sequence[str]]) -> str:
    """Write a table; the first line is its heading."""
    head, *body = [" | ".join(_cell(cell) for cell in line) for line in lines]
    columns = head.count(" | ") + 1
    return "\n".join([f"| {head} |", "|" + " --- |" * columns, *(f"| {line} |" for line in body)])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def plots(found: Mapping[str, Any]) -> dict[str, str]:
    """Return the plots, by name: watcher, and the programs that it is compared with."""
    made = {}
    for name, title in PLOTS.items():
        rows = [row for row in found["rows"] if row["plot"] == name]
        if rows:
            others = [Bar(row["against"], row["other"]["median"]) for row in rows if row["other"]]
            found_bars = [Bar("watcher", rows[0]["ours"]["median"], ours=True), *others]
            scale = name in LOGARITHMIC
            made[name] = bars(title, rows[0]["unit"], found_bars, logarithmic=scale)
    return made


def write(found: Mapping[str, Any], docs: str) -> None:
    """Write the page and its plots below the directory `docs`."""
    os.makedirs(f"{docs}/benchmarks", exist_ok=True)
    with open(f"{docs}/benchmarks.md", "w") as file:
        file.write(rendered(found))
    for name, svg in plots(found).items():
        with open(f"{docs}/benchmarks/{name}.svg", "w") as file:
            file.write(svg)
