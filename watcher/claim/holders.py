"""Who has which file claimed, without touching a lock: /proc/locks (proc(5))."""

from __future__ import annotations

import os


def holders() -> dict[tuple[int, int], int]:
    """Return the process that holds a flock(2) on each file, by (device, inode).

    Empty where /proc cannot be read. A claim whose holder's pid is not visible here (another
    container) has pid 0 or less.
    """
    found: dict[tuple[int, int], int] = {}
    try:
        with open("/proc/locks", encoding="ascii") as table:
            for line in table:
                fields = line.split()
                if fields[1] != "FLOCK":  # a waiter's line has "->" there
                    continue
                major, minor, inode = fields[5].split(":")
                found[os.makedev(int(major, 16), int(minor, 16)), int(inode)] = int(fields[4])
    except (OSError, ValueError, IndexError):
        pass
    return found
