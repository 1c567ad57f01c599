"""Which process has which file claimed, read from /proc/locks (proc(5)); no lock is touched."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator


def holders() -> dict[tuple[int, int], int]:
    """Return the process that holds a flock(2) on each file, by (device, inode).

    Empty where /proc cannot be read. A claim whose holder's pid is not visible here (another
    container) has pid 0 or less.
    """
    return dict(_locks())


def locked_by(status: os.stat_result) -> set[int]:
    """Return every process that holds a flock(2) on the file of this status, shared or not."""
    return {pid for file, pid in _locks() if file == (status.st_dev, status.st_ino)}


def _locks() -> Iterator[tuple[tuple[int, int], int]]:
    """Yield the file of each flock(2) that is held, and its process."""
    try:
        with open("/proc/locks", encoding="ascii", errors="replace") as table:
            lines = table.readlines()
    except OSError:
        return
    for line in lines:
        fields = line.split()
        with contextlib.suppress(ValueError, IndexError):  # a lock on nothing that has a number
            if fields[1] == "FLOCK":  # a waiter's line has "->" there
                major, minor, inode = fields[5].split(":")
                yield (os.makedev(int(major, 16), int(minor, 16)), int(inode)), int(fields[4])


def described(pid: int) -> str:
    """Return a text for a process, with its user if that is another one."""
    if pid <= 0:
        return "a process of another container, or one that /proc does not show us"
    try:
        uid = os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return f"process {pid}, or one that inherited it (/proc does not show it)"
    return f"process {pid}" + (f" (user {_user(uid)})" if uid != os.geteuid() else "")


def _user(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
