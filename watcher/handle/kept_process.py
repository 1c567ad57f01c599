"""A child process that stays for many entries: whether it has ended, and its end.

Guarantees: a wait for its end has a limit, and costs no processor time where the kernel has pidfds.
A process that ends is reaped once, after what is left of its process group was killed: its number
is free only then.
Fails: never.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable

from watcher.handle.adopted_children import own_children
from watcher.handle.child_process import signal_group

WITHOUT_PIDFD = 0.02  # seconds between two checks whether it has ended


class KeptProcess:
    """The leader of a process group; `running` has its number until it is reaped.

    `wait` waits for its end and returns its exit status (negative: the signal that ended it).
    """

    def __init__(self, pid: int, wait: Callable[[], int], running: set[int]) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._wait = wait
        self._running = running
        running.add(pid)
        own_children.add(pid)
        self.pidfd: int | None = None  # None: before Linux 5.3, or no descriptor is free
        with contextlib.suppress(OSError):
            self.pidfd = os.pidfd_open(pid)

    def dead(self) -> bool:
        """Whether it has ended. It is not reaped here: its number must not be used again yet."""
        if self.returncode is not None:
            return True
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        try:
            return os.waitid(os.P_PID, self.pid, flags) is not None
        except ChildProcessError:  # with SIGCHLD ignored, the kernel reaps
            return True

    def ends_within(self, seconds: float) -> bool:
        """Wait at most so long for its end; return whether it has ended."""
        if self.pidfd is not None:
            poll = select.poll()
            poll.register(self.pidfd, select.POLLIN)
            poll.poll(seconds * 1000)
            return self.dead()
        deadline = time.monotonic() + seconds
        while not self.dead() and time.monotonic() < deadline:
            time.sleep(WITHOUT_PIDFD)
        return self.dead()

    def kill(self) -> int:
        """Kill what is left of its group and reap it; return its exit status."""
        if self.returncode is None:
            signal_group(self.pid, signal.SIGKILL)
            self._running.discard(self.pid)  # first: after the wait its number is free
            self.returncode = self._wait()
        own_children.discard(self.pid)
        return self.returncode

    def close(self) -> None:
        """Close the pidfd, once."""
        pidfd, self.pidfd = self.pidfd, None
        if pidfd is not None:
            os.close(pidfd)
