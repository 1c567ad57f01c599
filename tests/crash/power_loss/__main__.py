"""Lose the power at every point of every transition; print how many states, and what broke.

    python tests/crash/power_loss [--only TEXT] [--blind "sync names"] [--twice]

Ends with 1 if a promise was broken.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [HERE, os.path.dirname(os.path.dirname(HERE))]

from power_loss.scenarios import scenarios  # noqa: E402 - the path comes first
from power_loss.trial import Result, Trial  # noqa: E402 - the same

MEMORY = "/dev/shm"


def main() -> int:
    """Try what was asked for."""
    parser = argparse.ArgumentParser(description="Lose the power at every point.")
    parser.add_argument("--only", default="", help="scenarios with this in their name")
    parser.add_argument("--blind", action="append", default=[], help="an operation left out")
    parser.add_argument("--twice", action="store_true", help="a crash, and another in recovery")
    options = parser.parse_args()
    head = f"{'operations':>11}{'points':>8}{'ordered':>9}{'weak':>8}  broken"
    print(f"{'transition':42}{head}", flush=True)
    began, total, bad = time.monotonic(), 0, 0
    with tempfile.TemporaryDirectory(dir=MEMORY if os.path.isdir(MEMORY) else None) as base:
        for scenario in scenarios():
            if options.only not in scenario.name:
                continue
            trials = [Trial(scenario, base, weak=weak) for weak in (False, True)]
            found = [(" ", [trial.once(options.blind) for trial in trials])]
            if options.twice:
                trials = [Trial(scenario, base, weak=weak) for weak in (False, True)]
                found.append((" killed, ", [trial.killed_before() for trial in trials]))
                trials = [Trial(scenario, base, weak=weak) for weak in (False, True)]
                found.append((" lost, ", [trial.lost_before() for trial in trials]))
            for how, results in found:
                total += sum(result.states for result in results)
                bad += show(how, *results)
    print(f"\n{total:,} states in {time.monotonic() - began:.0f} s; broken: {bad}")
    return 1 if bad else 0


def show(how: str, ordered: Result, weak: Result) -> int:
    """Print a line, and what is broken; return how much."""
    broken = ordered.broken + weak.broken
    counts = f"{weak.operations:11}{weak.points:8}{ordered.states:9}{weak.states:8}"
    print(f"{how[1:] + weak.name:42}{counts}  {len(broken)}", flush=True)
    for line in broken[:3]:
        print("   ", line)
    return len(broken)


if __name__ == "__main__":
    sys.exit(main())
