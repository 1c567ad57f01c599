"""Does a file keep its inode number when it is moved? If not, the queue is not served.

A file that is moved (aside, to deferred/, dead/ or held/) is recognised by its inode number: a
replacement that a writer renamed over its name has another one. Some user-space file systems
(mergerfs, sshfs) give a number to each name, so a file that is renamed or linked gets another. Each
moved file would look like a replacement, be put back, and be handled again without end. No other
comparison is enough: a replacement may have the same size and times, and the claim's descriptor
still shows the old number.

Guarantees: no cost on the file systems known to keep the number. On others a scratch file in
`.watcher/` is made, moved and removed, once for each queue that is opened to be served.
Fails: Unavailable, with the reason and a cure. If no trial can be made now, the queue is served.
"""

from __future__ import annotations

import contextlib
import os

from watcher.errors import Unavailable, WatcherError
from watcher.rules.names import display
from watcher.spool.dirs import inode_of
from watcher.spool.disk import Disk
from watcher.spool.spool import Spool

_KEEP = frozenset(
    {"bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "jfs", "ramfs", "tmpfs", "xfs", "zfs"}
)
_MAKE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
WHY = (
    "a file gets another inode number when it is moved here, so that it cannot be told from a"
    " replacement: serve the directory beneath this file system (or mount mergerfs with use_ino)"
)


def check(spool: Spool) -> None:
    """Raise Unavailable where the queue's files do not keep their numbers."""
    if spool.filesystem in _KEEP:
        return
    try:
        changes = change(spool.disk, spool.state_root())
    except (OSError, WatcherError):
        return  # no room for a file, or no `.watcher`: reported elsewhere
    if changes:
        raise Unavailable(f"{display(spool.path)} ({spool.filesystem or 'unknown'}): {WHY}")


def change(disk: Disk, directory: int) -> bool:
    """Move a scratch file in each way that entries are moved; return whether its number changes."""
    names = [b".%d.%s.tmp" % (os.getpid(), os.urandom(4).hex().encode()) for _ in range(3)]
    fd = os.open(names[0], _MAKE, 0o600, dir_fd=directory)
    try:
        numbers = {os.fstat(fd).st_ino, inode_of(names[0], directory)}
        os.rename(names[0], names[1], src_dir_fd=directory, dst_dir_fd=directory)
        numbers.add(inode_of(names[1], directory))
        disk.move(names[1], directory, names[2], directory)
        numbers.add(inode_of(names[2], directory))
    finally:
        os.close(fd)
        for name in names:
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=directory)
    return len(numbers) > 1
