"""Lose the power at every point of every transition; print how many states, and what broke.

    python tests/crash/power_loss [--only TEXT] [--blind "sync names"]

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
from power_loss.trial import try_all  # noqa: E402 - the same

MEMORY = "/dev/shm"


def main() -> int:
    """Try what was asked for."""
    parser = argparse.ArgumentParser(description="Lose the power at every point.")
    parser.add_argument("--only", default="", help="scenarios with this in their name")
    parser.add_argument("--blind", action="append", default=[], help="an operation left out")
    options = parser.parse_args()
    print(f"{'transition':34}{'operations':>11}{'ordered':>9}{'weak':>8}  broken", flush=True)
    began, total, bad = time.monotonic(), 0, 0
    with tempfile.TemporaryDirectory(dir=MEMORY if os.path.isdir(MEMORY) else None) as base:
        for scenario in scenarios():
            if options.only not in scenario.name:
                continue
            ordered, weak = (
                try_all(scenario, base, weak=kind, blind=tuple(options.blind))
                for kind in (False, True)
            )
            broken = ordered.broken + weak.broken
            print(
                f"{scenario.name:34}{weak.operations:11}{ordered.states:9}{weak.states:8}"
                f"  {len(broken)}",
                flush=True,
            )
            for line in broken[:3]:
                print("   ", line)
            total += ordered.states + weak.states
            bad += len(broken)
    print(f"\n{total:,} states in {time.monotonic() - began:.0f} s; broken: {bad}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
