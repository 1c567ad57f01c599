"""The trials of one peer, or of watcher: latency, a storm, a backlog, loss.

Guarantees: every trial is the same for all; if a peer cannot do something, that is None and not 0.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import IO, Any, NamedTuple

from bench import consumers, strace
from bench.figures import rate
from bench.peers import programs
from bench.peers.programs import Program
from bench.rooms import Room, Writer, room
from bench.stand import Stand

OURS = Program("watcher", "", "", files=True, drains=True)
SINGLE = 200.0  # entries a second
PATIENCE = 4.0  # seconds for a hundred entries and a start
LONGEST = 45.0  # seconds to wait for the slowest
STILL = 2.5  # seconds without a change after which a trial ends
SYNCS = ("fsync", "fdatasync", "msync", "sync_file_range")


class Producer:
    """A peer's own way to commit, with the interface of `rooms.Writer`."""

    def __init__(self, argv: list[str]) -> None:
        self._process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=programs.found()
        )
        self._line()

    def _line(self) -> bytes:
        out: IO[bytes] = self._process.stdout  # type: ignore[assignment]
        return out.readline()

    def go(self) -> None:
        """Begin."""
        into: IO[bytes] = self._process.stdin  # type: ignore[assignment]
        into.write(b"go\n")
        into.flush()

    def wait(self) -> float:
        """Wait for the last commit; return the seconds that all took."""
        self._line()
        seconds: float = json.loads(self._line())["seconds"]
        self._process.communicate()
        return seconds


def payload(program: Program, place: Room) -> None:
    """Write the payload in the peer's format (Mailman's is a pickle)."""
    if program.module == "mailman_runner":
        produced(program, place, 1)
        (name,) = os.listdir(place.queue)
        os.replace(f"{place.queue}/{name}", place.payload)


def produced(program: Program, place: Room, count: int) -> float:
    """Commit so many in the peer's own way; return the seconds."""
    producer = Producer(program.produce(place, count, 0))
    producer.go()
    return producer.wait()


@contextlib.contextmanager
def started(
    stand: Stand, program: Program, place: Room, count: int, **extra: str
) -> Iterator[consumers.Consumer]:
    """Start a peer, or watcher, on a room, and wait until it watches if it does."""
    if program is OURS:
        argv = consumers.daemon_argv(place, options='grace_age = "1s"')
    else:
        argv = program.consume(stand, place, count)
    with consumers.running(argv, place, count, extra) as consumer:
        if program.python:
            consumer.wait_ready()
        if program.files and program.name != "Mailman 3" and not extra:
            consumer.wait_armed()
        yield consumer


def writer_for(program: Program, place: Room, count: int, speed: float) -> Writer | Producer:
    """Return the writer for a program."""
    if program.files:
        return Writer(place, count, speed)
    return Producer(program.produce(place, count, speed))


def concluded(
    program: Program, consumer: consumers.Consumer, place: Room, seconds: float
) -> dict[str, Any]:
    """Return the result of a peer; that of one that starts commands is in their log."""
    if program.python or program is OURS:
        return consumer.result(seconds)
    until_still(place)
    with open(f"{place.path}/log") as file:
        moments = [tuple(map(int, line.split())) for line in file]
    starts = sorted(start for _, start in moments)
    waits = sorted(start - commit for commit, start in moments)
    return {
        "handled": len(starts),
        "first": starts[0],
        "last": starts[-1],
        "first_commit": min(commit for commit, _ in moments),
        "p50": waits[len(waits) // 2],
    }


def latency(stand: Stand, program: Program, count: int) -> float:
    """Return the median from commit to handler, in microseconds."""
    with room(stand.base) as place:
        payload(program, place)
        with started(stand, program, place, count) as consumer:
            writer = writer_for(program, place, count, SINGLE)
            writer.go()
            writer.wait()
            found: float = concluded(program, consumer, place, 20.0)["p50"]
            return found / 1000


class Storm(NamedTuple):
    """The result of a storm."""

    rate: float  # entries a second
    died: str  # the error that ended the consumer, or ""


def storm(stand: Stand, program: Program, count: int, seconds: float) -> Storm:
    """Commit entries as fast as possible."""
    with room(stand.base) as place:
        payload(program, place)
        writer = writer_for(program, place, count, 0)
        with started(stand, program, place, count) as consumer:
            writer.go()
            writer.wait()
            found = concluded(program, consumer, place, seconds)
            speed = rate(found["handled"], found["first_commit"], found["last"])
            return Storm(speed, found.get("died", ""))


def drain(stand: Stand, program: Program, count: int, seconds: float) -> float | None:
    """Return entries a second out of a backlog; cut short after so many seconds."""
    if not program.drains:
        return None
    with room(stand.base) as place:
        payload(program, place)
        if program.files:
            place.fill(count)
        else:
            produced(program, place, count)
        with started(stand, program, place, count, BENCH_BACKLOG="1") as consumer:
            found = consumer.result(seconds)
            return rate(found["handled"], found["first"], found["last"])


class Commits(NamedTuple):
    """The cost of a commit."""

    micro: float
    syncs: int | None  # None without strace


def commits(stand: Stand, program: Program, count: int) -> Commits | None:
    """Return the cost of a commit in the peer's own way."""
    if not program.python or (program.files and program.name != "Mailman 3"):
        return None
    with room(stand.base) as place:
        micro = produced(program, place, count) / count * 1e6
        if not strace.here():
            return Commits(micro, None)
        summary, entries = f"{place.path}/calls", 20
        producer = Producer(strace.counting(program.produce(place, entries, 0), summary))
        producer.go()
        producer.wait()
        with open(summary) as file:
            calls = strace.parsed(file.read())
        return Commits(micro, sum(calls.get(name, 0) for name in SYNCS) // entries)


def lost_in_storm(stand: Stand, program: Program, count: int) -> int | None:
    """Return how many entries are never handled that were committed while it was stopped."""
    if not program.files:
        return None  # it polls: there is no event to lose
    with room(stand.base) as place:
        payload(program, place)
        writer = Writer(place, count)
        with started(stand, program, place, count + 1) as consumer:
            os.kill(consumer.pid, signal.SIGSTOP)
            writer.go()
            writer.wait()
            os.kill(consumer.pid, signal.SIGCONT)
            return until_still(place)


def until_still(place: Room) -> int | None:
    """Wait until a queue stops changing; return how many are left; None if it does not stop."""
    left, since = place.left(), time.monotonic()
    ends = since + LONGEST
    while left and time.monotonic() - since < STILL:
        if time.monotonic() > ends:
            return None
        time.sleep(0.1)
        now = place.left()
        if now != left:
            left, since = now, time.monotonic()
    return left


def left_after_kill(stand: Stand, program: Program, count: int) -> int | None:
    """Return how many are not handled by a second process, after the first was killed at work."""
    if not program.python and program is not OURS:
        return None  # its handlers are processes of their own
    before = count // 2
    with room(stand.base) as place:
        payload(program, place)
        if program.drains:
            writer = None
            place.fill(count) if program.files else produced(program, place, count)
        else:
            writer = Writer(place, count)
        dying = {"BENCH_DIE_AT": str(before)}
        with started(stand, program, place, count, **dying) as consumer:
            if writer is not None:
                consumer.wait_armed()
                writer.go()
                writer.wait()
            consumer.process.wait(20.0)
        wanted = count - before
        with started(stand, program, place, count, BENCH_BACKLOG="1") as consumer:
            if program.files:
                return until_still(place)
            handled: int = consumer.result(PATIENCE)["handled"]
        return wanted - handled
