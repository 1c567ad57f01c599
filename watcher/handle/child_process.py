"""What every child process of a handler needs: a file for what it prints, signals to its group.

The file is in memory and has no name; all processes that have it open append to it. So the daemon
does not wait until they close it, and its text outlives the process. Its size is bounded: while
the process runs, a `Trimmer` frees all but the end; when it has ended, `last_of` empties and seals
the file. A process that still has it open then gets EPERM when it writes, which most programs
ignore; with a pipe, SIGPIPE would end it.
Fails: `stderr_file` raises OSError when it cannot make a file.
"""

from __future__ import annotations

import contextlib
import fcntl
import os

from watcher.spool import libc

KEPT = 64 << 10  # bytes of standard error or output: what is printed at all is seldom more
LONGEST = 4 << 20  # bytes of it; beyond them all but the end is dropped
SOON, LATER = 0.02, 0.1  # seconds between two checks while it grows, and while it does not
GROWN = 64 << 10  # bytes
_GIVEN = (  # to a command, for its entry: this process may itself have been started by a handler
    *(b"WATCHER_QUEUE", b"WATCHER_ENTRY", b"WATCHER_KEY", b"WATCHER_ATTEMPT", b"WATCHER_FILE"),
    *(b"WATCHER_PATH", b"WATCHER_METADATA", b"WATCHER_METADATA_FILE", b"WATCHER_FILES"),
)


def inherited_environment() -> list[bytes]:
    """Return the environment of this process, without what describes an entry."""
    return [b"%s=%s" % item for item in os.environb.items() if item[0] not in _GIVEN]


def stderr_file(name: str = "stderr") -> int:
    """Return a file in memory, without a name in any directory; every write appends.

    Making and removing a file on ext4 takes some 80 microseconds.
    """
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND)
    return fd


def end_of(fd: int) -> bytes:
    """Return the end of what was written to it; b"" if it cannot be read.

    The text is only an explanation: an error here must not change the result of the work.
    """
    try:
        return os.pread(fd, KEPT, max(0, os.fstat(fd).st_size - KEPT))
    except OSError:
        return b""


def last_of(fd: int) -> bytes:
    """Return the end of what was written to it, and seal the file: later writes fail."""
    text = end_of(fd)
    with contextlib.suppress(OSError):
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW)
        os.ftruncate(fd, 0)  # after the seal, so that it stays empty
    return text


class Trimmer:
    """Keeps a standard error short while its process runs: call `look` every `wait` seconds.

    What is written to it is copied to the descriptor `copy_to`, if there is one: to a terminal.
    """

    def __init__(self, fd: int, copy_to: int | None = None) -> None:
        self.wait = SOON
        self.copy_to = copy_to
        self._fd = fd
        self._size = 0
        self._copied = 0

    def copy(self) -> None:
        """Copy what was written since the last call."""
        if self.copy_to is None:
            return
        with contextlib.suppress(OSError):  # its reader has ended
            while text := os.pread(self._fd, GROWN, self._copied):
                self._copied += os.write(self.copy_to, text)

    def look(self) -> None:
        """Copy what is new. If the file is too large, free the memory of all but its end."""
        self.copy()
        with contextlib.suppress(OSError):  # then it stays large, which harms nothing
            now = os.fstat(self._fd)
            grown, self._size = now.st_size - self._size, now.st_size
            self.wait = SOON if grown > GROWN else min(LATER, 2 * self.wait)
            if now.st_blocks * 512 > LONGEST:
                _forget(self._fd, now.st_size - KEPT)


class Cap:
    """Ends the growth of a file in memory while processes write to it: call `look` now and then."""

    def __init__(self, fd: int, most: int) -> None:
        self._fd = fd
        self._most = most

    def look(self) -> None:
        """Seal the file if it has more than `most` bytes: a write then fails with EPERM."""
        with contextlib.suppress(OSError):
            if os.fstat(self._fd).st_size > self._most:
                fcntl.fcntl(self._fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW)


def _forget(fd: int, size: int) -> None:
    """Free a memory file's first `size` bytes; offsets, and so appending writers, are unchanged."""
    libc.punch_hole(fd, size)


def signal_group(pid: int, number: int) -> bool:
    """Send a signal to a process group; return whether it has a process."""
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # the handler changed its user
    return True
