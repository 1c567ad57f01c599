"""Measure watcher, the minimal C program and the peers; write the numbers and the page.

    python scripts/bench [--quick] [--only 1,2] [--in DIRECTORY] [--save]

Prints one line for each number, with its target. --save writes docs/benchmarks/results.json and
makes docs/benchmarks.md from it; measure 12 has a page of its own, docs/benchmarks/handlers.md, and
so have 13 to 18, docs/benchmarks/beyond-one-machine.md.
All programs work in DIRECTORY (.bench), on the same file system.
Ends with 0 also if a target is not met: targets are reported, not enforced.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time

_SCRIPTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [_SCRIPTS, os.path.dirname(_SCRIPTS)]  # this file is run as a directory

from bench import handlers_page, machine, machines_page, page, reference, rooms  # noqa: E402 - sys.path is set first
from bench.measures import (  # noqa: E402 - the same
    backlog,
    calls,
    commands,
    commit,
    deferred,
    fairness,
    growth,
    hand_over,
    handlers,
    idle,
    idle_machines,
    latency,
    mask,
    peers,
    price,
    replicas,
    service,
    throughput,
    work_rate,
)
from bench.rows import Row  # noqa: E402 - the same
from bench.stand import Stand, warn  # noqa: E402 - the same

MEASURES = {
    "1": latency.measure,
    "2": throughput.measure,
    "3": calls.measure,
    "6": commit.measure,
    "5": idle.measure,
    "7": commands.measure,
    "8": deferred.measure,
    "9": price.measure,
    "10": mask.measure,
    "11": service.measure,
    "12": handlers.measure,
    "13": hand_over.measure,
    "14": work_rate.measure,
    "15": growth.measure,
    "16": fairness.measure,
    "17": idle_machines.measure,
    "18": replicas.measure,
    "peers": peers.measure,
    "4": backlog.measure,
}
DOCS = os.path.join(os.path.dirname(_SCRIPTS), "docs")
RESULTS = os.path.join(DOCS, "benchmarks", "results.json")


def measured(stand: Stand, only: list[str]) -> list[Row]:
    """Make the measures one after the other; report and leave out one that fails."""
    rows: list[Row] = []
    for name in only:
        began = time.monotonic()
        try:
            rows += MEASURES[name](stand)
        except (RuntimeError, OSError) as error:
            warn(f"measure {name} is left out: {error}")
        warn(f"measure {name} took {time.monotonic() - began:.0f} s")
    return rows


def save(found: dict[str, object], rows: list[Row]) -> None:
    """Write the numbers, and the pages made from them."""
    of_handlers = [row for row in rows if row.measure == handlers.MEASURE]
    if of_handlers:
        handlers_page.write(found, of_handlers, DOCS)
    if of_machines := [row for row in rows if row.measure in machines_page.SECTIONS]:
        machines_page.write(found, of_machines, DOCS)
    with_own_page = {handlers.MEASURE, *machines_page.SECTIONS}
    rows = [row for row in rows if row.measure not in with_own_page]
    if not rows:
        return
    found = {**found, "rows": [row.as_json() for row in rows]}
    os.makedirs(os.path.dirname(RESULTS), exist_ok=True)
    with open(RESULTS, "w") as file:
        json.dump(found, file, indent=1)
        file.write("\n")
    page.write(found, DOCS)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="the same ratios, rougher")
    parser.add_argument("--only", default=",".join(MEASURES), help=f"of {', '.join(MEASURES)}")
    parser.add_argument("--in", dest="base", default=".bench", help="where to work [.bench]")
    parser.add_argument("--save", action="store_true", help="write docs/benchmarks.md")
    given = parser.parse_args()
    given.only = given.only.split(",")
    if unknown := [name for name in given.only if name not in MEASURES]:
        parser.error(f"--only {unknown[0]}: expected some of {', '.join(MEASURES)}")
    return given


def main() -> int:
    """Run as a program."""
    given = arguments()
    began = time.monotonic()
    base = os.path.abspath(given.base)
    os.makedirs(base, exist_ok=True)
    rooms.spread_out(base)
    # Every program may use compiled bytecode, whatever the caller's environment says.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = f"{base}/pycache"
    try:
        program = reference.build(base)
        if program is None:
            warn("no C compiler: the reference is left out, and with it the ratios to the limit")
        about = machine.described(base)
        print("; ".join(f"{key} {value}" for key, value in about.items()), flush=True)
        rows = measured(Stand(base, program, given.quick), given.only)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    seconds = time.monotonic() - began
    told = [row.target.met(row) for row in rows]
    print(f"{told.count(True)} targets met, {told.count(False)} not, in {seconds:.0f} s")
    found: dict[str, object] = {
        "command": "make bench-quick" if given.quick else "make bench",
        "date": time.strftime("%Y-%m-%d"),
        "seconds": round(seconds),
        "machine": about,
    }
    if given.save:
        save(found, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
