"""What many directories in one daemon cost: start, memory, threads, descriptors, watches, latency.

    PYTHONPATH=scripts .venv/bin/python -P scripts/bench/directories.py [NUMBER ...]

Makes NUMBER directories (default 1000), starts `watcher run` on `path = "in/*"` twice (the first
start makes each `.watcher/`), and prints one line for each start.
"""

from __future__ import annotations

import contextlib
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from writers import commit_2_1_5, message_for, no_pause

ENTRIES = 20  # for the latency
PATIENCE = 300.0  # seconds


def _start(place: Path, count: int) -> tuple[subprocess.Popen[bytes], float]:
    """Start a daemon; return its process and the seconds until every directory was scanned."""
    log = place / "log"
    began = time.monotonic()
    argv = [sys.executable, "-P", "-m", "watcher", "run", "--config", str(place / "w.toml")]
    with log.open("wb") as output:
        daemon = subprocess.Popen(argv, stderr=output)
    while log.read_bytes().count(b" ready") < count:
        if daemon.poll() is not None or time.monotonic() > began + PATIENCE:
            raise SystemExit(log.read_text()[-1000:])
        time.sleep(0.02)
    return daemon, time.monotonic() - began


def _proc(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text(encoding="utf-8")


def _cpu(pid: int) -> float:
    fields = _proc(pid, "stat").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _watches(pid: int) -> int:
    total = 0
    for fd in os.listdir(f"/proc/{pid}/fdinfo"):
        with contextlib.suppress(OSError):
            total += _proc(pid, f"fdinfo/{fd}").count("inotify wd:")
    return total


def _latency(place: Path, count: int) -> float:
    """Return the median of milliseconds from the commit of an entry to its removal."""
    times = []
    for number in range(ENTRIES):
        directory = place / "in" / f"{number * 37 % count:05}"
        name = commit_2_1_5(str(directory), message_for(1, number), no_pause)
        began = time.monotonic()
        while (directory / f"{name}.pck").exists():
            time.sleep(0.0005)
        times.append((time.monotonic() - began) * 1000)
        time.sleep(0.05)
    return statistics.median(times)


def measure(place: Path, count: int, which: str) -> None:
    """Start a daemon once, and print what it takes."""
    daemon, seconds = _start(place, count)
    try:
        pid = daemon.pid
        found = re.search(r"VmRSS:\s+(\d+) kB", _proc(pid, "status"))
        numbers = {
            "s to start": f"{seconds:.1f}",
            "s of processor time": f"{_cpu(pid):.1f}",
            "MB": f"{int(found[1]) / 1000:.0f}" if found else "?",
            "threads": len(os.listdir(f"/proc/{pid}/task")),
            "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
            "watches": _watches(pid),
            "ms from commit to done": f"{_latency(place, count):.1f}",
        }
    finally:
        began = time.monotonic()
        daemon.terminate()
        daemon.wait(PATIENCE)
    numbers["s to stop"] = f"{time.monotonic() - began:.1f}"
    words = ", ".join(f"{value} {what}" for what, value in numbers.items())
    print(f"{count} directories, {which} start: {words}")


def main() -> None:
    """Measure each number of directories."""
    for count in map(int, sys.argv[1:] or ["1000"]):
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            for number in range(count):
                (place / "in" / f"{number:05}").mkdir(parents=True)
            (place / "w.toml").write_text(
                '[queues.in]\npath = "in/*"\nhandler = { exec = ["true"] }\n'
            )
            for which in ("first", "second"):
                measure(place, count, which)


if __name__ == "__main__":
    main()
