"""Look at a name, list a directory, open a directory: always through an open descriptor.

Guarantees: no symbolic link in the last component is followed. Each listing has a file offset of
its own, so threads may list the same directory at the same time. Descriptors are closed on exec.
Fails: the kernel's OSError. For `stat_or_none`, `exists` and `inode_of` a name that is not there is
an answer; `open_dir` raises FileNotFoundError.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)


def stat_or_none(name: bytes, directory: int) -> os.stat_result | None:
    """Return the status of a name in a directory, None if it is not there."""
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except OSError as error:
        if error.errno in _NOT_THERE:
            return None
        raise


def exists(name: bytes, directory: int) -> bool:
    """Whether a directory has this name, whatever kind of file it is."""
    return stat_or_none(name, directory) is not None


def inode_of(name: bytes, directory: int) -> int | None:
    """Return the inode number of a name in a directory, None if it is not there."""
    status = stat_or_none(name, directory)
    return None if status is None else status.st_ino


def open_dir(name: bytes, parent: int) -> int:
    """Open a directory for the caller to close."""
    return os.open(name, DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)


@contextlib.contextmanager
def listing(directory: int) -> Iterator[Iterator[os.DirEntry[str]]]:
    """List a directory in the kernel's order; an item can be asked for its status until the end."""
    fd = os.open(b".", DIRECTORY, dir_fd=directory)  # a new open file: a new offset
    try:
        with os.scandir(fd) as items:
            yield items
    finally:
        os.close(fd)


def scan_dir(directory: int) -> Iterator[os.DirEntry[str]]:
    """Yield what is in a directory; each item must be used before the next is asked for."""
    with listing(directory) as items:
        yield from items


def names_in(directory: int) -> Iterator[bytes]:
    """Yield the names in a directory, in the kernel's order."""
    return (os.fsencode(item.name) for item in scan_dir(directory))
