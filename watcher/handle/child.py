"""What every child process of a handler needs: a file for its standard error, signals to its group.

The file is in memory and has no name, and all that hold it write at its end, so that nobody waits
for whoever still holds it, and what a process wrote is there after its death.
Fails: `stderr_file` raises OSError when no file can be had.
"""

from __future__ import annotations

import contextlib
import fcntl
import os

KEPT = 4096  # bytes of standard error
LONGEST = 4 << 20  # bytes of it; beyond them all but the end is dropped
SOON, LATER = 0.02, 0.5  # seconds between two looks at it while it grows, and while it does not
GROWN = 64 << 10  # bytes


def stderr_file() -> int:
    """Return a file without a name; all that hold it write at its end.

    In memory: an ext4 takes some 80 microseconds to make a file and to forget it.
    """
    fd = os.memfd_create("stderr", os.MFD_CLOEXEC)
    fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND)
    return fd


def end_of(fd: int) -> bytes:
    """Return the last that was written to it; nothing, where it cannot be read.

    What cannot be read explains: it must not make an error of work that is done.
    """
    try:
        return os.pread(fd, KEPT, max(0, os.fstat(fd).st_size - KEPT))
    except OSError:
        return b""


class Trimmer:
    """Keeps a standard error short while its process runs: `look` every `wait` seconds."""

    def __init__(self, fd: int) -> None:
        self.wait = SOON
        self._fd = fd
        self._size = 0

    def look(self) -> None:
        """Give back the memory of all but the end of what has become too long; it loses nothing."""
        with contextlib.suppress(OSError):  # it is only large
            now = os.fstat(self._fd)
            grown, self._size = now.st_size - self._size, now.st_size
            self.wait = SOON if grown > GROWN else min(LATER, 2 * self.wait)
            if now.st_blocks * 512 > LONGEST:
                _forget(self._fd, now.st_size - KEPT)


def _forget(fd: int, size: int) -> None:
    """Make a hole of a memory file's first `size` bytes: nobody who writes at its end notices."""
    import ctypes

    keep_size, punch_hole = 1, 2  # fallocate(2), linux/falloc.h
    library = ctypes.CDLL(None, use_errno=True)
    fallocate = getattr(library, "fallocate64", library.fallocate)
    if fallocate(fd, keep_size | punch_hole, ctypes.c_int64(0), ctypes.c_int64(size)):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def signal_group(pid: int, number: int) -> bool:
    """Send a signal to a process group; say whether anybody is in it."""
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # a handler that became somebody else
    return True
