"""11: what the page and the metrics cost: the handlers' time, and the memory of both processes.

The page is a process of its own (`watcher.web`). The daemon is measured without it, with it, with a
scraper that reads the metrics each second, and with 200 clients that are slow on purpose; all in
one run, in turn.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

from bench import clients, consumers
from bench.figures import ratios, spread
from bench.measures import latency, throughput
from bench.rooms import Room, Writer, room
from bench.rows import Row
from bench.stand import Stand, tell

PATIENCE = 60.0  # seconds
WATCHED = 5.0  # seconds for which the page's processor time is read
MEGABYTE = 1024.0  # kB
OFF = "page off"
SIDES = {OFF: "", "page on": "", "page on, a scraper": "scraper", "page on, 200 slow": "slow"}
WORDS = (
    "a storm, an entry",
    "a storm, processor time of the daemon an entry",
    "latency, p50, 200/s",
    "latency, p99, 200/s",
)
TICKS = os.sysconf("SC_CLK_TCK")


class Side(NamedTuple):
    """What was measured on one side, in microseconds."""

    storm: list[float]  # from the first rename to the last handler, an entry
    cpu: list[float]  # the daemon's processor time, an entry
    p50: list[float]  # latency
    p99: list[float]


class Process(NamedTuple):
    """What one process uses."""

    rss: float  # MB
    pss: float  # MB: what it shares is divided
    cpu: float  # seconds


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def visited(kind: str, port: int) -> Iterator[None]:
    """Have clients of this kind at work."""
    if not kind:
        yield
        return
    argv = [sys.executable, clients.__file__, kind, str(port)]
    with subprocess.Popen(argv) as process:
        try:
            yield
        finally:
            process.kill()


def wait_served(port: int) -> None:
    """Wait until the page answers."""
    ends = time.monotonic() + PATIENCE
    while time.monotonic() < ends:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as one:
            one.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            if one.recv(100).startswith(b"HTTP/1.1 200"):
                return
        time.sleep(0.05)
    raise RuntimeError("the page was not served")


@contextlib.contextmanager
def served(stand: Stand, side: str, expect: int = 0) -> Iterator[tuple[consumers.Consumer, Room]]:
    """Run the daemon of one side, with its clients."""
    port = free_port()
    with room(stand.base) as place:
        argv = consumers.daemon_argv(place)
        if side != OFF:
            argv += ["--http", f"127.0.0.1:{port}"]
        with consumers.running(argv, place, expect) as consumer:
            consumer.wait_armed()
            if side != OFF:
                wait_served(port)
            with visited(SIDES[side], port):
                time.sleep(1.0 if SIDES[side] else 0.0)  # until the clients are connected
                yield consumer, place


def handled(stand: Stand, side: str, count: int, rate: float) -> dict[str, int]:
    """Have the daemon handle entries."""
    with served(stand, side, count) as (consumer, place):
        writer = Writer(place, count, rate)
        writer.go()
        writer.wait()
        result = consumer.result(PATIENCE)
        throughput.checked(result, place, count, "first_commit")
        return result


def use_of(pid: int) -> Process:
    """Return what a process uses now."""
    found = {}
    with open(f"/proc/{pid}/smaps_rollup") as lines:
        for line in lines:
            key, _, value = line.partition(":")
            if key in {"Rss", "Pss"}:
                found[key] = int(value.split()[0]) / MEGABYTE
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return Process(found["Rss"], found["Pss"], (int(fields[11]) + int(fields[12])) / TICKS)


def uses(stand: Stand, side: str, count: int) -> list[tuple[str, Process]]:
    """Return what the daemon uses after a storm, and its page's process while it is visited."""
    with served(stand, side) as (consumer, place):
        writer = Writer(place, count)
        writer.go()
        writer.wait()
        ends = time.monotonic() + PATIENCE
        while place.waiting() and time.monotonic() < ends:
            time.sleep(0.05)
        found = [("daemon", consumer.pid), *(("page", pid) for pid in pages(consumer.pid))]
        before = {name: use_of(pid).cpu for name, pid in found}
        time.sleep(WATCHED)
        now = [(name, use_of(pid)) for name, pid in found]
        return [(name, use._replace(cpu=use.cpu - before[name])) for name, use in now]


def pages(daemon: int) -> list[int]:
    """Return the processes of a daemon's page."""
    found = []
    for pid in consumers.children(daemon):
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            if b"watcher.web" in file.read():
                found.append(pid)
    return found


def measure(stand: Stand) -> list[Row]:
    """Compare the daemon without the page with the others."""
    single, burst = stand.pick(300, 200), stand.pick(6_000, 3_000)
    found = {side: Side([], [], [], []) for side in SIDES}
    for number in range(stand.rounds):
        for side in list(SIDES)[:: -1 if number % 2 else 1]:
            storm = handled(stand, side, burst, 0)
            spent = storm["last"] - storm["first_commit"]
            found[side].storm.append(spent / latency.MICRO / (burst - 1))
            found[side].cpu.append(storm["cpu"] / latency.MICRO / burst)
            alone = handled(stand, side, single, latency.RATE)
            found[side].p50.append(alone["p50"] / latency.MICRO)
            found[side].p99.append(alone["p99"] / latency.MICRO)
    rows = []
    for side in list(SIDES)[1:]:
        for about, here, there in zip(WORDS, found[side], found[OFF], strict=True):
            ratio = ratios(here, there)
            row = Row(11, f"{side}: {about}", "us", spread(here), spread(there), OFF, ratio)
            rows.append(tell(row))
    return rows + used(stand, burst)


def used(stand: Stand, count: int) -> list[Row]:
    """Measure the memory and the processor time of both processes, once each."""
    rows = []
    for side in SIDES:
        for name, use in uses(stand, side, count):
            share = 100 * use.cpu / WATCHED
            about = {"RSS": (use.rss, "MB"), "PSS": (use.pss, "MB"), "processor": (share, "%")}
            for what, (value, unit) in about.items():
                words = f"{side}: {name}, {what} after a storm"
                rows.append(tell(Row(11, words, unit, spread([value]))))
    return rows
