"""Directories of the system: never a queue.

Every regular file in a queue of the raw format is an entry, and what was handled is removed. A
typing error, or a link that root put in the place of a queue, would make the files of /etc entries.
Guarantees: a directory is known by its device and inode number, whatever path or link led to it.
Fails: never; a directory that cannot be looked at is none of them.
"""

from __future__ import annotations

import os

_NAMES = (
    "/",
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/home",
    "/lib",
    "/lib64",
    "/opt",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/sys",
    "/usr",
    "/usr/bin",
    "/usr/lib",
    "/usr/lib64",
    "/usr/libexec",
    "/usr/local",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/share",
    "/var",
    "/var/cache",
    "/var/lib",
    "/var/log",
)


def is_of_the_system(status: os.stat_result) -> bool:
    """Whether an open directory is one of the system's own, by its status."""
    for name in _NAMES:
        try:
            found = os.stat(name)
        except OSError:
            continue
        if (found.st_dev, found.st_ino) == (status.st_dev, status.st_ino):
            return True
    return False
