"""How long `watcher status` takes for a large queue, and how much memory: one table.

    python scripts/bench/status.py [DIRECTORY] [--entries N]

Makes a queue below DIRECTORY (default: the system's temporary directory) with N empty entries that
are ready, and N / 10 deferred and N / 10 dead ones with notes; then runs the command with a warm
cache, and prints seconds by the wall clock and of the processor, and the largest resident memory.
The queue is removed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

NOTE = b'{"why": "exit status 75: connect to 10.0.0.%d:25: Connection refused"}'


def make(queue: Path, entries: int) -> None:
    """Make the files of a queue."""
    for number in range(entries):
        _touch(f"{queue}/{1_700_000_000 + number / 1000:.6f}+{number:040x}.pck")
    for place in ("deferred", "dead"):
        directory = queue / ".watcher" / place
        directory.mkdir(parents=True)
        for number in range(entries // 10):
            stamp = f"20990101T{number % 24:02}0000.000Z-a1-c0-d60-w60-" * (place == "deferred")
            _touch(f"{directory}/{stamp}{number:040x}.pck")
            with open(f"{directory}/{stamp}{number:040x}.json", "wb") as note:
                note.write(NOTE % (number % 256))


def _touch(path: str) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))


class Measure(NamedTuple):
    """Seconds by the wall clock and of the processor; the largest resident memory in MiB."""

    seconds: float
    cpu: float
    memory: float


def measure(*arguments: str) -> Measure:
    """Run a command."""
    begin = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "watcher", *arguments], stdout=subprocess.DEVNULL
    )
    _, code, usage = os.wait4(process.pid, 0)
    if code:
        sys.exit(f"watcher {' '.join(arguments)}: status {code}")
    cpu = usage.ru_utime + usage.ru_stime
    return Measure(time.monotonic() - begin, cpu, usage.ru_maxrss / 1024)


def main() -> None:
    """Make the queue, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", nargs="?", default=tempfile.gettempdir())
    parser.add_argument("--entries", type=int, default=1_000_000)
    given = parser.parse_args()
    queue = Path(tempfile.mkdtemp(prefix="watcher-status-", dir=given.directory))
    try:
        empty = measure("status", str(queue))
        make(queue, given.entries)
        large = measure("status", str(queue))
        argv = [sys.executable, "-P", "-m", "watcher", "status", str(queue), "--json"]
        found = json.loads(subprocess.run(argv, check=True, stdout=subprocess.PIPE).stdout)
        ready = found["states"]["ready"]
        print(f"entries in {given.directory}    seconds  of processor    MiB")
        print(f"{0:>12,}{empty.seconds:>12.2f}{empty.cpu:>14.2f}{empty.memory:>8.0f}")
        print(f"{ready['count']:>12,}{large.seconds:>12.2f}{large.cpu:>14.2f}{large.memory:>8.0f}")
        print(f"all counted: {ready['counted_all']}, all ages: {ready['looked_at_all_ages']}")
        print(f"notes read: {found['failures']['read']:,} of {2 * (given.entries // 10):,}")
    finally:
        shutil.rmtree(queue)


if __name__ == "__main__":
    main()
