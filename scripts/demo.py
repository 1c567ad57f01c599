"""`make run`: a small queue at work, one line for each state of each entry.

Makes a queue in `.demo/queue`, and starts a daemon on it in legacy mode and three writers: one
commits a `.pck` every second, one writes a Mailman 2.0 pair with two seconds between its two files,
and every 20 seconds one leaves the first file of a pair behind. Ctrl-C, TERM or RUN_SECONDS=20 in
the environment end it: the writers finish their current entry, the daemon drains, and the account
compares what was written with what became of it.
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

from watcher.observe.log_lines import EVENTS

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
QUEUE = os.path.join(".demo", "queue")
DAEMON = [
    *(sys.executable, "-P", "-m", "watcher", "run", QUEUE, "--legacy", "--log-format", "json"),
    *("--log-level", "debug", "--grace-age", "10s", "--sweep-every", "3s"),
    *("--", os.path.join(HERE, "demo_handler")),
]
FIRST_HALF_AFTER, HALF_EVERY = 2.0, 20.0  # seconds: when a writer leaves an incomplete pair
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
    """What the writers and the daemon reported of each entry; prints it."""

    def __init__(self, *, colour: bool) -> None:
        self.halves: set[str] = set()
        self.committed: dict[str, float] = {}
        self.done: set[str] = set()
        self.ready = False  # the daemon: its watch is armed and the directory scanned
        self._colour = colour
        self._early: dict[
            str, str
        ] = {}  # claims that the daemon logged before the writer reported the commit

    def on_writer_line(self, line: str) -> None:
        """Take one line of a writer: `half NAME`, `committed NAME` or `abandoned NAME`."""
        what, _, name = line.partition(" ")
        if what == "half":
            self.halves.add(name)
            self.show(
                "ARRIVING", name, "the first file of the pair is here; waiting for the second"
            )
        elif what == "committed":
            self.committed[name] = time.time()
            self.show("READY", name, "complete: renamed in, or both files of the pair closed")
            self._show_early(name)
        elif what == "abandoned":
            self.show(
                "ARRIVING", name, "its writer is gone: the second file of the pair will not come"
            )

    def on_daemon_line(self, line: str) -> None:
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
            self._early[name] = detail  # the daemon's line came before the writer's
            return
        self._show_early(name)
        if event == "finish":
            self.done.add(name)
            detail = self._latency(name)
        elif event == "abandon":
            detail = f"one file of a pair, and no writer: moved to {QUEUE}/.watcher/orphans/"
        elif not state:
            name, detail = "daemon", f"{EVENTS.get(event, event)}: {detail}"
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
        """Print the account; return whether it adds up."""
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
    """Return the entries in a directory, also incomplete pairs, by name without suffix."""
    with contextlib.suppress(FileNotFoundError):
        names = (os.path.splitext(name) for name in os.listdir(directory))
        return {stem for stem, suffix in names if suffix in (".pck", ".msg", ".db")}
    return set()


def writer(protocol: str, *options: str) -> subprocess.Popen[str]:
    """Start a writer in its own session, so that ctrl-C does not reach it."""
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
        """Add a pipe."""
        assert pipe is not None  # noqa: S101 - every Popen here has its pipe
        os.set_blocking(pipe.fileno(), False)
        self._rest[pipe] = b""
        self._selector.register(pipe, selectors.EVENT_READ, label)

    @property
    def open(self) -> bool:
        """Whether any pipe has not ended."""
        return bool(self._rest)

    def read(self, timeout: float) -> Iterator[tuple[str, str]]:
        """Yield (label, line) for each new line; wait up to `timeout` seconds for the first."""
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
    """The daemon, the writers, and the loop that shows their lines."""

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
        """Start a writer and read its lines."""
        started = writer(protocol, *options)
        self.writers.append(started)
        self.lines.add(started.stdout, "writer")

    def show_lines(self, timeout: float) -> None:
        """Show new lines; wait up to `timeout` seconds for the first."""
        for label, line in self.lines.read(timeout):
            if label == "daemon":
                self.account.on_daemon_line(line)
            else:
                self.account.on_writer_line(line)

    @property
    def goes_on(self) -> bool:
        """Whether time is left, no signal came, and the daemon runs."""
        return not self.stopped and self.daemon.poll() is None and time.monotonic() < self.ends

    def run(self) -> None:
        """Start the writers when the daemon is ready, and show all lines."""
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
        """End the writers, then the daemon; return whether the daemon ended without an error."""
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
