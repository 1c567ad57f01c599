"""The directory that a handler writes to: opened anew for each entry, and tried by `check`.

The path is the operator's word: links on it are followed. But root follows none that belongs to
another user than root and the owner of the directory that it leads to.
Guarantees: what the functions return is a directory that this process may write to.
Fails: OSError of the kernel; NotPermitted for a link that must not be followed.
"""

from __future__ import annotations

import errno
import os

from watcher.errors import NotPermitted
from watcher.rules.names import display
from watcher.spool import links
from watcher.spool.dirs import DIRECTORY, open_dir

# Of `Disk.move`: the file system has neither RENAME_NOREPLACE nor links (FAT by FUSE).
NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK)


def open_target(path: bytes, *, writable: bool = True) -> int:
    """Open the directory at an absolute path, for the caller to close."""
    fd = os.open(path, DIRECTORY)
    try:
        if os.geteuid() == 0:
            link = links.foreign(path, os.fstat(fd).st_uid)
            if link is not None:
                raise NotPermitted(  # noqa: TRY301 - closed below
                    f"{display(path)}: {display(link)} is a symbolic link of a user"
                )
        if writable:
            refuse_unwritable(fd)
    except BaseException:
        os.close(fd)
        raise
    return fd


def open_below(name: bytes, parent: int) -> int:
    """Open a directory in an open one, for the caller to close; a link is not followed."""
    fd = open_dir(name, parent)
    try:
        refuse_unwritable(fd)
    except BaseException:
        os.close(fd)
        raise
    return fd


def refuse_unwritable(fd: int) -> None:
    """Raise PermissionError, or the error of a read-only file system."""
    if os.access(".", os.W_OK | os.X_OK, dir_fd=fd):
        return
    readonly = os.fstatvfs(fd).f_flag & os.ST_RDONLY
    code = errno.EROFS if readonly else errno.EACCES
    raise OSError(code, os.strerror(code))
