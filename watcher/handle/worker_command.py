"""A worker handler: a command that stays, and answers one request line after the other.

Each thread has one process of it. The process starts at the thread's first entry and is kept; a
death, a timeout or a broken protocol ends it, and the next entry gets a new one. After a second
failure in a row the next process starts only after a delay, which doubles up to `LONGEST`; the
entry stays in hand meanwhile.
Guarantees: an entry is done only by an answer that says so (`worker_process`). A process that ends
after earlier answers and before it has read a request costs nothing: the next one gets the request.
Fails: `run` never raises. A command that cannot be started, ends before it reads its first request,
or does not keep to the protocol is MISCONFIGURED; a death is CRASHED.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import threading
import time
from collections.abc import Sequence
from typing import NamedTuple

from watcher.errors import Undecodable
from watcher.handle.child_process import inherited_environment, signal_group
from watcher.handle.command_process import not_given, not_started
from watcher.handle.entry import Entry
from watcher.handle.posix_spawn import Strings, strings
from watcher.handle.worker_process import BROKEN, LEAVE, Response, WorkerProcess
from watcher.handle.worker_request import request
from watcher.rules.backoff import delay
from watcher.rules.results import HandlerResult, Verdict, shortened
from watcher.rules.worker_answer import quoted

LONGEST = 10.0  # seconds before a start; a drain waits no longer for an entry that waits for it
_STOPPED = HandlerResult(Verdict.STOPPED, "stopped at once", ran=False)


class _Failures(NamedTuple):
    """Failures of processes in a row, and when the next process may start (monotonic)."""

    in_a_row: int
    next_start: float


NONE = _Failures(0, 0.0)


class WorkerCommand:
    """Gives each entry to a process that stays; limits as in `handle.kinds.run_worker`."""

    def __init__(
        self, argv: Sequence[str], timeout: float | None = None, max_entries: int | None = None
    ) -> None:
        self.argv = tuple(argv)
        self.timeout = timeout
        self.max_entries = max_entries
        self.copy_stderr_to: int | None = None  # as `Command`
        self._running: set[int] = set()
        self._mine = threading.local()  # the end of a thread ends its process
        self._stop = threading.Event()
        self._failures = NONE
        self._environment = strings(inherited_environment())

    @functools.cached_property
    def _encoded(self) -> Strings:
        """The arguments as an array for the kernel; raises ValueError, at each access."""
        return strings(os.fsencode(argument) for argument in self.argv)

    def run(self, entry: Entry) -> HandlerResult:
        """Have a process handle the entry; never raises."""
        try:
            with contextlib.ExitStack() as opened:
                return self._run(entry, request(entry, opened))
        except Undecodable as error:
            return HandlerResult(Verdict.REJECT, str(error), ran=False)
        except (OSError, MemoryError) as error:
            return not_given(error)

    def _run(self, entry: Entry, line: bytes) -> HandlerResult:
        entry.lent = True
        while True:
            process = self._process()
            if isinstance(process, HandlerResult):
                return process
            response = self._ask(process, entry, line)
            if self._stop.is_set() and response.last:
                return _STOPPED
            if response.unread and process.answered:
                continue  # it ended by itself: a new process, which has answered nothing yet
            if not response.last:
                self._failures = NONE
            elif response.result.verdict is not Verdict.RETRY:  # a timeout took its time
                self._failed()
            if self.max_entries is not None and process.answered >= self.max_entries:
                process.hang_up()
            return response.result

    def _ask(self, process: WorkerProcess, entry: Entry, line: bytes) -> Response:
        try:
            response = process.ask(entry, line, self.timeout, self.copy_stderr_to)
        except BaseException:  # also one raised by a signal's handler, while the process works
            self._drop(0.0)
            raise
        if response.last:
            self._drop(0.0)
        return response

    def _failed(self) -> None:
        """Count a failure: after the second in a row, the next start waits."""
        count = self._failures.in_a_row + 1
        wait = delay(count - 1, 1.0, LONGEST) if count > 1 else 0.0
        self._failures = _Failures(count, time.monotonic() + wait)

    def _process(self) -> WorkerProcess | HandlerResult:
        """Return this thread's process, a new one if there is none; or why there is none."""
        process: WorkerProcess | None = getattr(self._mine, "process", None)
        if process is not None:
            if process.idle():
                return process
            said = process.unasked()
            self._drop(LEAVE)
            if said or not process.answered:
                self._failed()
            if said:
                reason = f"{BROKEN}: it wrote {quoted(said)} without a request"
                return HandlerResult(Verdict.MISCONFIGURED, shortened(reason), ran=False)
        self._stop.wait(max(0.0, self._failures.next_start - time.monotonic()))
        if self._stop.is_set():
            return _STOPPED
        try:
            process = WorkerProcess(self._encoded, self._environment, self._running)
        except (OSError, ValueError) as error:
            return not_started(self.argv[0], error)
        self._mine.process = process
        if self._stop.is_set():
            signal_group(process.pid, signal.SIGTERM)
        return process

    def _drop(self, seconds: float) -> None:
        """End this thread's process: `seconds` after its input is closed, with a signal."""
        process: WorkerProcess | None = getattr(self._mine, "process", None)
        self._mine.process = None
        if process is not None:
            process.end(seconds)

    def terminate(self) -> None:
        """Send TERM to the process group of every process."""
        self._stop.set()
        for pid in list(self._running):
            signal_group(pid, signal.SIGTERM)
