"""Whether a file can be removed or renamed, as far as that is known before the call.

    the directory is sticky (S_ISVTX)     only its owner, the file's owner and CAP_FOWNER may
    the file or directory has the         nothing may, root included, until chattr(1) takes the
    attribute immutable or append-only    attribute away

Guarantees: nothing is changed.
Fails: never; if the kernel does not tell, the answer is that it can.
"""

from __future__ import annotations

import fcntl
import os
import stat
import struct

_GETFLAGS = 0x80086601  # FS_IOC_GETFLAGS, linux/fs.h
_PINNED = {0x10: "immutable", 0x20: "append-only"}
_CAP_FOWNER = 3


def is_sticky_for_us(directory: os.stat_result) -> bool:
    """Whether this process may remove only files of its own user from a directory."""
    if not directory.st_mode & stat.S_ISVTX or directory.st_uid == os.geteuid():
        return False
    return not _may_act_as_owner()


def _may_act_as_owner() -> bool:
    """Whether this process has CAP_FOWNER."""
    try:
        with open("/proc/self/status", "rb") as status:
            for line in status:
                if line.startswith(b"CapEff:"):
                    return bool(int(line.split()[1], 16) >> _CAP_FOWNER & 1)
    except (OSError, ValueError, IndexError):
        pass
    return os.geteuid() == 0


def pinned(fd: int) -> str:
    """Return the attribute that forbids to move or remove an open file; "" if none does."""
    try:
        (flags,) = struct.unpack("i", fcntl.ioctl(fd, _GETFLAGS, bytes(8))[:4])
    except OSError:
        return ""  # a file system without attributes
    return next((name for bit, name in _PINNED.items() if flags & bit), "")
