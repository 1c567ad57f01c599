"""Take the inotify descriptor of a daemon: `events_thief.py PID FD [WATCH]`.

With WATCH: remove that watch, and read all that is queued, so that the daemon is told of nothing.
Else: read every event as soon as it is there, until standard input ends. "ready" is printed when
the descriptor is there, or when the watch is gone; else why not.
"""

import contextlib
import ctypes
import os
import select
import sys
import threading

PIDFD_GETFD = 438  # the same on every architecture


def main() -> int:
    """Steal."""
    pid, number, *watch = map(int, sys.argv[1:])
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.syscall(PIDFD_GETFD, os.pidfd_open(pid), number, 0)
    if fd < 0:
        print(os.strerror(ctypes.get_errno()), flush=True)
        return 1
    if watch:
        libc.inotify_rm_watch(fd, *watch)
        read(fd)
        print("ready", flush=True)
        return 0
    with contextlib.suppress(OSError):  # to be quicker than the daemon, also on a busy machine
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    events = select.poll()
    events.register(fd, select.POLLIN)
    print("ready", flush=True)
    threading.Thread(target=wait_for_end, daemon=True).start()
    while events.poll():
        read(fd)
    return 0


def read(fd: int) -> None:
    """Read what is queued."""
    with contextlib.suppress(BlockingIOError):
        os.read(fd, 1 << 20)


def wait_for_end() -> None:
    """End the process when standard input ends."""
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
