"""Which file system a directory is on, and what cannot be trusted there.

The name comes from the mount table by the mount id of an open descriptor (proc(5): fdinfo,
mountinfo), so that bind mounts, subvolumes and mounts over a path are told apart as statfs would.
Where /proc cannot be read the name is "" and nothing is assumed to be blind.
Fails: OSError for want of what there may be again in a moment: that says nothing of /proc.
"""

from __future__ import annotations

import errno
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
# flock(2): on NFS an exclusive lock needs a descriptor open for writing.
LOCK_BY_RECORD = frozenset({"nfs", "nfs4"})
_OVER_SOON = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR, errno.EIO)


class Mount(NamedTuple):
    """A line of the mount table: the type, where from, and the options of mount and superblock."""

    filesystem: str
    source: str
    options: tuple[str, ...]


def filesystem(fd: int) -> str:
    """Return the type of the file system that `fd` is on, as the mount table has it; "" unknown."""
    return mount(fd).filesystem


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
