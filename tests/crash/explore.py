"""Explore every interleaving and crash of the scenarios, and print what was found.

    python tests/crash/explore.py [--quick | --no-long | --long] [--only TEXT] [--trace] [--json]
                                  [--seconds S] [--jobs N]

Prints a line for each scenario: the number of different states, of runs and steps, of kills (one
after each step that changed something), of different ends, and of broken promises; then, with
--trace, the way to each of these. "not finished": the time was over first. "N switches": only the
orders in which at most N times an actor that could continue is interrupted by another one (a switch
from an actor that ended or waits is not counted). Ends with 1 if a promise is broken, or if a rule
that breaks one is not found.
--json prints a line of JSON a scenario instead. Needs Linux, and no special rights.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [HERE, ROOT, os.path.join(ROOT, "scripts")]

MEMORY = "/dev/shm"  # no disk has to keep these directories
_HEAD = (
    f"{'scenario':48}{'states':>8}{'runs':>7}{'steps':>9}{'crashes':>9}{'ends':>6}{'s':>6}  broken"
)
_LONG_NAME = re.compile(r"(2[0-9.]*\+)?[0-9a-f]{40}")


def explore(name: str, seconds: float) -> dict[str, Any]:
    """Explore one scenario in this process, which must have no other thread: it forks."""
    from explorer.scenarios import all_scenarios
    from explorer.search import Search

    [scenario] = [each for each in all_scenarios() if each.name == name]
    base = tempfile.mkdtemp(prefix="explore-", dir=MEMORY if os.path.isdir(MEMORY) else None)
    began = time.monotonic()
    try:
        to_find = scenario.old_rule or scenario.broken
        most = 1 if to_find else 3  # one loss is enough of what has to be found
        result = Search(scenario, f"{base}/q", most).explore(seconds)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    found = [[each.what, list(each.trace)] for each in result.found]
    fields = result._asdict() | {"found": found, "seconds": round(time.monotonic() - began, 1)}
    return fields | {"old_rule": to_find, "switches": scenario.switches}


def in_a_process(name: str, seconds: float) -> dict[str, Any]:
    """Explore one scenario in a process of its own."""
    command = [sys.executable, os.path.abspath(__file__), "--one", name, "--seconds", str(seconds)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name}: the explorer itself failed")
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def main() -> int:
    """Explore the scenarios that the options select."""
    options = _options()
    if options.one:
        print(json.dumps(explore(options.one, options.seconds)))
        return 0
    names = _names(options)
    if not options.json:
        print(_HEAD, flush=True)
    bad, totals = 0, [0, 0, 0]
    with ThreadPoolExecutor(options.jobs) as pool:
        for told in pool.map(lambda name: in_a_process(name, options.seconds), names):
            _say(told, options)
            bad += not _as_it_should(told)
            for place, field in enumerate(("states", "runs", "crashes")):
                totals[place] += told[field]
    if not options.json:
        states, runs, crashes = totals
        print(
            f"\n{states:,} states, {runs:,} runs, {crashes:,} crashes; not as it should be: {bad}"
        )
    return 1 if bad else 0


def _names(options: argparse.Namespace) -> list[str]:
    """List the scenarios, without forking from a process that has threads later."""
    from explorer.scenarios import all_scenarios

    return [
        scenario.name
        for scenario in all_scenarios()
        if options.only in scenario.name
        and not any(words in scenario.name for words in options.without)
        and (scenario.quick or not options.quick)
        and not (scenario.long and options.no_long)
        and (scenario.long or not options.long)
    ]


def _as_it_should(told: dict[str, Any]) -> bool:
    return bool(told["found"]) == told["old_rule"] and (told["complete"] or bool(told["found"]))


def _say(told: dict[str, Any], options: argparse.Namespace) -> None:
    if options.json:
        print(json.dumps(told), flush=True)
        return
    counts = (
        f"{told['states']:8}{told['runs']:7}{told['steps']:9}{told['crashes']:9}{told['ends']:6}"
    )
    state = "" if told["switches"] is None else f"  {told['switches']} switches"
    state += "" if told["complete"] or told["found"] else "  not finished"
    expected = "  (found, as it must be)" if told["old_rule"] and told["found"] else ""
    print(
        f"{told['name']:48}{counts}{told['seconds']:6.0f}  {len(told['found'])}{expected}{state}",
        flush=True,
    )
    for what, trace in told["found"]:
        print("   ", _LONG_NAME.sub("X", what))
        if options.trace or told["old_rule"]:
            for line in trace:
                print("       ", _LONG_NAME.sub("X", line))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Explore interleavings and crashes.")
    parser.add_argument("--only", default="", help="scenarios with this in their name")
    parser.add_argument("--without", action="append", default=[], help="and without these")
    parser.add_argument("--quick", action="store_true", help="those that take seconds")
    parser.add_argument("--long", action="store_true", help="only those that take minutes")
    parser.add_argument("--no-long", action="store_true", help="without those that take minutes")
    parser.add_argument("--trace", action="store_true", help="print the way to what was found")
    parser.add_argument("--seconds", type=float, default=300.0, help="for one scenario at most")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="scenarios at a time")
    parser.add_argument("--json", action="store_true", help="a line of JSON a scenario")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
