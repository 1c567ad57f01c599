"""Claim one file of an entry: open it, lock it, ask for its writers, check its name.

Guarantees: a claimed file is a regular file with one name (any number with `hard_links`), and had
that name when it was claimed. Nothing is written.
Fails: never raises, whatever the file is; a file that is not claimed is a `NotClaimed`, which says
why and when to look again.
"""

from __future__ import annotations

import errno
import os
import stat

from watcher.rules.evidence import Writer
from watcher.rules.names import display, other_names
from watcher.rules.results import NotClaimed, Reason
from watcher.spool import lease
from watcher.spool.claimed import Claim
from watcher.spool.dirs import stat_or_none
from watcher.spool.part import Part

STICKY = (
    "cannot be removed: the directory is sticky and another user's, and so is the file;"
    " chmod -t the directory, or have its owner run the daemon"
)


def add_part(
    claim: Claim, name: bytes, directory: int | None = None, unstamped: bytes | None = None
) -> NotClaimed | None:
    """Open and lock one more file of the entry."""
    spool, disk, lock = claim.spool, claim.spool.disk, claim.terms.lock
    writable = lock and spool.write_to_lock
    place = spool.fd if directory is None else directory
    try:
        fd = (disk.open_writable if writable else disk.open)(name, place)
    except FileNotFoundError:
        return NotClaimed(Reason.GONE, "no longer there")
    except OSError as error:
        return _cannot_open(name, error)
    try:
        if lock:
            disk.lock(fd)
        status = _look_and_ask(claim, fd) if claim.asks else os.fstat(fd)
        if directory is None and spool.sticky and status.st_uid != spool.euid:
            refused = NotClaimed(Reason.PINNED, f"{display(name)}: {STICKY}")
        elif spool.layout.may_be_entry(status):
            claim.linked |= status.st_nlink > 1
            now = stat_or_none(name, place)
            if now is not None and now.st_ino == status.st_ino and now.st_dev == status.st_dev:
                size, ctime_ns, mtime_ns = status.st_size, status.st_ctime_ns, status.st_mtime_ns
                claim.parts += (
                    Part(name, fd, status.st_ino, size, ctime_ns, mtime_ns, directory, unstamped),
                )
                return None
            refused = NotClaimed(Reason.GONE, "no longer under this name")
        else:
            refused = _no_entry(status)
    except BlockingIOError:
        refused = NotClaimed(Reason.BUSY, "claimed by another process or thread")
    except OSError as error:
        refused = NotClaimed(Reason.ERROR, f"{display(name)}: cannot be claimed: {error.strerror}")
    if lock:
        disk.unlock(fd)
    os.close(fd)
    return refused


def _look_and_ask(claim: Claim, fd: int) -> os.stat_result:
    """Return the status of a file while the lease is held, so that both are of one moment."""
    found = lease.take(fd)
    status = os.fstat(fd)
    if found is Writer.NONE:
        lease.give_back(fd)
    if found is Writer.SOME or claim.writer is Writer.NONE:
        claim.writer = found  # where leases are blind, a granted one proves nothing
    return status


def _no_entry(status: os.stat_result) -> NotClaimed:
    """Say why what was opened cannot be an entry."""
    if not stat.S_ISREG(status.st_mode):
        return NotClaimed(Reason.FOREIGN, "not a regular file")
    if status.st_nlink == 0:
        return NotClaimed(Reason.GONE, "no longer there")
    return NotClaimed(Reason.FOREIGN, other_names(status))


def _cannot_open(name: bytes, error: OSError) -> NotClaimed:
    if error.errno in (errno.ELOOP, errno.ENXIO, errno.ENODEV):
        return NotClaimed(Reason.FOREIGN, "a symbolic link, a socket or a device")
    if error.errno == errno.EAGAIN:
        return NotClaimed(Reason.BUSY, "leased to another process (a file server), which was told")
    hint = "; check its owner and mode" if error.errno in (errno.EACCES, errno.EPERM) else ""
    return NotClaimed(Reason.ERROR, f"{display(name)}: cannot be opened: {error.strerror}{hint}")
