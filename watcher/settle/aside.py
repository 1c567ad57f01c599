"""Remove a file whose name may be used again at any moment (drop folders do that).

Between a look at a name and its unlink a writer may rename a new file over it, and the unlink
would take the newcomer. So the file is moved aside first, into a directory that only this process
uses, looked at there, and removed only if it is the one that was claimed; a newcomer goes back.

Guarantees: no file but the one claimed is removed, by any interleaving; a file that a crash left
aside is put back into the queue by `recover`, as an entry like any other (at least once).
Fails: OSError or WatcherError; the file is then in the queue, or aside where `recover` finds it.

"""

from __future__ import annotations

import contextlib
import itertools
import os

from watcher.entry import Part
from watcher.errors import WatcherError
from watcher.spool.inflight import clear, dead, own
from watcher.spool.layout import stored
from watcher.spool.spool import Spool


def remove(spool: Spool, part: Part) -> None:
    """Remove the file that was claimed as `part`, if it is still there under its name."""
    now = spool.stat(part.name, part.directory)
    if now is None or now.st_ino != part.ino:
        return  # the handler moved it away, or a newcomer has the name
    if part.directory >= 0:  # in a directory of ours names are not used again
        spool.disk.unlink(part.name, part.directory)
        return
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
    found = 0
    for left in dead(spool):
        with contextlib.suppress(OSError):  # one cannot go back now: the next sweep tries again
            found += put_all_back(spool, left.fd)
            clear(left)
    return found


def put_all_back(spool: Spool, directory: int) -> int:
    """Put back every file aside in one directory; return how many; raises OSError."""
    names = [os.fsencode(name) for name in os.listdir(directory)]
    names = [name for name in names if name[:1] != b"."]
    for name in names:
        put_back(spool, name, directory, name)
    return len(names)


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
    """Return `inflight.own`; None on a full disk that has no room for one.

    There what is done must go all the same, or the disk stays full: it is unlinked where it lies,
    right after the look. In the raw format, where names are used again, it is not.
    """
    try:
        return own(spool)
    except (OSError, WatcherError):
        free = os.fstatvfs(spool.fd)
        if spool.layout.raw or (free.f_bavail and free.f_favail):
            raise
        return None
