"""Which file system a directory is on, and what cannot be trusted there.

The name comes from the mount table by the mount id of an open descriptor (proc(5): fdinfo,
mountinfo), so that bind mounts, subvolumes and mounts over a path are told apart as statfs would.
Where /proc cannot be read the name is "" and nothing is assumed to be blind.
"""

from __future__ import annotations

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


def filesystem(fd: int) -> str:
    """Return the type of the file system that `fd` is on, as the mount table has it; "" unknown."""
    try:
        with open(f"/proc/self/fdinfo/{fd}", "rb") as info:
            lines = dict(line.split(b":", 1) for line in info if b":" in line)
        mount = lines[b"mnt_id"].strip()
        with open("/proc/self/mountinfo", "rb") as table:
            for line in table:
                if line.split(b" ", 1)[0] == mount:
                    name = line.split(b" - ", 1)[1].split(b" ", 1)[0].decode("ascii", "replace")
                    return "fuse" if name.startswith("fuse.") else name
    except (OSError, KeyError, IndexError):
        pass
    return ""
