"""Try what a directory supports, in a scratch directory inside `.watcher/`.

Guarantees: the queue itself is only read. The scratch directory is not in `inflight/`, because a
sweep puts files from there back into the queue. It is removed at the end; the next probe removes
one that a crash left. If root had to make `.watcher/` in a queue that another user may serve, it is
removed, too: that user's daemon could not use it.
Fails: never; a probe that cannot run is a finding: bad, or a warning for leases and inotify.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from watcher.arrive.source import EventKind
from watcher.errors import NotPermitted, WatcherError
from watcher.rules.evidence import Writer
from watcher.rules.finding import BAD, OK, WARNING, Check
from watcher.rules.names import INFLIGHT, Layout
from watcher.spool import inode_numbers, lease, mounts, state_files
from watcher.spool.dirs import names_in, open_dir
from watcher.spool.disk import DISK, Disk
from watcher.spool.spool import Spool

if TYPE_CHECKING:
    from watcher.arrive.inotify import Inotify

_SCRATCH = b"check."
_LEFT = 3600.0  # seconds: no probe takes so long
_PATIENCE = 1.0  # seconds for an event
_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)


def try_directory(spool: Spool) -> Iterator[Check]:
    """Try what a queue needs from its file system."""
    try:
        made = spool.home.stat() is None
        spool.inflight()
        state_root = spool.home.open()
    except (OSError, WatcherError) as error:
        yield _unusable(error)
        return
    try:
        _remove_left(state_root)
        yield from _probes(spool, state_root)
    finally:
        os.close(state_root)
        gone = made and _another_may_serve(spool) and _unmake(spool)
    how = "made, to try things in it" if made else "there, and usable"
    yield Check(
        OK, "our directory", f"{spool.home.label}: {how}" + (", and removed" if gone else "")
    )


def _probes(spool: Spool, state_root: int) -> Iterator[Check]:
    name = _SCRATCH + b"%d.%s" % (os.getpid(), os.urandom(4).hex().encode())
    try:
        os.mkdir(name, 0o700, dir_fd=state_root)
        fd = state_files.open_just_made(name, state_root)
    except OSError as error:
        yield _unusable(error)
        return
    try:
        for about, probe in _PROBES.items():
            try:
                fault = probe(spool, fd)
            except (OSError, WatcherError, ImportError) as error:
                fault = f"cannot be tried: {error}"
            yield Check(OK if not fault else _GRADES.get(about, BAD), about, fault or "works")
    finally:
        os.close(fd)
        _remove(state_root, name)


def _unusable(error: OSError | WatcherError) -> Check:
    denied = isinstance(error, NotPermitted) or getattr(error, "errno", None) in _DENIED
    code = os.EX_NOPERM if denied else os.EX_UNAVAILABLE
    return Check(BAD, "our directory", f"cannot be made or used: {error}", code)


def _another_may_serve(spool: Spool) -> bool:
    """Whether this process is root in a queue that another user's daemon may serve."""
    status = os.fstat(spool.fd)
    return os.geteuid() == 0 and (status.st_uid != 0 or status.st_mode & 0o022 != 0)


def _unmake(spool: Spool) -> bool:
    """Remove the empty `.watcher/`; False if another process uses it by now."""
    try:
        parent = spool.home.parent()
        os.rmdir(os.path.join(spool.home.name, INFLIGHT), dir_fd=parent)
        os.rmdir(spool.home.name, dir_fd=parent)
    except OSError:
        return False
    return True


def _remove_left(state_root: int) -> None:
    with contextlib.suppress(OSError):
        for name in list(names_in(state_root)):
            if name.startswith(_SCRATCH):
                status = os.stat(name, dir_fd=state_root, follow_symlinks=False)
                if time.time() - status.st_ctime > _LEFT:
                    _remove(state_root, name)


def _remove(state_root: int, name: bytes) -> None:
    with contextlib.suppress(OSError):
        fd = open_dir(name, state_root)
        try:
            for file in os.listdir(fd):
                os.unlink(file, dir_fd=fd)
        finally:
            os.close(fd)
        os.rmdir(name, dir_fd=state_root)


def make_file(directory: int, name: bytes) -> int:
    """Create an empty file and return its descriptor."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(name, flags, 0o600, dir_fd=directory)


def move_overwrites(directory: int, disk: Disk) -> bool:
    """Move a file onto a name that exists, and then to a free name; `torture` tries this, too."""
    for name in (b"m1", b"m2"):
        os.close(make_file(directory, name))
    try:
        disk.move(b"m1", directory, b"m2", directory)
    except FileExistsError:
        disk.move(b"m1", directory, b"m3", directory)
        return False
    return True


def lockable(directory: int, name: bytes) -> bool:
    """Whether flock(2) gives this process an exclusive lock on a file; the lock is not kept."""
    fd = make_file(directory, name)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True


def writer_of(directory: int, name: bytes) -> Writer:
    """Return what a lease says about the writers of a file."""
    fd = DISK.open(name, directory)
    try:
        return lease.writer(fd)
    finally:
        os.close(fd)


def renames_seen(source: Inotify, seconds: float) -> list[bytes]:
    """Wait for the events of `source` and return the names that were renamed into its queue."""
    select.select([source.fileno()], [], [], seconds)
    return [event.name for event in source.read() if event.seen is EventKind.RENAMED]


def _try_rename(_spool: Spool, directory: int) -> str:
    if not move_overwrites(directory, DISK):
        return ""
    return "a rename overwrote a file, although that was forbidden: no queue can be here"


def _try_lock(_spool: Spool, directory: int) -> str:
    locked = make_file(directory, b"d")
    try:
        fcntl.flock(locked, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not lockable(directory, b"d"):
            return ""
    finally:
        os.close(locked)
    return "two locks on one file: use one process only for this queue"


def _try_lease(spool: Spool, directory: int) -> str:
    if not spool.leases:
        seen = "; writers on this machine are seen" if spool.asks else ""
        return f"leases do not show writers on other machines: the grace age decides{seen}"
    writing = make_file(directory, b"e")
    try:
        if writer_of(directory, b"e") is not Writer.SOME:
            return "not available: files that were not renamed in wait for their grace age"
    finally:
        os.close(writing)
    return "" if writer_of(directory, b"e") is Writer.NONE else "refused although no process writes"


def _try_inotify(spool: Spool, directory: int) -> str:
    from watcher.arrive.inotify import Inotify

    os.close(make_file(directory, b"f.tmp"))
    path = os.fsencode(f"/proc/self/fd/{directory}")
    scratch = Spool(os.path.realpath(path), Layout(b".pck"))
    source = Inotify()
    try:
        source.arm(1, scratch)
        os.rename(b"f.tmp", b"f.pck", src_dir_fd=directory, dst_dir_fd=directory)
        seen = renames_seen(source, _PATIENCE)
    finally:
        source.close()
    if b"f.pck" not in seen:
        return "a rename raised no event: set source to polling"
    return "" if spool.filesystem not in mounts.EVENTS_BLIND else "sees this machine's changes only"


def _try_number(_spool: Spool, directory: int) -> str:
    return inode_numbers.WHY if inode_numbers.change(DISK, directory) else ""


_PROBES: dict[str, Callable[[Spool, int], str]] = {
    "rename": _try_rename,
    "inode number": _try_number,
    "lock": _try_lock,
    "lease": _try_lease,
    "inotify": _try_inotify,
}
_GRADES = {"lease": WARNING, "inotify": WARNING}
