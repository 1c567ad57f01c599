"""A one-shot timer that makes a descriptor readable: timerfd_create(2).

A worker sets it; the daemon's thread has the descriptor in its poll(2). So the thread wakes once,
when the time is over, and not also at the moment at which the worker sets the timer.
Guarantees: one system call for each `set`.
Fails: if no timer can be had (out of descriptors, another C library), `fd` is None and `set`
returns -1.
"""

from __future__ import annotations

import contextlib
import functools
import os
import struct
from collections.abc import Callable

from watcher.spool import libc

_MONOTONIC = 1  # CLOCK_MONOTONIC
_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC  # TFD_NONBLOCK and TFD_CLOEXEC have the same values
_ONCE = struct.Struct("llll")  # struct itimerspec: the interval (none), then the time until it


class Alarm:
    """One timer.

    Attributes
    ----------
    fd:   readable when the time is over; None: there is no timer
    set:  starts the time (again); returns 0, or -1 if that cannot be done; any thread may call it
    """

    def __init__(self, seconds: float) -> None:
        self.fd: int | None = None
        self.set: Callable[[], int] = _no_timer
        with contextlib.suppress(AttributeError, ImportError, OSError):
            settime = libc.library().timerfd_settime
            fd: int = libc.library().timerfd_create(_MONOTONIC, _FLAGS)
            if fd >= 0:
                spec = _ONCE.pack(0, 0, int(seconds), round(seconds % 1 * 1e9))
                self.fd, self.set = fd, functools.partial(settime, fd, 0, spec, None)

    def clear(self) -> None:
        """Make the descriptor no longer readable."""
        if self.fd is not None:
            with contextlib.suppress(BlockingIOError):
                os.read(self.fd, 8)


def _no_timer() -> int:
    return -1
