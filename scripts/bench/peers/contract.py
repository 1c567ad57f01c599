"""The common part of every peer's program, so that all are measured in the same way.

    python -m bench.peers.NAME consume DIRECTORY COUNT
        prints "ready", handles so many, prints the result
    python -m bench.peers.NAME produce DIRECTORY COUNT RATE
        prints "ready", waits for a line, commits, prints "written" and the seconds it took
    python -m bench.peers.NAME check "" ""
        ends well if it can be imported

The handler records when it was called, and does nothing else. The time of the commit is at the
beginning of the message, or in the file's name. After TERM, the result is that of the entries so
far.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import NoReturn, Protocol

DIE_AT = int(os.environ.get("BENCH_DIE_AT", "-1"))  # entries handled before it is killed
SIZE = 1800  # bytes of a message


class Enough(BaseException):
    """All expected entries were handled, or TERM came: ends the peer's loop."""


class Notes:
    """When the handler was called, and for what."""

    def __init__(self, expect: int) -> None:
        self.expect = expect
        self.began = time.monotonic_ns()
        self.starts: list[int] = []
        self.commits: list[int] = []
        self.died = ""

    def handle(self, commit: int) -> None:
        """Record one message; the peer checks `full` after it has removed the message."""
        if len(self.starts) == DIE_AT:
            os.kill(os.getpid(), signal.SIGKILL)
        self.starts.append(time.monotonic_ns())
        self.commits.append(commit)

    @property
    def full(self) -> bool:
        """Whether all have come."""
        return len(self.starts) >= self.expect

    def tell(self) -> None:
        """Print the result."""
        latencies = sorted(
            start - commit for start, commit in zip(self.starts, self.commits, strict=True)
        )

        def ranked(percent: int) -> int:
            return latencies[max(-(-len(latencies) * percent // 100), 1) - 1] if latencies else 0

        line = {
            "handled": len(latencies),
            "began": self.began,
            "first": min(self.starts, default=0),
            "last": max(self.starts, default=0),
            "first_commit": min(self.commits, default=0),
            "p50": ranked(50),
            "p99": ranked(99),
            "most": ranked(100),
            "died": self.died,
        }
        print(json.dumps(line), flush=True)


class Peer(Protocol):
    """One peer; `put` is None if any program may put files into the directory."""

    def serve(self, notes: Notes) -> None:
        """Handle what comes, until `notes.full`."""

    @property
    def put(self) -> Callable[[bytes], object] | None:
        """How a message is committed."""


def message(moment: int) -> bytes:
    """Return a message that says when it was committed."""
    return b"%d \n" % moment + b"x" * SIZE


def moment_in(data: bytes) -> int:
    """Return what a message says."""
    return int(data.partition(b" ")[0])


def moment_of(name: str) -> int:
    """Return what a file's name says: SECONDS.NANOSECONDS+NUMBER."""
    seconds, _, nanoseconds = name.partition("+")[0].partition(".")
    return int(seconds) * 1_000_000_000 + int(nanoseconds)


def produce(peer: Peer, count: int, rate: float) -> None:
    """Commit messages at that rate, 0 as fast as they go."""
    put = peer.put
    if put is None:
        raise SystemExit("this peer has no way to commit of its own")
    print("ready", flush=True)
    sys.stdin.readline()
    began = time.monotonic_ns()
    for number in range(count):
        if rate:
            due = began + int(number * 1e9 / rate)
            time.sleep(max(0.0, (due - time.monotonic_ns()) / 1e9))
        put(message(time.monotonic_ns()))
    print("written", flush=True)
    print(json.dumps({"seconds": (time.monotonic_ns() - began) / 1e9}), flush=True)


def consume(peer: Peer, count: int) -> None:
    """Handle messages until there were so many."""

    def enough(*_: object) -> NoReturn:
        raise Enough

    notes = Notes(count)
    signal.signal(signal.SIGTERM, enough)
    print("ready", flush=True)
    try:
        peer.serve(notes)
    except Enough:
        pass
    except Exception as error:  # noqa: BLE001 - a peer that dies at work is a finding
        notes.died = type(error).__name__
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    notes.tell()


def main(make: Callable[[str], Peer]) -> None:
    """Run as a program."""
    what, directory, count = sys.argv[1:4]
    if what == "check":
        return
    if what == "produce":
        produce(make(directory), int(count), float(sys.argv[4]))
    else:
        consume(make(directory), int(count))
