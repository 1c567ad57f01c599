"""5: an idle daemon; the time of its start; the cost of `watcher enqueue`."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from bench import consumers
from bench.figures import spread
from bench.rooms import Room, room
from bench.rows import Row, Target
from bench.stand import Stand, tell

MEGABYTE = 1 << 20
MILLI = 1000.0
WARM_UP = 1.0  # seconds until the work of the start is over
NOTHING = "/bin/true"


def resident(pid: int) -> float:
    """Return the resident memory of a process, in MB."""
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MEGABYTE


def wake_ups(pid: int) -> int:
    """Return how often the threads of a process have gone to sleep."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/status") as file:
            for line in file:
                if line.startswith("voluntary_ctxt_switches"):
                    total += int(line.split()[1])
    return total


def exec_argv(place: Room, *options: str) -> list[str]:
    """Return the daemon with a command for its handler."""
    begin = [sys.executable, "-P", "-m", "watcher", "run", place.queue, *consumers.QUIET]
    return [*begin, *options, "--", NOTHING]


def idle(stand: Stand, seconds: float) -> tuple[float, float]:
    """Return the wake-ups in so many seconds between sweeps, and the memory."""
    with room(stand.base) as place, consumers.running(exec_argv(place), place) as consumer:
        consumer.wait_armed()
        time.sleep(WARM_UP)
        before = wake_ups(consumer.pid)
        time.sleep(seconds)
        return float(wake_ups(consumer.pid) - before), resident(consumer.pid)


def until_armed(stand: Stand) -> float:
    """Return the milliseconds from the start of the process until it has its watch."""
    with room(stand.base) as place:
        began = time.monotonic()
        with consumers.running(exec_argv(place), place) as consumer:
            while not consumers.armed(consumer.pid):
                time.sleep(0.0005)
            return (time.monotonic() - began) * MILLI


def process(argv: list[str]) -> float:
    """Return the milliseconds that a process takes."""
    began = time.monotonic()
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, env=environment())
    return (time.monotonic() - began) * MILLI


def environment() -> dict[str, str]:
    """Return an environment in which watcher is found."""
    return {**os.environ, **consumers.environment(0)}


def enqueue_process(stand: Stand) -> float:
    """Return the milliseconds of `watcher enqueue` of one file."""
    with room(stand.base) as place:
        return process(
            [sys.executable, "-P", "-m", "watcher", "enqueue", place.queue, place.payload]
        )


def measure(stand: Stand) -> list[Row]:
    """Measure an idle daemon and two short-lived processes."""
    seconds = float(stand.pick(20, 2))
    woken, memory = idle(stand, seconds)
    times = stand.pick(15, 3)
    bare = [process([sys.executable, "-c", "pass"]) for _ in range(times)]
    start = [until_armed(stand) for _ in range(times)]
    enqueue = [enqueue_process(stand) for _ in range(times)]

    def row(what: str, unit: str, values: list[float], most: float, note: str = "") -> Row:
        return tell(
            Row(5, what, unit, spread(values), target=Target(most=most, of="ours"), note=note)
        )

    interpreter = f"python alone: {spread(bare).median:.0f} ms"
    return [
        row(f"idle: wake-ups in {seconds:.0f} s between sweeps", "wake-ups", [woken], 0.0),
        row("idle: resident memory, exec handler", "MB", [memory], 30.0),
        row("start of the process to armed", "ms", start, 150.0, interpreter),
        row("`watcher enqueue` of one file, the process", "ms", enqueue, 100.0, interpreter),
    ]
