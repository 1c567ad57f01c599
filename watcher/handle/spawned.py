"""A command as a process: started in a group of its own, waited for by descriptor.

Started by posix_spawn(3) (`posix_spawn`), which costs half of what `subprocess` does. What the
command may have open is what it is given: all that we open is closed on exec.
Fails: `start` raises the OSError of the kernel, or ValueError for an argument that has no bytes.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import select
import signal
import time
from collections.abc import Sequence

from watcher.handle.child import Trimmer, signal_group
from watcher.handle.posix_spawn import Strings, spawn

WITHOUT_PIDFD = 0.01  # seconds between two looks whether it has ended


class Spawned:
    """One running command, the leader of a process group."""

    def __init__(self, pid: int, stderr: int) -> None:
        self.pid = pid
        self.returncode: int | None = None  # negative: the signal that ended it
        self._stderr = stderr

    def ended_within(self, seconds: float | None) -> bool:
        """Wait for its end, so long at most; say whether it has ended. Then it is reaped."""
        deadline = math.inf if seconds is None else time.monotonic() + seconds
        trimmer = Trimmer(self._stderr)
        try:
            pidfd = os.pidfd_open(self.pid)
        except OSError:  # before Linux 5.3, or out of descriptors: look now and then
            pidfd = -1
        try:
            while True:
                left = max(0.0, deadline - time.monotonic())
                if self._look(pidfd, min(left, trimmer.wait)):
                    return True
                if left == 0:
                    return False
                trimmer.look()
        finally:
            if pidfd >= 0:
                os.close(pidfd)

    def _look(self, pidfd: int, seconds: float) -> bool:
        if pidfd >= 0:
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
        """Wait for its end, however long, and reap it."""
        if self.returncode is None:
            _pid, status = os.waitpid(self.pid, 0)
            self.returncode = os.waitstatus_to_exitcode(status)

    def end(self, seconds: float) -> None:
        """End it and what it started: TERM, and so many seconds later KILL for what is left."""
        deadline = time.monotonic() + seconds
        signal_group(self.pid, signal.SIGTERM)
        if self.ended_within(seconds):
            # What it started has the same time to end; nothing announces that, so we look.
            while signal_group(self.pid, 0) and time.monotonic() < deadline:
                time.sleep(0.02)
        signal_group(self.pid, signal.SIGKILL)
        self.wait()


def start(
    argv: Strings, environment: Strings, stdin: int, stderr: int, passed: Sequence[int]
) -> Spawned:
    """Start a command; it inherits `passed`, and `stdin` and `stderr` as its own."""
    with contextlib.ExitStack() as opened:
        given = [_above_standard(fd, opened) for fd in (stdin, stderr, *passed)]
        duplicates = [(given[0], 0), (given[1], 2), *((fd, fd) for fd in given[2:])]
        return Spawned(spawn(argv, environment, duplicates), stderr)


def _above_standard(fd: int, opened: contextlib.ExitStack) -> int:
    """Return a descriptor that is none of the standard three, which a command gets anew."""
    if fd > 2:  # noqa: PLR2004 - standard input, output and error
        return fd
    copy: int = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    opened.callback(os.close, copy)
    return copy
