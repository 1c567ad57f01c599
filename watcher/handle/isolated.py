"""A python handler in a worker process: a segfault, a hang or a runaway costs one attempt.

One worker process a thread, started at its first entry and kept; a new one after a crash or a
timeout. An entry's descriptors go with it over a socket, so the worker reads through the claim, and
holds it for as long as it works, though the daemon be killed meanwhile.
Guarantees: results as of `Function`; the death of the worker is CRASHED, whatever its exit status,
with the end of its standard error (a traceback, after a segfault too). A timeout ends the worker's
process group: TERM, and KILL for what is left of it. No worker outlives the daemon but to finish
the entry in hand.
Fails: `run` never raises; a function that cannot be imported is the operator's mistake, and want of
processes, memory or descriptors a retry. `load` raises BadConfiguration.
"""

from __future__ import annotations

import errno
import signal
import threading

from watcher.entry import Entry
from watcher.errors import BadConfiguration
from watcher.handle.child import signal_group
from watcher.handle.isolated_process import Limits, Process
from watcher.handle.outcome import SHORT, Outcome, Verdict, shortened

NO_LIMITS = Limits()
_NOT_TO_BE_HAD = (errno.ENOENT, errno.EACCES, errno.ENOEXEC)  # the interpreter


class Isolated:
    """Calls one function for every entry, in a worker process; `keep` it for the next, or not."""

    def __init__(self, spec: str, limits: Limits = NO_LIMITS, *, keep: bool = True) -> None:
        self._spec = spec
        self._limits = limits
        self._keep = keep
        self._running: set[int] = set()
        self._mine = threading.local()  # goes with its thread, and the worker with it
        self._spare: list[Process] = []
        self._abandoned = False

    def check(self) -> None:
        """Start a worker now; raise BadConfiguration or OSError when that cannot be done."""
        self._spare.append(Process(self._spec, self._limits, self._running))

    def run(self, entry: Entry) -> Outcome:
        """Have the function called; never raises."""
        process = None
        try:
            process = self._process()
            told = process.ask(entry)
        except BadConfiguration as error:
            return Outcome(Verdict.MISCONFIGURED, shortened(str(error)))
        except (OSError, MemoryError) as error:
            self._drop(process)
            return _not_given(error)
        except BaseException:  # a signal's, in the main thread: the worker is in mid-work
            self._drop(process, 0.0)
            raise
        if told.last or not self._keep:
            self._drop(process)
        if told.damage is not None:
            entry.damage = told.damage
        if self._abandoned and told.outcome.verdict is Verdict.CRASHED:
            return Outcome(Verdict.STOPPED, "stopped at once")
        return told.outcome

    def _process(self) -> Process:
        """Return this thread's worker, another if it is no longer fit to work."""
        process: Process | None = getattr(self._mine, "process", None)
        while process is None or not process.idle():
            if process is not None:
                self._drop(process, 0.0)
            try:
                process = self._spare.pop()
            except IndexError:
                process = Process(self._spec, self._limits, self._running)
                break
        self._mine.process = process
        return process

    def _drop(self, process: Process | None, seconds: float | None = None) -> None:
        self._mine.process = None
        if process is not None:
            if seconds is None:
                process.end()
            else:
                process.end(seconds)

    def abandon(self) -> None:
        """Kill every worker, and what it started: as the function would end with the daemon."""
        self._abandoned = True
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


def _not_given(error: OSError | MemoryError) -> Outcome:
    number = getattr(error, "errno", None)
    verdict = Verdict.MISCONFIGURED if number in _NOT_TO_BE_HAD else Verdict.RETRY
    why = getattr(error, "strerror", None) or repr(error)
    reason = shortened(f"cannot be given to a worker process: {why}")
    return Outcome(verdict, reason, given=number not in SHORT)
