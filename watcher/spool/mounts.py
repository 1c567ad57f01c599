"""Which file system a directory is on, and which calls cannot be trusted there.

The name is read from the mount table by the mount id of an open descriptor (proc(5): fdinfo,
mountinfo). So bind mounts, subvolumes and mounts over a path are distinguished, as by statfs(2).
If /proc cannot be read the name is "", and events and leases are trusted.
Fails: OSError for an error that may be over soon, such as no free descriptor.
"""

from __future__ import annotations

import errno
import os
from typing import NamedTuple

_REMOTE = frozenset(
    {
        *("9p", "afs", "ceph", "cifs", "coda", "fuse", "gfs2", "gpfs", "lustre", "ncpfs", "nfs"),
        *("nfs4", "ocfs2", "prl_fs", "smb3", "smbfs", "vboxsf", "virtiofs"),
    }
)

# Changes made elsewhere raise no event here (inotify(7): network and pseudo file systems).
EVENTS_BLIND = _REMOTE
# A lease is refused, or granted without knowing of writers elsewhere or in a user-space server.
LEASES_BLIND = _REMOTE | {"fuseblk"}
# Here a refused lease means a writer on this machine, because the kernel's own count of writers
# decides. (NFS and CIFS also refuse a lease if they have no delegation or oplock.)
LEASES_LOCAL = frozenset({"fuse", "fuseblk", "virtiofs"})
# flock(2): on NFS an exclusive lock needs a descriptor open for writing.
LOCK_BY_RECORD = frozenset({"nfs", "nfs4"})
# No ctime is stored here, so that nothing tells when a file was moved.
CTIME_LOST = frozenset({"exfat", "msdos", "vfat"})
_OVER_SOON = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR, errno.EIO)


class Mount(NamedTuple):
    """A line of the mount table: the type, where from, and the options of mount and superblock."""

    filesystem: str
    source: str
    options: tuple[str, ...]


def filesystem(fd: int) -> str:
    """Return the type of the file system that `fd` is on, as the mount table has it; "" unknown."""
    return mount(fd).filesystem


def are_one(one: int, other: int) -> bool:
    """Whether a file can be renamed from one open directory to another one."""
    return os.fstat(one).st_dev == os.fstat(other).st_dev and _number(one) == _number(other)


def _number(fd: int) -> bytes:
    """Return the mount id of a descriptor; b"" where /proc cannot be read."""
    try:
        with open(f"/proc/self/fdinfo/{fd}", "rb") as info:
            return next((line for line in info if line.startswith(b"mnt_id:")), b"")
    except OSError:
        return b""


def mount(fd: int) -> Mount:
    """Return the mount that `fd` is on; everything in it is empty where /proc cannot be read."""
    try:
        with open(f"/proc/self/fdinfo/{fd}", "rb") as info:
            lines = dict(line.split(b":", 1) for line in info if b":" in line)
        number = lines[b"mnt_id"].strip()
        with open("/proc/self/mountinfo", "rb") as table:
            for line in table:
                if line.split(b" ", 1)[0] == number:
                    return _mount(line.decode("utf-8", "backslashreplace"))
    except OSError as error:
        if error.errno in _OVER_SOON:
            raise
    except (KeyError, IndexError, ValueError):
        pass
    return Mount("", "", ())


def _mount(line: str) -> Mount:
    before, _, after = line.rstrip("\n").partition(" - ")
    name, source, superblock = after.split(" ", 2)
    options = dict.fromkeys([*before.split(" ")[5].split(","), *superblock.split(",")])
    return Mount("fuse" if name.startswith("fuse.") else name, source, tuple(options))
