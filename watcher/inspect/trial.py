"""What a directory can do: found out by trying, in a scratch directory in `.watcher/`.

Guarantees: the queue itself is only read. The scratch directory is no part of `inflight/`, whose
files a sweep puts back into the queue; it is removed again, and one that a crash left goes with the
next trial. A `.watcher/` that root made for a queue others may serve is removed too: theirs would
be refused.
Fails: never; what cannot be tried is bad.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import time
from collections.abc import Callable, Iterator

from watcher.claim import lease
from watcher.errors import NotPermitted, WatcherError
from watcher.evidence import Writer
from watcher.inspect.grade import BAD, OK, WARNING, Check
from watcher.spool import mounts
from watcher.spool.disk import DIRECTORY, DISK
from watcher.spool.layout import INFLIGHT, OURS, Layout
from watcher.spool.spool import Spool

_SCRATCH = b"check."
_LEFT = 3600.0  # seconds: no trial takes so long
_PATIENCE = 1.0  # seconds for an event
_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)


def try_directory(spool: Spool) -> Iterator[Check]:
    """Try what a queue needs of its file system."""
    made = spool.stat(OURS) is None
    try:
        spool.inflight()
        ours = os.open(OURS, DIRECTORY | os.O_NOFOLLOW, dir_fd=spool.fd)
    except (OSError, WatcherError) as error:
        yield _unusable(error)
        return
    try:
        _remove_left(ours)
        yield from _trials(spool, ours)
    finally:
        os.close(ours)
        gone = made and _another_may_serve(spool) and _unmake(spool)
    how = "made, to try things in" if made else "there, and ours"
    yield Check(OK, "our directory", f".watcher/: {how}" + (", and removed" if gone else ""))


def _trials(spool: Spool, ours: int) -> Iterator[Check]:
    name = _SCRATCH + b"%d.%s" % (os.getpid(), os.urandom(4).hex().encode())
    try:
        os.mkdir(name, 0o700, dir_fd=ours)
        fd = os.open(name, DIRECTORY | os.O_NOFOLLOW, dir_fd=ours)
    except OSError as error:
        yield _unusable(error)
        return
    try:
        for about, trial in _TRIALS.items():
            try:
                fault = trial(spool, fd)
            except (OSError, WatcherError, ImportError) as error:
                fault = f"cannot be tried: {error}"
            yield Check(OK if not fault else _GRADES.get(about, BAD), about, fault or "works")
    finally:
        os.close(fd)
        _remove(ours, name)


def _unusable(error: OSError | WatcherError) -> Check:
    denied = isinstance(error, NotPermitted) or getattr(error, "errno", None) in _DENIED
    code = os.EX_NOPERM if denied else os.EX_UNAVAILABLE
    return Check(BAD, "our directory", f"cannot be made or used: {error}", code)


def _another_may_serve(spool: Spool) -> bool:
    """Whether we are root in a queue that another user's daemon may serve."""
    status = os.fstat(spool.fd)
    return os.geteuid() == 0 and (status.st_uid != 0 or status.st_mode & 0o022 != 0)


def _unmake(spool: Spool) -> bool:
    """Remove the empty directories of ours; False when somebody uses them by now."""
    try:
        os.rmdir(os.path.join(OURS, INFLIGHT), dir_fd=spool.fd)
        os.rmdir(OURS, dir_fd=spool.fd)
    except OSError:
        return False
    return True


def _remove_left(ours: int) -> None:
    with contextlib.suppress(OSError):
        for name in map(os.fsencode, os.listdir(ours)):
            if name.startswith(_SCRATCH):
                status = os.stat(name, dir_fd=ours, follow_symlinks=False)
                if time.time() - status.st_ctime > _LEFT:
                    _remove(ours, name)


def _remove(ours: int, name: bytes) -> None:
    with contextlib.suppress(OSError):
        fd = os.open(name, DIRECTORY | os.O_NOFOLLOW, dir_fd=ours)
        try:
            for file in os.listdir(fd):
                os.unlink(file, dir_fd=fd)
        finally:
            os.close(fd)
        os.rmdir(name, dir_fd=ours)


def _make(directory: int, name: bytes) -> int:
    return os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=directory)


def _try_rename(_spool: Spool, directory: int) -> str:
    os.close(_make(directory, b"a"))
    os.close(_make(directory, b"b"))
    try:
        DISK.move(b"a", directory, b"b", directory)
    except FileExistsError:
        DISK.move(b"a", directory, b"c", directory)
        return ""
    return "a rename overwrote a file it was told not to: not a file system for a queue"


def _try_lock(_spool: Spool, directory: int) -> str:
    with contextlib.ExitStack() as opened:
        one, other = (_make(directory, b"d") for _ in range(2))
        opened.callback(os.close, one)
        opened.callback(os.close, other)
        fcntl.flock(one, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return ""
        return "two locks on one file: use one process only for this queue"


def _try_lease(spool: Spool, directory: int) -> str:
    if not spool.leases:
        return "leases know nothing of writers elsewhere here: the grace age decides"
    writing = _make(directory, b"e")
    reading = DISK.open(b"e", directory)
    try:
        if lease.writer(reading) is not Writer.SOME:
            return "not to be had: files that were not renamed in wait for their grace age"
        os.close(writing)
        writing = -1
        return "" if lease.writer(reading) is Writer.NONE else "refused although nobody writes"
    finally:
        os.close(reading)
        if writing >= 0:
            os.close(writing)


def _try_inotify(spool: Spool, directory: int) -> str:
    from watcher.arrive.inotify import Inotify
    from watcher.arrive.source import Seen

    os.close(_make(directory, b"f.tmp"))
    path = os.fsencode(f"/proc/self/fd/{directory}")
    scratch = Spool(os.path.realpath(path), Layout(b".pck"))
    source = Inotify()
    try:
        source.arm(1, scratch)
        os.rename(b"f.tmp", b"f.pck", src_dir_fd=directory, dst_dir_fd=directory)
        select.select([source.fileno()], [], [], _PATIENCE)
        seen = [hint.name for hint in source.read() if hint.seen is Seen.RENAMED]
    finally:
        source.close()
    if b"f.pck" not in seen:
        return "a rename raised no event: set source to polling"
    return "" if spool.filesystem not in mounts.EVENTS_BLIND else "sees this machine's changes only"


_TRIALS: dict[str, Callable[[Spool, int], str]] = {
    "rename": _try_rename,
    "lock": _try_lock,
    "lease": _try_lease,
    "inotify": _try_inotify,
}
_GRADES = {"lease": WARNING, "inotify": WARNING}
