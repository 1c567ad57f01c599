"""A command as a process: started in its own process group, waited for by a pidfd.

posix_spawn(3) starts it (`posix_spawn`), at half the cost of `subprocess`. The command has only
the descriptors that are passed to it: this program opens all files close-on-exec.
Fails: `start` raises the kernel's OSError, or ValueError for an argument that cannot be encoded.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import math
import os
import select
import signal
import time
from collections.abc import Sequence
from typing import NamedTuple

from watcher.handle.child_process import Cap, Trimmer, signal_group
from watcher.handle.posix_spawn import Strings, spawn
from watcher.rules.batch_words import MOST
from watcher.rules.results import SHORT, HandlerResult, Verdict, shortened

FIRST = 3  # the first descriptor that is none of the standard ones
WITHOUT_PIDFD = 0.01  # seconds between two checks whether it has ended
_SHORTAGE = (*SHORT, errno.ENOMEM, errno.ETXTBSY)


class Spawned:
    """One running command, the leader of a process group."""

    def __init__(
        self, pid: int, stderr: int, stdout: int | None = None, words: int | None = None
    ) -> None:
        self.pid = pid
        self.returncode: int | None = None  # negative: the signal that ended it
        self.trimmer = Trimmer(stderr)
        self._others: list[Trimmer | Cap] = [] if stdout is None else [Trimmer(stdout)]
        if words is not None:
            self._others.append(Cap(words, MOST))

    def ended_within(self, seconds: float | None) -> bool:
        """Wait at most so long for its end; return whether it has ended and was reaped."""
        deadline = math.inf if seconds is None else time.monotonic() + seconds
        trimmer = self.trimmer
        pidfd = None
        with contextlib.suppress(OSError):  # before Linux 5.3, or no descriptor is free
            pidfd = os.pidfd_open(self.pid)
        try:
            while True:
                left = max(0.0, deadline - time.monotonic())
                if self._look(pidfd, min(left, trimmer.wait)):
                    return True
                if left == 0:
                    return False
                trimmer.look()
                for other in self._others:
                    other.look()
        finally:
            if pidfd is not None:
                os.close(pidfd)

    def _look(self, pidfd: int | None, seconds: float) -> bool:
        if pidfd is not None:
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            if not poll.poll(seconds * 1000):
                return False
            self.wait()
            return True
        deadline = time.monotonic() + seconds
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
                return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(WITHOUT_PIDFD)

    def wait(self) -> None:
        """Wait for its end without a limit, and reap it."""
        if self.returncode is None:
            _pid, status = os.waitpid(self.pid, 0)
            self.returncode = os.waitstatus_to_exitcode(status)

    def end(self, seconds: float) -> None:
        """End its process group: TERM, and `seconds` later KILL for the processes that are left."""
        deadline = time.monotonic() + seconds
        signal_group(self.pid, signal.SIGTERM)
        if self.ended_within(seconds):
            # Its children have the same time to end; no descriptor says so, hence the polling.
            while signal_group(self.pid, 0) and time.monotonic() < deadline:
                time.sleep(0.02)
        signal_group(self.pid, signal.SIGKILL)
        self.wait()


class Streams(NamedTuple):
    """What a command has as its 0, 2, 1 and 3; stdout None: it has this process's."""

    stdin: int
    stderr: int
    stdout: int | None
    words: int | None = None  # what it has as its 3: what it says about the entries of a batch


def start(argv: Strings, environment: Strings, streams: Streams, passed: Sequence[int]) -> Spawned:
    """Start a command; it inherits `passed` and `streams`."""
    stdin, stderr, stdout, words = streams
    least = FIRST if words is None else FIRST + 1
    with contextlib.ExitStack() as opened:
        given = [above_standard(fd, opened, least) for fd in (stdin, stderr, *passed)]
        duplicates = [(given[0], 0), (given[1], 2), *((fd, fd) for fd in given[2:])]
        if stdout is not None:
            duplicates.insert(0, (above_standard(stdout, opened, least), 1))
        if words is not None:
            duplicates.append((above_standard(words, opened, least), FIRST))
        return Spawned(spawn(argv, environment, duplicates), stderr, stdout, words)


def above_standard(fd: int, opened: contextlib.ExitStack, least: int = FIRST) -> int:
    """Return a descriptor not below `least`, copied if need be: lower ones are replaced."""
    if fd >= least:
        return fd
    copy: int = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, least)
    opened.callback(os.close, copy)
    return copy


def not_started(command: str, error: OSError | ValueError) -> HandlerResult:
    """Return the result for an entry whose command could not be started."""
    why = getattr(error, "strerror", None) or str(error)
    short = isinstance(error, OSError) and error.errno in _SHORTAGE
    verdict = Verdict.RETRY if short else Verdict.MISCONFIGURED
    reason = shortened(f"{command}: cannot be run: {why}")
    attempted = getattr(error, "errno", None) not in SHORT
    return HandlerResult(verdict, reason, attempted=attempted, ran=False)


def not_given(error: OSError | MemoryError) -> HandlerResult:
    """Return the result for an entry that could not be given to a command."""
    why = getattr(error, "strerror", None) or repr(error)
    reason = shortened(f"cannot be given to the command: {why}")
    attempted = getattr(error, "errno", None) not in SHORT
    return HandlerResult(Verdict.RETRY, reason, attempted=attempted, ran=False)
