"""The lock of a trigger's run: one process at a time runs the command of a queue.

It is flock(2) on the directory `.watcher/` itself, on a descriptor that is opened for one run. The
command inherits the descriptor: if this process dies, the lock is kept for as long as the command
lives.
Fails: `take` raises WatcherError if `.watcher/` cannot be made or opened. Where the file system
locks no directory, the lock keeps no other process out.
"""

from __future__ import annotations

import fcntl
import os

from watcher.spool.dirs import DIRECTORY
from watcher.spool.spool import Spool, as_watcher_error


def take(spool: Spool) -> int | None:
    """Return the descriptor that has the lock; None if another run has it."""
    try:
        fd = os.open(b".", DIRECTORY, dir_fd=spool.state_root())
    except OSError as error:
        raise as_watcher_error(error, spool.home.path, "our own directory") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    except OSError:
        pass  # no locks on directories here
    return fd


def give_back(spool: Spool, fd: int) -> None:
    """Unlock, also for a process that the command left running, and close."""
    spool.disk.unlock(fd)
    os.close(fd)
