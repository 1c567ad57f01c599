"""When a file was made: statx(2)'s birth time, which neither a rename nor utimes(2) changes.

Guarantees: `birth_ns` answers for the open file, whatever its name leads to by now; `birth_of`
looks at a name and follows no link. About 2 microseconds a call.
Fails: never. If the kernel, the C library or the file system does not know it, the answer is None.
"""

from __future__ import annotations

from watcher.spool import libc

_EMPTY_PATH = 0x1000  # AT_EMPTY_PATH, linux/fcntl.h
_NO_FOLLOW = 0x100  # AT_SYMLINK_NOFOLLOW


def birth_ns(fd: int) -> int | None:
    """Return when the open file was made, in nanoseconds since the epoch; None if not known."""
    return libc.birth_time_ns(fd, b"", _EMPTY_PATH)


def birth_of(name: bytes, directory: int) -> int | None:
    """Return when the file `name` was made; None if it is not there, or it is not known."""
    return libc.birth_time_ns(directory, name, _NO_FOLLOW)
