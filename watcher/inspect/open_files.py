"""Which processes have a file open for writing, as far as /proc shows it.

For explanations only: a lease is the evidence. Only root sees other users' processes, and /proc
does not show a shared mapping whose descriptor is closed.
"""

from __future__ import annotations

import os


def writers(status: os.stat_result) -> list[int]:
    """Return the pids that have the file of this stat open for writing."""
    try:
        pids = sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
    except OSError:
        return []
    return [pid for pid in pids if _writes(pid, status)]


def _writes(pid: int, status: os.stat_result) -> bool:
    try:
        return any(
            _for_writing(pid, fd) for fd in os.listdir(f"/proc/{pid}/fd") if _is(pid, fd, status)
        )
    except OSError:  # the process has ended, or belongs to another user
        return False


def _is(pid: int, fd: str, status: os.stat_result) -> bool:
    try:
        there = os.stat(f"/proc/{pid}/fd/{fd}")
    except OSError:
        return False
    return (there.st_dev, there.st_ino) == (status.st_dev, status.st_ino)


def _for_writing(pid: int, fd: str) -> bool:
    try:
        with open(f"/proc/{pid}/fdinfo/{fd}", encoding="ascii", errors="replace") as info:
            flags = next(int(line.split()[1], 8) for line in info if line.startswith("flags"))
    except (OSError, StopIteration, ValueError):
        return False
    return flags & os.O_ACCMODE != os.O_RDONLY
