"""Fixtures that several folders of tests share: a queue, a real daemon, a handler that records.

A test waits for a line of the daemon's log, which a thread reads, and does not sleep.

The tests that a mutation names get the markers of that mutation's promises here: `pytest -m
promise3` runs the tests that hold promise 3.
"""

from __future__ import annotations

import collections
import contextlib
import gc
import glob
import json
import os
import resource
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from watcher.spool.part import Part

ROOT = Path(__file__).parent.parent
PATIENCE = 30.0  # seconds: how long a test waits for what must come; on a loaded machine too

settings.register_profile("watcher", deadline=None, print_blob=True)
settings.load_profile("watcher")

# Thousands of tests in one process leave some descriptors open, and the usual limit is 1,024.
_, HARD = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (HARD, HARD))

Record = dict[str, Any]


def mutations_by_file() -> dict[str, list[Any]]:
    """Return the mutations by the file of tests that must find them, as a path below tests/.

    The copy of the project that a mutation is tried on has no table: there, no test is marked.
    """
    table = ROOT / "tests" / "mutation" / "mutations.py"
    by_file: dict[str, list[Any]] = {}
    for mutation in runpy.run_path(str(table))["MUTATIONS"] if table.exists() else ():
        by_file.setdefault(mutation.test, []).append(mutation)
    return by_file


MUTATIONS_BY_FILE = mutations_by_file()


def pytest_configure(config: pytest.Config) -> None:
    """Let go of the immutable files of a run that was killed: pytest fails to remove them."""
    left = glob.glob(f"{tempfile.gettempdir()}/pytest-of-*/*/test_*immutable*/")
    if left and not hasattr(config, "workerinput"):  # before the tests make their own
        with contextlib.suppress(OSError):  # no chattr(1), or not root: then none was made
            subprocess.run(["chattr", "-fR", "-i", *left], check=False)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark a test with each promise of which a mutation names the test."""
    file = item.path.relative_to(ROOT / "tests").as_posix()
    for mutation in MUTATIONS_BY_FILE.get(file, ()):
        if any(word in item.name for word in mutation.only.split(" or ")):  # as -k does
            for promise in mutation.promises:
                item.add_marker(f"promise{promise}")


class Daemon:
    """A real `watcher run`: its log as it comes, its signals, its end."""

    def __init__(self, argv: list[str], environment: dict[str, str]) -> None:
        self.records: list[Record] = []
        self.counts: collections.Counter[str] = collections.Counter()  # of records, by event
        self.stray: list[str] = []  # lines that are no JSON: there should be none
        self._news = threading.Condition()
        self._ended = False
        self.process = subprocess.Popen(
            argv, env=environment, stderr=subprocess.PIPE, start_new_session=True
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as lines:
            for line in lines:
                with self._news:
                    try:
                        self.records.append(json.loads(line))
                        self.counts[self.records[-1].get("event", "")] += 1
                    except ValueError:
                        self.stray.append(line.decode(errors="replace"))
                    self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def wait(self, condition: Callable[[], Any], timeout: float = PATIENCE) -> Any:
        """Wait until `condition` holds, asked again at each line of the log; return its value.

        Some conditions come true without a line in this daemon's log: these are asked now and then.
        """
        deadline = time.monotonic() + timeout
        with self._news:
            while not (value := condition()) and not self._ended and time.monotonic() < deadline:
                self._news.wait(0.1)
            value = value or condition()
        assert value, f"waited in vain; status {self.process.poll()}; log:\n{self.log()}"
        return value

    def events(self, event: str, **wanted: Any) -> list[Record]:
        """Return the log's records of this event that hold `wanted`."""
        return [
            record
            for record in list(self.records)
            if record.get("event") == event
            and all(record.get(key) == value for key, value in wanted.items())
        ]

    def wait_for(self, event: str, count: int = 1, **wanted: Any) -> list[Record]:
        """Wait until the log holds `count` records of this event; return them."""

        def enough() -> list[Record] | None:
            if self.counts[event] < count:  # a storm's log is not searched anew at each line
                return None
            found = self.events(event, **wanted)
            return found if len(found) >= count else None

        return self.wait(enough)

    def log(self) -> str:
        """Return the whole log so far, for a failed test to show."""
        return "\n".join([*map(json.dumps, self.records), *self.stray])

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the daemon alone."""
        self.process.send_signal(number)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, wait for the end, return the status (negative: killed by it)."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        status = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return status

    def destroy(self) -> None:
        """Kill the daemon and every handler in its session that is still ours to kill."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join(PATIENCE)


class Recorder:
    """A handler that records its calls in a file, and a gate that keeps it at work if wanted."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "record"
        self.gate = directory / "gate"
        self._program = [sys.executable, "-I", "-S", str(ROOT / "tests" / "recording_handler.py")]

    def argv(self, *, status: int = 0, gated: bool = False) -> list[str]:
        """Return the command for `--`: it exits with `status`, after `open_gate` if `gated`."""
        options = ["--exit", str(status)]
        if gated:
            if not self.gate.exists():
                os.mkfifo(self.gate)
            options += ["--gate", str(self.gate)]
        return [*self._program, str(self.path), *options]

    def open_gate(self) -> None:
        """Let the handlers go that wait at the gate now; waits for the first to be there."""
        with open(self.gate, "wb"):
            pass

    @property
    def calls(self) -> list[Record]:
        """Return what was recorded so far, oldest first."""
        if not self.path.exists():
            return []
        return [json.loads(line) for line in self.path.read_bytes().splitlines()]


@pytest.fixture
def no_collection() -> Iterator[None]:
    """Collect no garbage: that would close descriptors that earlier tests left open."""
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def descriptors(no_collection: None) -> Callable[[], int]:
    """Return what counts the descriptors of this process."""
    return lambda: len(os.listdir("/proc/self/fd"))


@pytest.fixture
def queue(tmp_path: Path) -> Path:
    """An empty queue directory."""
    directory = tmp_path / "queue"
    directory.mkdir()
    return directory


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    """A handler that records its calls; one that still waits at the gate is let go."""
    recording = Recorder(tmp_path)
    yield recording
    with contextlib.suppress(OSError):  # ENXIO: no process waits; ENOENT: no gate
        os.close(os.open(recording.gate, os.O_WRONLY | os.O_NONBLOCK))


@pytest.fixture
def close_at_end() -> Iterator[Callable[[Sequence[Part]], None]]:
    """Take parts of claimed entries, and close at the end those that the test left open."""
    parts: list[Part] = []
    yield parts.extend
    for part in parts:
        with contextlib.suppress(OSError):  # the test closed it; the number may be another file's
            if os.fstat(part.fd).st_ino == part.ino:
                os.close(part.fd)


@pytest.fixture
def watcher_command() -> list[str]:
    """The command line that starts watcher as the same Python sees it."""
    return [sys.executable, "-P", "-m", "watcher"]


@pytest.fixture
def environment() -> dict[str, str]:
    """Our environment without what would configure watcher."""
    return {key: value for key, value in os.environ.items() if not key.startswith("WATCHER_")}


@pytest.fixture
def start_daemon(
    watcher_command: list[str], environment: dict[str, str]
) -> Iterator[Callable[..., Daemon]]:
    """Start `watcher run QUEUE OPTION... -- HANDLER...`; it is ready when the call returns.

    `command` may be another daemon's.
    """
    started: list[Daemon] = []

    def start(
        queue: Path | None,
        *options: str,
        handler: list[str] | None = None,
        ready: bool = True,
        command: str = "run",
    ) -> Daemon:
        argv = [*watcher_command, command, *([str(queue)] if queue else []), *options]
        argv += ["--log-format", "json"]
        daemon = Daemon([*argv, "--", *handler] if handler else argv, environment)
        started.append(daemon)
        if ready:
            daemon.wait_for("ready")  # armed, and then scanned
        return daemon

    yield start
    for daemon in started:
        daemon.destroy()


@pytest.fixture
def eventually() -> Callable[[Callable[[], Any]], Any]:
    """Wait for what nothing announces (a file of another process): ask until it holds."""

    def wait(condition: Callable[[], Any], timeout: float = PATIENCE) -> Any:
        deadline = time.monotonic() + timeout
        while not (value := condition()) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert value, "waited in vain"
        return value

    return wait
