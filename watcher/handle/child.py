"""What every child process of a handler needs: a file for its standard error, signals to its group.

The file has no name, and all that hold it write at its end, so that nobody waits for whoever still
holds it, and what a process wrote is there after its death.
Fails: `stderr_file` raises OSError when no file can be had.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from typing import IO

KEPT = 4096  # bytes of standard error


def stderr_file() -> IO[bytes]:
    """Return a file without a name; all that hold it write at its end, also after it was cut."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller's to close
    fcntl.fcntl(file, fcntl.F_SETFL, os.O_APPEND)
    return file


def end_of(fd: int) -> bytes:
    """Return the last that was written to it; nothing, where it cannot be read.

    What cannot be read explains: it must not make an error of work that is done.
    """
    try:
        return os.pread(fd, KEPT, max(0, os.fstat(fd).st_size - KEPT))
    except OSError:
        return b""


def cut(fd: int, longest: int) -> None:
    """Drop all but the end of a file beyond `longest` bytes; what is written just then may go."""
    with contextlib.suppress(OSError):  # it is only large
        if os.fstat(fd).st_size > longest:
            end = end_of(fd)
            os.ftruncate(fd, 0)
            os.write(fd, end)


def signal_group(pid: int, number: int) -> bool:
    """Send a signal to a process group; say whether anybody is in it."""
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # a handler that became somebody else
    return True
