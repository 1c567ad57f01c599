"""What the line of a handled entry costs.

    python -m bench.log_cost [FILE]     in scripts/

Standard error is FILE (default: /dev/null), and a line is written to it in each form. The time is
that of one call of `log.transition`, the record included; beside it that of write(2) alone.
The shortest of many short runs counts, so that another process on the machine adds nothing.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

from watcher.observe import log
from watcher.rules.delays import Delays
from watcher.rules.lifecycle import Move, State, Transition

CALLS, RUNS = 400, 500
NAME = b"1017783548.1234+da39a3ee5e6b4b0d3255bfef95601890afd80709"
DELAYS = Delays(0.0, 0.0021437, 0.0001219, 0.0000231)


def microseconds(call: Callable[[], object]) -> float:
    """Return how long one call takes."""
    shortest = float("inf")
    for _ in range(RUNS):
        began = time.perf_counter()
        for _ in range(CALLS):
            call()
        shortest = min(shortest, time.perf_counter() - began)
    return shortest / CALLS * 1e6


def handled() -> None:
    """Log one handled entry."""
    log.transition(
        Transition("incoming", NAME, Move.FINISH, State.DONE, "", DELAYS.handler, DELAYS, 1)
    )


def main() -> None:
    """Measure and print."""
    file = os.open(sys.argv[1] if len(sys.argv) > 1 else os.devnull, os.O_WRONLY | os.O_CREAT)
    os.dup2(file, 2)
    line = b"x" * 150 + b"\n"
    print(f"write(2) alone   {microseconds(lambda: os.write(2, line)):5.2f} us")
    for style, level in (("text", "info"), ("json", "info"), ("text", "warning")):
        log.setup(style, level)
        print(f"{style:5}{level:9}   {microseconds(handled):5.2f} us")


if __name__ == "__main__":
    main()
