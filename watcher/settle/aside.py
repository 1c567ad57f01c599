"""Remove a file whose name may be used again at any moment (drop folders do that).

Between a look at a name and its unlink a writer may rename a new file over it, and the unlink
would take the newcomer. So the file is moved aside first, into a directory that only this process
uses, looked at there, and removed only if it is the one that was claimed; a newcomer goes back.
Only a name that no writer uses again (`Layout.drawn`) is looked at and unlinked where it lies.

Guarantees: no file but the one claimed is removed, by any interleaving; a file that a crash left
aside is put back into the queue by `recover`, as an entry like any other (at least once). Where a
newcomer has its name by then, `recovery` has it wait in `deferred/`, so that name and key stay.
Fails: OSError or WatcherError; the file is then in the queue, or aside where `recover` finds it.

"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import time
from collections.abc import Callable, Iterator

from watcher.entry import Part
from watcher.errors import NoSpace, WatcherError
from watcher.lifecycle import State
from watcher.spool.disk import DIRECTORY
from watcher.spool.inflight import clear, dead, own
from watcher.spool.journal import spill_over
from watcher.spool.layout import Kind, stored
from watcher.spool.spool import Spool

BUSY_WAIT = 0.0005  # seconds
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_BUSY: dict[tuple[int, bytes], Part] = {}  # names aside, by directory: one worker at a time
_LEFT: dict[int, set[bytes]] = {}  # names aside that could not go on from there, by directory


def remove(spool: Spool, part: Part) -> bool:
    """Remove the file that was claimed as `part`, if it is still there under its name.

    False if it was written to since it was claimed: then it stays, and is nobody's rename.
    """
    if part.directory >= 0:  # in a directory of ours names are not used again
        if inode(part.name, part.directory) == part.ino:
            spool.disk.unlink(part.name, part.directory)
        return True
    if spool.layout.drawn(part.name):
        return _remove_in_place(spool, part)
    directory = _directory_unless_full(spool)
    if directory is None:
        return _remove_in_place(spool, part)
    while _BUSY.setdefault((directory, part.name), part) is not part:
        time.sleep(BUSY_WAIT)  # a worker of ours removes the name's last file
    try:
        return _remove_aside(spool, part, directory)
    finally:
        del _BUSY[directory, part.name]


def _remove_aside(spool: Spool, part: Part, directory: int) -> bool:
    left = _LEFT.setdefault(directory, set())
    there = inode(part.name, directory) if part.name in left else None
    if there is not None and there != part.ino:
        put_back(spool, part.name, directory, part.name)  # it could not go back last time
    if there != part.ino:  # else its unlink was refused last time
        try:
            spool.disk.move_aside(part.name, spool.fd, directory)
        except FileNotFoundError:
            if directory == own(spool, sure=True):
                return True  # the handler moved it away
            return remove(spool, part)  # somebody removed our directory
    left.add(part.name)
    now = os.stat(part.name, dir_fd=directory, follow_symlinks=False)
    same = now.st_ino == part.ino
    written_to = part.mtime_ns >= 0 and not _unchanged(now, part)
    if same and not written_to:
        spool.disk.unlink(part.name, directory)
    else:
        put_back(spool, part.name, directory, part.name)
    left.discard(part.name)
    return not (same and written_to)


def _remove_in_place(spool: Spool, part: Part) -> bool:
    now = spool.stat(part.name)
    if now is None or now.st_ino != part.ino:
        return True
    if part.mtime_ns >= 0 and not _unchanged(now, part):
        return False
    spool.disk.unlink(part.name, spool.fd)
    return True


def _unchanged(now: os.stat_result, part: Part) -> bool:
    return (now.st_size, now.st_mtime_ns) == (part.size, part.mtime_ns)


def usable(spool: Spool) -> None:
    """Raise now what `remove` would raise once the work is done, so that it is not begun."""
    _directory_unless_full(spool)


def recover(spool: Spool) -> int:
    """Put back what processes that died had aside; return how many files."""
    found = 0
    for left in dead(spool):
        with contextlib.suppress(OSError):  # one cannot go back now: the next sweep tries again
            found += put_all_back(spool, left.fd)
            spill_over(left.fd, spool.ours(), spool.layout)
            clear(left)
    return found


def put_all_back(
    spool: Spool, directory: int, beside: Callable[[bytes], bool] | None = None
) -> int:
    """Put back every file aside in one directory; return how many; raises OSError.

    `beside` as in `put_back`.
    """
    names = [os.fsencode(name) for name in os.listdir(directory)]
    names = [name for name in names if name[:1] != b"."]
    for name in names:
        put_back(spool, name, directory, name, beside)
    return len(names)


def put_back(
    spool: Spool,
    name: bytes,
    directory: int,
    own: bytes,
    beside: Callable[[bytes], bool] | None = None,
) -> None:
    """Return a file to the queue under its `own` name, or the next free one.

    By link and unlink, not by rename: a rename would look like a writer's, and this file may be one
    that is still being written. `beside` is asked first where a newcomer has its own name: whether
    it found the file another place.
    """
    there = _is_back(spool, name, directory)
    if there is not None:
        spool.disk.sync(there)  # a crash between link and unlink left both names
        spool.disk.unlink(name, directory)
        return
    stem = spool.layout.stem(own)
    for number in itertools.count():
        target = stored(stem, own[len(stem) :], number) if number else own
        try:
            spool.disk.link_and_unlink(name, directory, target, spool.fd)
        except FileExistsError:
            if number == 0 and beside is not None and beside(name):
                return
            continue
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            try:
                spool.disk.move(name, directory, target, spool.fd)
            except FileExistsError:
                continue
        return


def _is_back(spool: Spool, name: bytes, directory: int) -> int | None:
    """Return the directory, the queue or deferred/, that has this very file already; else None.

    Under whichever name was free then: the first one may be free by now, and with a link there too
    the file would have two names in the queue, which no entry has.
    """
    now = os.stat(name, dir_fd=directory, follow_symlinks=False)
    if now.st_nlink == 1:
        return None
    entries = (Kind.ENTRY, Kind.MESSAGE_HALF, Kind.METADATA_HALF)
    kind = spool.layout.as_put_away().kind
    if any(ino == now.st_ino and kind(own) in entries for own, ino in listed(spool.fd)):
        return spool.fd
    deferred = spool.peek(State.DEFERRED)
    if deferred is None or now.st_ino not in dict(listed(deferred)).values():
        return None
    open_ = spool.disk.open_writable if spool.write_to_lock else spool.disk.open
    fd = open_(name, directory)
    try:
        spool.disk.lock(fd)  # or another is between the link and the unlink of a move of its own
        return deferred if now.st_ino in dict(listed(deferred)).values() else None
    finally:
        os.close(fd)


def listed(directory: int) -> Iterator[tuple[bytes, int]]:
    """Yield the names in a directory, each with its inode number."""
    fd = os.open(b".", DIRECTORY, dir_fd=directory)  # an offset of its own
    try:
        with os.scandir(fd) as items:
            for item in items:
                yield os.fsencode(item.name), item.inode()
    finally:
        os.close(fd)


def inode(name: bytes, directory: int) -> int | None:
    """Return the inode number of a name, None when it is not there."""
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False).st_ino
    except FileNotFoundError:
        return None


def _directory_unless_full(spool: Spool) -> int | None:
    """Return `inflight.own`; None on a full disk that has no room for one, or in a full quota.

    There what is done must go all the same, or it stays full: it is unlinked where it lies, right
    after the look. In the raw format, where names are used again, it is not. The refusal says so
    itself: statvfs(2) knows of no quota, and not of all that a file system may run out of.
    """
    try:
        return own(spool)
    except (OSError, WatcherError) as error:
        if spool.layout.raw or not (isinstance(error, NoSpace) or _no_space(error)):
            raise
        return None


def _no_space(error: OSError | WatcherError) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
