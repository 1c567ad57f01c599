"""Return files from the process directory to the queue: what was not removed, what a crash left.

By link and unlink, not by rename: a scan or an event would take a rename for the writer's, and a
writer may still be writing to the file. A daemon forgets the event of its own link (`WorkerLoop`).
Guarantees: nothing is overwritten: a file whose name is taken gets the next free number. A crash
between link and unlink leaves one file with two names; `put_back` then removes the name aside.
Fails: OSError or WatcherError; the file is then aside, where the next recovery finds it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable

from watcher.errors import TryAgain
from watcher.rules.kinds import ENTRY_KINDS, Kind
from watcher.rules.lifecycle import State
from watcher.rules.names import TRIES, display, free_number, numbered_name
from watcher.spool.dirs import exists, inode_of, names_in, scan_dir
from watcher.spool.journal_spill import append_spill
from watcher.spool.process_dir import clear, dead
from watcher.spool.spool import Spool

_SECOND = 1_000_000_000  # nanoseconds: some file systems keep whole seconds
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


def recover(spool: Spool) -> int:
    """Return to the queue what dead processes left aside; return how many files."""
    found = 0
    for left in dead(spool):
        with contextlib.suppress(OSError):  # the next sweep tries again
            found += put_all_back(spool, left.fd)
            append_spill(left.fd, spool.journal_files())
            clear(left)
    return found


def put_all_back(
    spool: Spool, directory: int, on_replaced: Callable[[bytes], bool] | None = None
) -> int:
    """Return every entry aside in one directory to the queue; return how many; raises OSError.

    `on_replaced` as in `put_back`. In a queue with markers it is called for each file: a file in
    the queue would wait for a marker. The markers aside stay (`remove_marker.put_back_markers`).
    """
    names = [name for name in names_in(directory) if name[:1] != b"."]
    names = [name for name in names if spool.layout.kind(name) is not Kind.MARKER]
    if names:  # a power failure must not bring a file back to where it was before, too
        spool.disk.sync(directory)
    for name in names:
        if spool.layout.marker and on_replaced is not None and on_replaced(name):
            continue
        put_back(spool, name, directory, name, on_replaced)
    return len(names)


def put_back(
    spool: Spool,
    name: bytes,
    directory: int,
    queue_name: bytes,
    on_replaced: Callable[[bytes], bool] | None = None,
) -> None:
    """Return a file to the queue under its `queue_name`, or under the next free number of it.

    If a replacement has the name, `on_replaced` is called first: it says whether it moved the file
    to another place.
    """
    there = _is_back(spool, name, directory)
    if there is not None:
        spool.disk.sync(there)  # a crash between link and unlink left both names
        spool.disk.unlink(name, directory)
        return
    stem, _ = spool.layout.split(queue_name)
    first = 0
    for _ in range(TRIES):
        number = free_number(
            lambda n: n > 0 and exists(_numbered(queue_name, stem, n), spool.fd), first
        )
        first = number + 1
        target = _numbered(queue_name, stem, number)
        if number and spool.layout.raw and spool.layout.kind(target) is not Kind.ENTRY:
            why = f"its new name {display(target)} would be no entry's: see match and ignore"
            raise TryAgain(f"{display(queue_name)}: cannot be put back: {why}")
        try:
            spool.disk.link_and_unlink(name, directory, target, spool.fd)
        except FileExistsError:
            if number == 0 and on_replaced is not None and on_replaced(name):
                return
            continue
        except OSError as error:
            linked = inode_of(target, spool.fd) == inode_of(name, directory)
            if error.errno not in _NO_LINKS or linked:  # linked: its unlink was refused
                raise
            try:
                spool.disk.move(name, directory, target, spool.fd)
            except FileExistsError:
                continue
        return
    raise TryAgain(f"{display(queue_name)}: others take each name before it can be put back")


def mark_as_written(fd: int) -> None:
    """Set a file's mtime a second later than its ctime: it was written to, and may be again.

    Its own times would call it renamed in, and the event of our link would call it linked in
    (`claim.linked`).
    """
    moment = time.time_ns() + _SECOND
    try:
        os.utime(fd, ns=(moment, moment))
    except OSError:  # another user's file: where it may be written to, the times may be now
        with contextlib.suppress(OSError):
            os.utime(fd)


def _numbered(name: bytes, stem: bytes, number: int) -> bytes:
    return numbered_name(stem, name[len(stem) :], number) if number else name


def _is_back(spool: Spool, name: bytes, directory: int) -> int | None:
    """Return the directory, the queue or deferred/, that has a link to this file; else None.

    The link may have any number: a crash may have come between link and unlink when the first name
    was taken. A second link under the first name would give the file two names in the queue.
    """
    now = os.stat(name, dir_fd=directory, follow_symlinks=False)
    if now.st_nlink == 1:
        return None
    if spool.layout.hard_links:  # another link may be another entry
        return spool.fd if inode_of(name, spool.fd) == now.st_ino else None
    kind = spool.layout.in_state_dir().kind
    here = (item for item in scan_dir(spool.fd) if item.inode() == now.st_ino)
    if any(kind(os.fsencode(item.name)) in ENTRY_KINDS for item in here):
        return spool.fd
    deferred = spool.state_dir(State.DEFERRED)
    if deferred is None or not _has_inode(deferred, now.st_ino):
        return None
    open_ = spool.disk.open_writable if spool.write_to_lock else spool.disk.open
    fd = open_(name, directory)
    try:
        spool.disk.lock(fd)  # refused while another process is between its own link and unlink
        return deferred if _has_inode(deferred, now.st_ino) else None
    finally:
        os.close(fd)


def _has_inode(directory: int, inode: int) -> bool:
    return any(item.inode() == inode for item in scan_dir(directory))
