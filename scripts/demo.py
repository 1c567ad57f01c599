"""`make run`: a small queue at work, each entry's way through the states in one line.

Makes a queue in `.demo/queue`, starts the daemon on it in legacy mode, and beside it three writers:
one that commits a `.pck` every second, one that writes a Mailman 2.0 pair with two seconds between
its halves, and now and then one that leaves half a pair behind for good. Ctrl-C, TERM or
RUN_SECONDS=20 in the environment end it: the writers finish the entry they are at, the daemon
drains, and the closing account compares what was written with what became of it.
Ends with 1 if the daemon died or the account does not add up.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import IO

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
QUEUE = os.path.join(".demo", "queue")
DAEMON = [
    *(sys.executable, "-m", "watcher", "run", QUEUE, "--legacy", "--log-format", "json"),
    *("--log-level", "debug", "--grace-age", "10s", "--sweep-every", "3s"),
    *("--", os.path.join(HERE, "demo_handler")),
]
FIRST_HALF_AFTER, HALF_EVERY = 2.0, 20.0  # seconds: when a writer leaves half a pair behind
COLOURS = {"ARRIVING": 33, "READY": 36, "CLAIMED": 34, "DONE": 32, "ORPHAN": 35, "DEAD": 31}
MOVES = {
    "claim": "CLAIMED",
    "finish": "DONE",
    "defer": "DEFERRED",
    "release": "READY",
    "reject": "DEAD",
    "abandon": "ORPHAN",
    "reunite": "READY",
}


class Account:
    """What was said of each entry, and the lines that show it."""

    def __init__(self, *, colour: bool) -> None:
        self.halves: set[str] = set()
        self.committed: dict[str, float] = {}
        self.done: set[str] = set()
        self.ready = False  # the daemon: its watch is armed and the directory scanned
        self._colour = colour
        self._early: dict[str, str] = {}  # claims that we heard of before their commits

    def writer_said(self, line: str) -> None:
        """Take one line of a writer: `half NAME`, `committed NAME` or `abandoned NAME`."""
        what, _, name = line.partition(" ")
        if what == "half":
            self.halves.add(name)
            self.show("ARRIVING", name, "the first half is there, its writer goes on")
        elif what == "committed":
            self.committed[name] = time.time()
            self.show("READY", name, "committed: renamed in, or both halves closed")
            self._show_early(name)
        elif what == "abandoned":
            self.show("ARRIVING", name, "its writer is gone: half a pair is all there will be")

    def daemon_said(self, line: str) -> None:
        """Take one line of the daemon's log."""
        try:
            record = json.loads(line)
        except ValueError:
            self.show("", "", line)
            return
        event, name = record.get("event", ""), record.get("entry") or ""
        state = MOVES.get(event, "")
        detail = record.get("detail") or record.get("message") or ""
        if event == "claim" and name not in self.committed:
            self._early[name] = detail  # the daemon is quicker than the writer's word of it
            return
        self._show_early(name)
        if event == "finish":
            self.done.add(name)
            detail = self._latency(name)
        elif event == "abandon":
            detail = f"half a pair, no writer: moved to {QUEUE}/.watcher/orphans/"
        elif not state:
            name, detail = "daemon", f"{event}: {detail}"
            self.ready = self.ready or event == "ready"
        self.show(state, name, detail)

    def _show_early(self, name: str) -> None:
        if name in self._early:
            self.show("CLAIMED", name, self._early.pop(name))

    def _latency(self, name: str) -> str:
        since = self.committed.get(name)
        return f"{time.time() - since:.2f} s after its commit" if since else ""

    def show(self, state: str, name: str, detail: str) -> None:
        """Print one line: when, which state, which entry, why."""
        now = time.time()
        clock = time.strftime("%H:%M:%S", time.localtime(now)) + f".{int(now % 1 * 10)}"
        word = f"{state:<9}"
        if self._colour and state in COLOURS:
            word = f"\033[1;{COLOURS[state]}m{word}\033[0m"
        print(f"{clock}  {word} {name:<24.24}  {detail}", flush=True)

    def balance(self) -> bool:
        """Print the closing account; say whether it adds up."""
        written = self.halves | self.committed.keys()
        orphans = stems(os.path.join(QUEUE, ".watcher", "orphans"))
        waiting = stems(QUEUE)
        for state in ("deferred", "held", "dead"):
            waiting |= stems(os.path.join(QUEUE, ".watcher", state))
        print(
            f"\nwritten {len(written)} ({len(self.committed)} committed,"
            f" {len(written - self.committed.keys())} left half)"
            f" = done {len(self.done)} + orphaned {len(orphans)} + still there {len(waiting)}"
        )
        places = (self.done, orphans, waiting)
        adds_up = set().union(*places) == written and sum(map(len, places)) == len(written)
        lost = self.committed.keys() - self.done - orphans - waiting
        print("nothing is missing" if adds_up else f"THIS DOES NOT ADD UP; lost: {sorted(lost)}")
        return adds_up


def stems(directory: str) -> set[str]:
    """Return the entries a directory holds, whole or half, by name without suffix."""
    with contextlib.suppress(FileNotFoundError):
        names = (os.path.splitext(name) for name in os.listdir(directory))
        return {stem for stem, suffix in names if suffix in (".pck", ".msg", ".db")}
    return set()


def writer(protocol: str, *options: str) -> subprocess.Popen[str]:
    """Start one of the writers beside us, out of reach of the terminal's ctrl-C."""
    program = os.path.join(HERE, "writers.py")
    return subprocess.Popen(
        [sys.executable, program, protocol, QUEUE, *options],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


class Lines:
    """Whole lines from several pipes at once, each with the pipe's label."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._rest: dict[IO[str], bytes] = {}

    def add(self, pipe: IO[str] | None, label: str) -> None:
        """Listen to one more pipe."""
        assert pipe is not None  # noqa: S101 - every Popen here has its pipe
        os.set_blocking(pipe.fileno(), False)
        self._rest[pipe] = b""
        self._selector.register(pipe, selectors.EVENT_READ, label)

    @property
    def open(self) -> bool:
        """Whether any pipe has not ended."""
        return bool(self._rest)

    def read(self, timeout: float) -> Iterator[tuple[str, str]]:
        """Yield (label, line) for what there is, waiting up to `timeout` for the first."""
        for ready, _ in self._selector.select(timeout):
            pipe: IO[str] = ready.fileobj  # type: ignore[assignment]
            data = os.read(ready.fd, 65536)
            *lines, self._rest[pipe] = (self._rest[pipe] + data).split(b"\n")
            for line in lines:
                yield ready.data, line.decode(errors="replace")
            if not data:
                self._selector.unregister(pipe)
                del self._rest[pipe]
                pipe.close()


class Demo:
    """The daemon, the writers, and the loop that shows what they say."""

    def __init__(self, seconds: float) -> None:
        self.account = Account(colour=sys.stdout.isatty())
        self.lines = Lines()
        self.writers: list[subprocess.Popen[str]] = []
        self.ends = time.monotonic() + seconds
        self.stopped = False
        self.daemon = subprocess.Popen(
            DAEMON, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        self.lines.add(self.daemon.stderr, "daemon")

    def start_writer(self, protocol: str, *options: str) -> None:
        """Start a writer and listen to it."""
        started = writer(protocol, *options)
        self.writers.append(started)
        self.lines.add(started.stdout, "writer")

    def show_lines(self, timeout: float) -> None:
        """Show what was said, waiting up to `timeout` for it."""
        for label, line in self.lines.read(timeout):
            if label == "daemon":
                self.account.daemon_said(line)
            else:
                self.account.writer_said(line)

    @property
    def goes_on(self) -> bool:
        """Whether there is time left, no signal came, and the daemon lives."""
        return not self.stopped and self.daemon.poll() is None and time.monotonic() < self.ends

    def run(self) -> None:
        """Start the writers once the daemon is ready, and show what goes on."""
        while self.goes_on and not self.account.ready:
            self.show_lines(0.2)
        self.start_writer("2.1.5", "--count", "1000000", "--interval", "1")
        pairs = ("--count", "1000000", "--interval", "4", "--pause", "2", "--show-halves")
        self.start_writer("2.0.8", *pairs)
        next_half = time.monotonic() + FIRST_HALF_AFTER
        while self.goes_on:
            self.show_lines(0.2)
            if time.monotonic() >= next_half:
                self.start_writer("2.0.8", "--abandon", "--show-halves")
                next_half += HALF_EVERY

    def end(self) -> bool:
        """End the writers, then the daemon; say whether the daemon ended well."""
        died = self.daemon.poll() is not None
        for each in self.writers:
            each.terminate()
        while any(each.poll() is None for each in self.writers):
            self.show_lines(0.1)
        self.daemon.terminate()
        while self.lines.open:
            self.show_lines(0.1)
        for each in self.writers:
            each.wait()
        return self.daemon.wait() == 0 and not died


def main() -> int:
    """Run the demo; return the exit code."""
    os.chdir(ROOT)
    shutil.rmtree(".demo", ignore_errors=True)
    os.makedirs(QUEUE)
    seconds = float(os.environ.get("RUN_SECONDS", "inf"))
    print(f"queue: {os.path.abspath(QUEUE)}   (ctrl-C ends)\n", flush=True)
    demo = Demo(seconds)

    def stop(*_: object) -> None:
        demo.stopped = True

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    demo.run()
    well = demo.end()
    if not well:
        print(f"\nthe daemon ended by itself or with status {demo.daemon.returncode}")
    return 0 if demo.account.balance() and well else 1


if __name__ == "__main__":
    sys.exit(main())
