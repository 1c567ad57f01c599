"""Measure the time of an entry in Python, in the kernel and in the command.

    python scripts/bench/where.py [--in DIRECTORY]

Processor time an entry, in microseconds, as the kernel counts it for the processes (in ticks of
10 ms, so many entries are handled). The entries are there before the clock begins.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

_SCRIPTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [_SCRIPTS, os.path.dirname(_SCRIPTS)]  # this file is run directly

from bench import consumers, rooms  # noqa: E402 - sys.path is set first
from bench.measures import commands, idle  # noqa: E402 - the same
from bench.rooms import Writer, room  # noqa: E402 - the same
from bench.stand import Stand  # noqa: E402 - the same

ENTRIES, COMMANDS = 15_000, 1_500
MICRO = 1e6
TICK = os.sysconf("SC_CLK_TCK")


class Spent(NamedTuple):
    """Seconds of processor time: of a process in Python and in the kernel; of its commands."""

    python: float
    kernel: float
    commands: float

    def since(self, before: Spent) -> Spent:
        """Return the time since an earlier value."""
        return Spent(*(now - then for now, then in zip(self, before, strict=True)))


def spent(pid: int) -> Spent:
    """Return the time of a process until now, with its ended children."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    user, kernel, user_below, kernel_below = (int(field) / TICK for field in fields[11:15])
    return Spent(user, kernel, user_below + kernel_below)


def of_daemon(stand: Stand, count: int, argv: Callable[..., Sequence[str]], *options: str) -> Spent:
    """Return the time of the daemon for `count` entries."""
    with room(stand.base) as place:
        writer = Writer(place, count)
        with consumers.running(argv(place, *options), place) as consumer:
            consumer.wait_armed()
            os.kill(consumer.pid, signal.SIGSTOP)
            writer.go()
            writer.wait()
            before = spent(consumer.pid)
            os.kill(consumer.pid, signal.SIGCONT)
            commands.empty_since(place)
            return spent(consumer.pid).since(before)


def of_bare_loop(stand: Stand, workers: int) -> Spent:
    """Return the time of a bare loop over `subprocess`."""
    with room(stand.base) as place:
        place.fill(COMMANDS)
        before = spent(os.getpid())
        commands.loop(place, workers)
        return spent(os.getpid()).since(before)


def tell(what: str, found: Spent, count: int) -> None:
    """Print a line."""
    python, kernel, below = (value / count * MICRO for value in found)
    print(f"{what:44}{python:8.1f}{kernel:8.1f}{below:10.0f}", flush=True)


def main() -> int:
    """Run as a program."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--in", dest="base", default=".bench", help="where to work [.bench]")
    base = os.path.abspath(parser.parse_args().base)
    os.makedirs(base, exist_ok=True)
    rooms.spread_out(base)
    stand = Stand(base, None, quick=False)
    print(f"{'us of a processor an entry':44}{'Python':>8}{'kernel':>8}{'command':>10}")
    try:
        noop = of_daemon(stand, ENTRIES, consumers.daemon_argv, "noop")
        tell("a python handler that does nothing", noop, ENTRIES)
        for workers in commands.WORKERS:
            more = ("--concurrency", str(workers))
            ours = of_daemon(stand, COMMANDS, idle.exec_argv, *more)
            tell(f"a command, {workers} at once", ours, COMMANDS)
            tell(
                f"a bare loop over subprocess, {workers} at once",
                of_bare_loop(stand, workers),
                COMMANDS,
            )
    finally:
        shutil.rmtree(base, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
