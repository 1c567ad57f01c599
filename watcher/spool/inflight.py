"""This process's own directory in `.watcher/inflight/`, and those of processes that died.

    inflight/PID.RANDOM/     locked (flock) by its process for as long as it lives
        .ledger              what its workers have in hand (`claim.ledger`)
        .fault               how it died, if it could say (`claim.fault`)
        .journal             lines that are not in the journal yet (`spool.journal`)
        NAME                 a done file on its way out (`settle.aside`)

Guarantees: a directory whose lock is free belongs to nobody any more; `dead` gives each out to one
caller at a time. No entry's file is called `.ledger`: a name with a dot in front is never taken.
Fails: OSError or WatcherError when none can be made, or those of others cannot be seen.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import weakref
from collections.abc import Iterator
from typing import NamedTuple

from watcher.spool.disk import DIRECTORY
from watcher.spool.journal import spill_over
from watcher.spool.layout import INFLIGHT, Layout
from watcher.spool.spool import Spool

LEDGER = b".ledger"


class Left(NamedTuple):
    """The directory of a process that died, locked by us."""

    name: bytes
    fd: int
    inflight: int  # the directory it lies in


def own(spool: Spool, *, sure: bool = False) -> int:
    """Return this process's own directory for one spool, made and locked at first use.

    With `sure` it is looked at, in case somebody removed it.
    """
    if spool.own < 0 or (sure and os.fstat(spool.own).st_nlink == 0):
        inflight = spool.inflight()
        for _ in range(100):
            name = b"%d.%s" % (os.getpid(), os.urandom(4).hex().encode())
            spool.disk.make_directory(name, inflight)
            try:
                fd = os.open(name, DIRECTORY | os.O_NOFOLLOW, dir_fd=inflight)
            except FileNotFoundError:
                continue  # another took it for a dead process's before it was even open
            fcntl.flock(fd, fcntl.LOCK_EX)
            spool.own = fd
            weakref.finalize(spool, _leave, name, os.dup(inflight), fd, spool.layout)
            if os.fstat(fd).st_nlink > 0:  # else another was quicker than the lock
                break
    return spool.own


def _leave(name: bytes, inflight: int, fd: int, layout: Layout) -> None:
    with contextlib.suppress(OSError):
        ours = os.open(b"..", DIRECTORY, dir_fd=inflight)
        try:
            spill_over(fd, ours, layout)
        finally:
            os.close(ours)
        _empty(fd)
        os.rmdir(name, dir_fd=inflight)
    os.close(fd)
    os.close(inflight)


def dead(spool: Spool) -> Iterator[Left]:
    """Yield the directory of each process that died, locked until the next is asked for."""
    if not spool.has(INFLIGHT):
        return
    inflight = spool.inflight()
    fd = os.open(b".", DIRECTORY, dir_fd=inflight)
    try:
        names = sorted(map(os.fsencode, os.listdir(fd)))
    finally:
        os.close(fd)
    for name in names:
        try:
            fd = os.open(name, DIRECTORY | os.O_NOFOLLOW, dir_fd=inflight)
        except OSError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield Left(name, fd, inflight)
        except BlockingIOError:
            pass  # its process lives
        finally:
            os.close(fd)


def clear(left: Left) -> None:
    """Remove the directory of a dead process; raises OSError if files are still in it."""
    _empty(left.fd)
    os.rmdir(left.name, dir_fd=left.inflight)


def _empty(directory: int) -> None:
    """Remove what is not an entry's: its names begin with a dot."""
    for name in map(os.fsencode, os.listdir(directory)):
        if name[:1] == b".":
            os.unlink(name, dir_fd=directory)
