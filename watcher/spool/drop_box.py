"""Commit to a drop box: a directory in which this user may write and search, and not read.

A directory of mode 1733 hides what each user puts into it from the others. It cannot be opened for
reading, and so not be synced; O_PATH is enough to make and rename files in it.
Guarantees: after `sync_names` the names survive a power failure. On ext4, xfs and btrfs one
syncfs(2) writes the directory too. Elsewhere each file is synced after its rename. That makes the
name durable where a rename and the times of the renamed file are one transaction; POSIX does not
promise it.
Fails: OSError.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Sequence

from watcher.spool.whole_sync import sync_file_system

_DIRECTORY = os.O_DIRECTORY | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


def open_to_commit(path: bytes) -> int:
    """Open a queue directory, as a drop box if this user may not read it."""
    try:
        return os.open(path, os.O_RDONLY | _DIRECTORY)
    except PermissionError:
        return os.open(path, os.O_PATH | _DIRECTORY)


def is_drop_box(directory: int) -> bool:
    """Whether a directory was opened without the right to read it."""
    return bool(fcntl.fcntl(directory, fcntl.F_GETFL) & os.O_PATH)


def keep_open(directory: int, names: Iterable[bytes]) -> list[int]:
    """Open files that are about to be renamed in a drop box, for `sync_names`; else none.

    For reading: a daemon asks for a lease on a new file, and the kernel refuses it to a file that
    is open for writing.
    """
    files: list[int] = []
    if is_drop_box(directory):
        try:
            files.extend(os.open(name, _READ, dir_fd=directory) for name in names)
        except BaseException:
            close(files)
            raise
    return files


def sync_names(files: Sequence[int]) -> None:
    """Make the new names of these files durable."""
    if not sync_file_system(files[0]):
        for fd in files:
            os.fsync(fd)


def close(files: Iterable[int]) -> None:
    """Close what `keep_open` opened."""
    for fd in files:
        os.close(fd)
