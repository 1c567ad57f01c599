"""A python handler in a worker process: a segfault, a hang or a runaway costs one attempt.

Each thread has one worker process. It starts at the thread's first entry and is kept; a crash or a
timeout ends it, and the next entry gets a new one. The entry's descriptors go over a socket, so the
worker reads through the claim, and holds it until it has finished, even if the daemon is killed.
Guarantees: results as those of `Function`. The death of the worker is CRASHED, whatever its exit
status, with the end of its standard error (also a traceback of a segfault). A timeout ends the
worker's process group: TERM, then KILL for the processes that are left. If the daemon dies, the
worker finishes the entry in hand and ends.
Fails: `run` never raises. A function that cannot be imported is MISCONFIGURED; a shortage of
processes, memory or descriptors is a RETRY. `load` raises BadConfiguration.
"""

from __future__ import annotations

import errno
import signal
import threading

from watcher.errors import BadConfiguration
from watcher.handle.child_process import signal_group
from watcher.handle.entry import Entry
from watcher.handle.isolated.process import Limits, Process
from watcher.rules.results import SHORT, HandlerResult, Verdict, shortened

NO_LIMITS = Limits()
_NOT_TO_BE_HAD = (errno.ENOENT, errno.EACCES, errno.ENOEXEC)  # of the Python interpreter


class Isolated:
    """Calls one function for every entry in a worker process; `keep` says if it is kept.

    `in_list`: the function is called with a list of one entry.
    """

    def __init__(
        self, spec: str, limits: Limits = NO_LIMITS, *, keep: bool = True, in_list: bool = False
    ) -> None:
        self._spec = spec
        self._limits = limits
        self._keep = keep
        self._in_list = in_list
        self.copy_stderr_to: int | None = None  # as `Command`
        self._running: set[int] = set()
        self._mine = threading.local()  # the end of a thread ends its worker
        self._spare: list[Process] = []
        self._terminated = False

    def check(self) -> None:
        """Start a worker now; raise BadConfiguration or OSError if that fails."""
        self._spare.append(self._new())

    def run(self, entry: Entry) -> HandlerResult:
        """Have a worker call the function; never raises."""
        process = None
        try:
            process = self._process()
            if not entry.is_unique_name:
                _ = entry.key  # before the worker reads: for `Entry.is_as_read` here
            entry.lent = True
            process.copy_stderr_to = self.copy_stderr_to
            reply = process.ask(entry)
        except BadConfiguration as error:
            return HandlerResult(Verdict.MISCONFIGURED, shortened(str(error)), ran=False)
        except (OSError, MemoryError) as error:
            self._drop(process)
            return _not_given(error)
        except BaseException:  # raised by a signal's handler, while the worker works
            self._drop(process, 0.0)
            raise
        if reply.last or not self._keep:
            self._drop(process)
        if reply.damage is not None:
            entry.damage = reply.damage
        if self._terminated and reply.result.verdict is Verdict.CRASHED:
            return HandlerResult(Verdict.STOPPED, "stopped at once", ran=False)
        return reply.result

    def _process(self) -> Process:
        """Return this thread's worker, a new one if that is not idle."""
        process: Process | None = getattr(self._mine, "process", None)
        while process is None or not process.idle():
            if process is not None:
                self._drop(process, 0.0)
            try:
                process = self._spare.pop()
            except IndexError:
                process = self._new()
                break
        self._mine.process = process
        return process

    def _new(self) -> Process:
        return Process(self._spec, self._limits, self._running, in_list=self._in_list)

    def _drop(self, process: Process | None, seconds: float | None = None) -> None:
        self._mine.process = None
        if process is not None:
            if seconds is None:
                process.end()
            else:
                process.end(seconds)

    def terminate(self) -> None:
        """Kill the process group of every worker."""
        self._terminated = True
        for pid in list(self._running):
            signal_group(pid, signal.SIGKILL)


def load(spec: str, limits: Limits) -> Isolated:
    """Start a first worker; raise BadConfiguration naming what is missing."""
    handler = Isolated(spec, limits)
    try:
        handler.check()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise BadConfiguration(f"its worker process cannot be started: {why}") from None
    return handler


def _not_given(error: OSError | MemoryError) -> HandlerResult:
    number = getattr(error, "errno", None)
    verdict = Verdict.MISCONFIGURED if number in _NOT_TO_BE_HAD else Verdict.RETRY
    why = getattr(error, "strerror", None) or repr(error)
    reason = shortened(f"cannot be given to a worker process: {why}")
    return HandlerResult(verdict, reason, attempted=number not in SHORT, ran=False)
