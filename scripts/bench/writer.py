"""The writer of the benchmark: renames whole files into a queue, to names with the time.

    writer.py QUEUE STAGE PAYLOAD COUNT RATE [FIRST]   prints "ready", waits for a line, renames
    writer.py fill QUEUE PAYLOAD COUNT                 writes a backlog into the queue

COUNT copies of the file PAYLOAD are first made in STAGE, so that only the renames are timed; where
STAGE is QUEUE, each is made there as `.NUMBER.tmp` before its rename. RATE
is entries in a second; 0: as fast as possible. A name is SECONDS.NANOSECONDS+NUMBER.pck with the
time of CLOCK_MONOTONIC just before the rename, in the form of Mailman's names.
"""

from __future__ import annotations

import os
import sys
import time


def name_at(moment: int, number: int) -> str:
    """Return the name of the entry that is renamed in now."""
    return f"{moment // 1_000_000_000}.{moment % 1_000_000_000:09d}+{number:040d}.pck"


def make(path: str, data: bytes) -> None:
    """Write one file."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)


def storm(queue: str, stage: str, count: int, rate: float, first: int, data: bytes) -> None:
    """Rename the staged files at that rate (entries in a second; 0: at once)."""
    began = time.monotonic_ns()
    for number in range(first, first + count):
        if rate:
            due = began + int((number - first) * 1e9 / rate)
            wait = (due - time.monotonic_ns()) / 1e9
            if wait > 0:
                time.sleep(wait)
        source = f"{stage}/{number}"
        if stage == queue:
            source = f"{queue}/.{number}.tmp"
            make(source, data)
        os.rename(source, f"{queue}/{name_at(time.monotonic_ns(), number)}")


def fill(queue: str, data: bytes, count: int) -> None:
    """Make a backlog in the order of its numbers, without a sync, before a program watches."""
    for number in range(count):
        make(f"{queue}/{name_at(time.monotonic_ns(), number)}", data)


def main(arguments: list[str]) -> None:
    """Run as a program."""
    if arguments[0] == "fill":
        with open(arguments[2], "rb") as file:
            fill(arguments[1], file.read(), int(arguments[3]))
        return
    queue, stage, payload = arguments[:3]
    count, rate = int(arguments[3]), float(arguments[4])
    first = int(arguments[5]) if len(arguments) > 5 else 0  # noqa: PLR2004 - the sixth is optional
    with open(payload, "rb") as file:
        data = file.read()
    for number in range(first, first + count) if stage != queue else ():
        make(f"{stage}/{number}", data)
    print("ready", flush=True)
    sys.stdin.readline()
    storm(queue, stage, count, rate, first, data)
    print("written", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
