"""Remove a file whose name may be used again at any moment (drop folders do that).

Between a look at a name and its unlink a writer may rename a new file over it, and the unlink
would take the newcomer. So the file is moved aside first, into a directory that only this process
uses, looked at there, and removed only if it is the one that was claimed; a newcomer goes back.

Guarantees: no file but the one claimed is removed, by any interleaving; a file that a crash left
aside is put back into the queue by `recover`, as an entry like any other (at least once).
Fails: OSError or WatcherError; the file is then in the queue, or aside where `recover` finds it.

    inflight/PID.RANDOM/     locked (flock) by its process for as long as it lives
        NAME                 the file just claimed and done, or a newcomer about to go back
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import weakref

from watcher.entry import Part
from watcher.errors import WatcherError
from watcher.spool.disk import DIRECTORY
from watcher.spool.layout import stored
from watcher.spool.spool import Spool

_ASIDE: weakref.WeakKeyDictionary[Spool, int] = weakref.WeakKeyDictionary()


def remove(spool: Spool, part: Part) -> None:
    """Remove the file that was claimed as `part`, if it is still there under its name."""
    now = spool.stat(part.name)
    if now is None or now.st_ino != part.ino:
        return  # the handler moved it away, or a newcomer has the name
    directory = _directory_unless_full(spool)
    if directory is None:
        spool.disk.unlink(part.name, spool.fd)
        return
    if inode(part.name, directory) is not None:  # a newcomer that could not go back last time
        put_back(spool, part.name, directory, part.name)
    try:
        spool.disk.move_aside(part.name, spool.fd, directory)
    except FileNotFoundError:
        return
    if inode(part.name, directory) == part.ino:
        spool.disk.unlink(part.name, directory)
    else:
        put_back(spool, part.name, directory, part.name)


def usable(spool: Spool) -> None:
    """Raise now what `remove` would raise once the work is done, so that it is not begun."""
    _directory_unless_full(spool)


def recover(spool: Spool) -> int:
    """Put back what processes that died had aside; return how many files."""
    if spool.stat(b".watcher/inflight") is None:
        return 0
    found = 0
    inflight = spool.inflight()
    fd = os.open(b".", DIRECTORY, dir_fd=inflight)
    try:
        for name in os.listdir(fd):
            found += _recover_one(spool, inflight, os.fsencode(name))
    finally:
        os.close(fd)
    return found


def _recover_one(spool: Spool, inflight: int, name: bytes) -> int:
    try:
        fd = os.open(name, DIRECTORY | os.O_NOFOLLOW, dir_fd=inflight)
    except OSError:
        return 0
    found = 0
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for file in os.listdir(fd):
            put_back(spool, os.fsencode(file), fd, os.fsencode(file))
            found += 1
        os.rmdir(name, dir_fd=inflight)
    except OSError:
        pass  # its process lives, or a file could not go back now: the next sweep tries again
    finally:
        os.close(fd)
    return found


def put_back(spool: Spool, name: bytes, directory: int, own: bytes) -> None:
    """Return a file to the queue under its `own` name, or the next free one."""
    stem = spool.layout.stem(own)
    for number in itertools.count():
        target = stored(stem, own[len(stem) :], number) if number else own
        try:
            spool.disk.move(name, directory, target, spool.fd)
        except FileExistsError:
            if inode(target, spool.fd) != inode(name, directory):
                continue
            spool.disk.unlink(name, directory)  # a crash between link and unlink left both names
        return


def inode(name: bytes, directory: int) -> int | None:
    """Return the inode number of a name, None when it is not there."""
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False).st_ino
    except FileNotFoundError:
        return None


def _directory_unless_full(spool: Spool) -> int | None:
    """Return `_directory`; None on a full disk that has no room for one.

    There what is done must go all the same, or the disk stays full: it is unlinked where it lies,
    right after the look. In the raw format, where names are used again, it is not.
    """
    try:
        return _directory(spool)
    except (OSError, WatcherError):
        free = os.fstatvfs(spool.fd)
        if spool.layout.raw or (free.f_bavail and free.f_favail):
            raise
        return None


def _directory(spool: Spool) -> int:
    """Return this process's own directory for one spool, made and locked at first use."""
    if spool not in _ASIDE or os.fstat(_ASIDE[spool]).st_nlink == 0:  # or it was removed
        inflight = spool.inflight()
        for _ in range(100):
            name = b"%d.%s" % (os.getpid(), os.urandom(4).hex().encode())
            spool.disk.make_directory(name, inflight)
            try:
                fd = os.open(name, DIRECTORY | os.O_NOFOLLOW, dir_fd=inflight)
            except FileNotFoundError:
                continue  # recover() took it for a dead process's before it was even open
            fcntl.flock(fd, fcntl.LOCK_EX)
            _ASIDE[spool] = fd
            weakref.finalize(spool, _leave, name, os.dup(inflight), fd)
            if os.fstat(fd).st_nlink > 0:  # else recover() was quicker than the lock
                break
    return _ASIDE[spool]


def _leave(name: bytes, inflight: int, fd: int) -> None:
    with contextlib.suppress(OSError):
        os.rmdir(name, dir_fd=inflight)
    os.close(fd)
    os.close(inflight)
