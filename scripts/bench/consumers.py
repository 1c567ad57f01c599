"""A program that handles entries: the daemon, the reference or a peer; start it, wait, end it.

Each prints one line of JSON when it has handled the expected number of entries (`bench.handler` and
reference.c define the fields). It is ended with TERM if it does not end by itself.
Fails: RuntimeError with the end of the program's standard error.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any

from bench.rooms import Room

SCRIPTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ROOT = os.path.dirname(SCRIPTS)
ARMED_WITHIN = 20.0  # seconds for a start
SETTLE = 0.3  # seconds after the watch is armed: the first scan of an empty directory
QUIET = ("--log-level", "warning")  # a line for each entry is optional
TAIL = 2000  # characters


class Consumer:
    """One process that handles entries."""

    def __init__(self, argv: Sequence[str], errors: str, environment: Mapping[str, str]) -> None:
        self._errors = errors
        with open(errors, "wb") as file:
            self.process = subprocess.Popen(
                argv, stdout=subprocess.PIPE, stderr=file, env={**os.environ, **environment}
            )
        self._said: bytes = b""

    @property
    def pid(self) -> int:
        """Its process."""
        return self.process.pid

    def line(self, seconds: float) -> str:
        """Return the next line of its output; "" if none comes in that time, or if it ends."""
        out: IO[bytes] = self.process.stdout  # type: ignore[assignment]
        ends = time.monotonic() + seconds
        readable = select.poll()  # select(2) takes no descriptor above 1,023
        readable.register(out, select.POLLIN)
        while b"\n" not in self._said:
            wait = max(0.0, ends - time.monotonic())
            if not readable.poll(wait * 1000):
                return ""
            data = os.read(out.fileno(), 1 << 20)
            if not data:
                return ""
            self._said += data
        line, _, self._said = self._said.partition(b"\n")
        return line.decode()

    def wait_ready(self) -> None:
        """Wait for its line "ready"."""
        if self.line(ARMED_WITHIN) != "ready":
            raise RuntimeError(f"{self.process.args!r}: did not begin: {self.last_errors()}")

    def wait_armed(self) -> None:
        """Wait until it has an inotify watch, and then for its first scan."""
        self._wait_until(lambda: armed(self.pid))
        time.sleep(SETTLE)

    def wait_armed_below(self) -> int:
        """Wait until one of its children (it runs under strace) has a watch; return its pid."""
        self._wait_until(lambda: any(armed(child) for child in children(self.pid)))
        time.sleep(2 * SETTLE)
        return next(child for child in children(self.pid) if armed(child))

    def _wait_until(self, condition: Callable[[], bool]) -> None:
        ends = time.monotonic() + ARMED_WITHIN
        while not condition():
            if time.monotonic() > ends or self.process.poll() is not None:
                raise RuntimeError(f"{self.process.args!r}: not armed: {self.last_errors()}")
            time.sleep(0.005)

    def result(self, seconds: float) -> dict[str, Any]:
        """Return its line of JSON; send TERM if none comes in that time."""
        line = self.line(seconds)
        if not line:
            self.process.terminate()
            line = self.line(ARMED_WITHIN)
        if not line:
            raise RuntimeError(f"{self.process.args!r}: no result: {self.last_errors()}")
        return self.found(line)

    @staticmethod
    def found(line: str) -> dict[str, Any]:
        """Read its line of JSON."""
        found: dict[str, Any] = json.loads(line)
        return found

    def end(self) -> None:
        """End it; a second call does nothing."""
        if self.process.stdout is None or self.process.stdout.closed:
            return
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(ARMED_WITHIN)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.communicate()

    def last_errors(self) -> str:
        """Return the end of its standard error."""
        with open(self._errors, errors="replace") as file:
            return file.read()[-TAIL:].strip()


def children(pid: int) -> list[int]:
    """Return the running children of a process."""
    with contextlib.suppress(FileNotFoundError), open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]
    return []


def armed(pid: int) -> bool:
    """Whether a process has an inotify watch."""
    base = f"/proc/{pid}/fdinfo"
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(base):
            with contextlib.suppress(FileNotFoundError), open(f"{base}/{name}") as file:
                if "inotify wd:" in file.read():
                    return True
    return False


def daemon_argv(
    room: Room, handler: str = "timed", options: str = "", program: Sequence[str] = ()
) -> list[str]:
    """Return the daemon's command for a room; `options` are lines of its configuration."""
    file = f"{room.path}/watcher.toml"
    with open(file, "w") as opened:
        opened.write(
            f'[queues.bench]\npath = "{room.queue}"\n'
            f'handler = {{ python = "bench.handler:{handler}" }}\n{options}\n'
        )
    begin = list(program) or [sys.executable, "-P", "-m", "watcher"]
    return [*begin, "run", "--config", file, *QUIET]


def environment(expect: int) -> dict[str, str]:
    """Return the daemon's environment for the handlers of the benchmark."""
    return {"PYTHONPATH": f"{SCRIPTS}:{ROOT}", "BENCH_EXPECT": str(expect or "")}


@contextlib.contextmanager
def running(
    argv: Sequence[str], room: Room, expect: int = 0, extra: Mapping[str, str] | None = None
) -> Iterator[Consumer]:
    """Start a consumer; end it at the end of `with`."""
    consumer = Consumer(argv, f"{room.path}/stderr", {**environment(expect), **(extra or {})})
    try:
        yield consumer
    finally:
        consumer.end()
