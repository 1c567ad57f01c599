"""Sync a whole file system, where that is as good as fsync(2) of each file in it.

syncfs(2) reports failed writes only since Linux 5.8, and does nothing on some file systems.
Fails: OSError if the sync fails; False where it is not to be relied on.
"""

from __future__ import annotations

import os
import re

SYNCED_WHOLE = frozenset({"ext4", "xfs", "btrfs"})  # here syncfs(2) also flushes the device's cache


def sync_file_system(fd: int) -> bool:
    """Sync the file system that an open file or directory is on; return whether it was done."""
    from watcher.spool import libc, mounts

    release = tuple(map(int, re.findall("[0-9]+", os.uname().release)[:2]))
    try:
        if release < (5, 8) or mounts.filesystem(fd) not in SYNCED_WHOLE:
            return False
    except OSError:  # the type of the file system cannot be read: too many open files
        return False
    libc.syncfs(fd)
    return True
