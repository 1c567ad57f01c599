"""The process directory: one in `.watcher/inflight/` for each process, and those of dead processes.

    inflight/PID.RANDOM/     locked (flock) by its process for as long as it lives
        .ledger              which entries its workers have in hand (`spool.ledger`)
        .fault               the traceback of a fatal signal (`spool.last_words`)
        .journal             lines that are not in the journal yet (`spool.journal`)
        .canary              a file that is renamed to see that events arrive (`spool.canary_file`)
        .status              what its daemon says of the queue (`spool.daemon_status`)
        NAME                 a done file that is being removed (`settle.unlink`)

Guarantees: a process has one such directory for each open spool. One thread makes it, under the
spool's lock. Its descriptor holds the directory's lock, until the last claim of that spool is gone.
A directory whose lock is free belongs to a dead process; `dead` gives each to one caller at a time.
A directory's `.status` is kept as `last-daemon.json` when the directory goes, unless the file there
is a later one.
No entry is called `.ledger`: names that begin with a dot are not claimed.
Fails: OSError or WatcherError if no directory can be made, or the others cannot be listed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import threading
import weakref
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from watcher.errors import TryAgain, Unavailable, WatcherError
from watcher.rules.names import INFLIGHT, Layout, display
from watcher.spool import state_files
from watcher.spool.dirs import names_in, open_dir, stat_or_none
from watcher.spool.disk import Disk, give
from watcher.spool.journal_home import JournalHome
from watcher.spool.journal_spill import append_spill
from watcher.spool.state_home import StateHome

LEDGER = b".ledger"
STATUS = b".status"
LAST_DAEMON = b"last-daemon.json"  # in `.watcher/`


class OpenSpool(Protocol):
    """What is needed here of a `Spool`. That module imports this one."""

    home: StateHome
    layout: Layout
    journal_home: JournalHome
    disk: Disk
    lock: threading.RLock
    process_dir: ProcessDirectory | None

    def inflight(self) -> int:
        """Return the descriptor of `inflight/`, made if need be."""

    def has(self, name: bytes) -> bool:
        """Whether `.watcher` has a directory of this name."""

    def stat(self, name: bytes, directory: int | None = None) -> os.stat_result | None:
        """Return the status of a name; None if it is not there."""


class Left(NamedTuple):
    """The directory of a dead process, locked by this one."""

    name: bytes
    fd: int
    inflight: int  # the directory it lies in


class NamesAside:
    """The names of the files that workers are moving aside into the process directory.

    Two workers may remove two files of one name, if a writer used it again. The directory has room
    for one, so one worker at a time uses a name; the others wait.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._taken: set[bytes] = set()
        self._left: set[bytes] = set()

    def take(self, name: bytes) -> bool:
        """Wait until no other thread uses the name; return whether a file of it was left aside."""
        with self._changed:
            while name in self._taken:
                self._changed.wait()
            self._taken.add(name)
            return name in self._left

    def give_back(self, name: bytes, *, left: bool) -> None:
        """Let the next thread use the name; `left`: a file of it is still aside."""
        with self._changed:
            self._taken.discard(name)
            (self._left.add if left else self._left.discard)(name)
            self._changed.notify_all()


class ProcessDirectory:
    """This process's own directory for one spool.

    Attributes
    ----------
    fd:      its descriptor, which holds its lock; closed with the spool, by `_leave` alone
    name:    its name in inflight/
    aside:   the names of the done files that are in it
    """

    def __init__(self, fd: int, name: bytes) -> None:
        self.fd = fd
        self.name = name
        self.aside = NamesAside()


def process_dir_for(spool: OpenSpool, *, sure: bool = False) -> ProcessDirectory:
    """Return this process's directory for one spool, made and locked at first use.

    `sure`: check that no other program removed or moved it, and make another if so. Threads that
    call at the same time get the same one.
    """
    found = spool.process_dir
    if found is not None and not sure:
        return found
    with spool.lock:
        found = spool.process_dir
        if found is None or (sure and not _is_there(spool, found)):
            found = spool.process_dir = _make(spool)
    return found


def _is_there(spool: OpenSpool, directory: ProcessDirectory) -> bool:
    """Whether a recovery would find it: its name in `inflight/` still leads to it."""
    now = spool.stat(directory.name, spool.inflight())
    return now is not None and os.path.samestat(now, os.fstat(directory.fd))


def _make(spool: OpenSpool) -> ProcessDirectory:
    """Make and lock a directory; the caller holds the spool's lock."""
    inflight = spool.inflight()
    for _ in range(100):
        name = b"%d.%s" % (os.getpid(), os.urandom(4).hex().encode())
        spool.disk.make_directory(name, inflight)
        try:
            fd = state_files.open_just_made(name, inflight)
        except (FileNotFoundError, state_files.Odd):
            continue  # a recovery removed it as a dead process's before it was open
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            give(fd, inflight)
            gone = os.fstat(fd).st_nlink == 0
        except BlockingIOError:
            gone = True
        except BaseException:
            os.close(fd)
            raise
        if gone:
            os.close(fd)  # a recovery removed it before it was locked
            continue
        weakref.finalize(spool, _leave, os.getpid(), name, os.dup(inflight), fd, spool.journal_home)
        return ProcessDirectory(fd, name)
    raise Unavailable(
        f"{display(spool.home.path)}/inflight: a directory of our own is removed as soon as it"
        " is made"
    )


def _leave(pid: int, name: bytes, inflight: int, fd: int, journal: JournalHome) -> None:
    """Remove this process's directory when its spool is no longer used.

    A child that a handler forked has a copy of the spool, and must not remove the directory.
    """
    if os.getpid() != pid:
        return
    with contextlib.suppress(OSError):
        ours = open_dir(b"..", inflight)
        try:
            append_spill(fd, journal.files(ours))
            _keep_status(fd, ours)
        finally:
            os.close(ours)
        _empty(fd)
        os.rmdir(name, dir_fd=inflight)
    os.close(fd)
    os.close(inflight)


def join_daemons(spool: OpenSpool, *, alone: bool) -> None:
    """Lock `inflight/` for as long as the spool is open, as each daemon of the queue does.

    A daemon that is to work `alone` takes an exclusive lock, any other one a shared lock. Raises
    TryAgain if another daemon has a lock beside which this one cannot be. Where the lock cannot be
    taken for another reason, the queue is served without it.
    """
    try:
        fcntl.flock(spool.inflight(), (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        raise TryAgain("another daemon works on the queue") from None
    except (OSError, WatcherError):
        return  # what is wrong with the directory is reported by its other uses


def leave_daemons(spool: OpenSpool) -> None:
    """Give up the lock that `join_daemons` took."""
    with contextlib.suppress(OSError, WatcherError):
        fcntl.flock(spool.inflight(), fcntl.LOCK_UN)


def has_others(spool: OpenSpool) -> bool:
    """Whether another process works on the queue, or did and left its directory.

    True if the directories cannot be read. Under the spool's lock: the directory that another
    thread of this process makes meanwhile has its name before `spool.process_dir` tells of it.
    """
    try:
        with spool.lock:
            own = spool.process_dir
            names = list(names_in(spool.inflight()))
    except (OSError, WatcherError):
        return True
    return any(own is None or name != own.name for name in names)


def dead(spool: OpenSpool) -> Iterator[Left]:
    """Yield the directory of each dead process, locked until the next is asked for."""
    if not spool.has(INFLIGHT):
        return
    inflight = spool.inflight()
    for name in sorted(names_in(inflight)):
        try:
            fd = state_files.open_directory(name, inflight)
        except state_files.Odd:
            continue
        except PermissionError:
            with contextlib.suppress(OSError):  # root died before giving it to its owner
                os.rmdir(name, dir_fd=inflight)
            continue
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
    ours = open_dir(b"..", left.inflight)
    try:
        _keep_status(left.fd, ours)
    finally:
        os.close(ours)
    _empty(left.fd)
    os.rmdir(left.name, dir_fd=left.inflight)


def _keep_status(directory: int, ours: int) -> None:
    """Keep what the daemon said last, unless another daemon said something later.

    Readers judge the file by themselves, so nothing of it is read here. A refusal costs an
    explanation.
    """
    with contextlib.suppress(OSError):
        said, before = stat_or_none(STATUS, directory), stat_or_none(LAST_DAEMON, ours)
        if said is None or not stat.S_ISREG(said.st_mode):
            return
        if before is None or before.st_mtime_ns <= said.st_mtime_ns:
            os.rename(STATUS, LAST_DAEMON, src_dir_fd=directory, dst_dir_fd=ours)


def _empty(directory: int) -> None:
    """Remove the files whose names begin with a dot: they are not entries."""
    for name in list(names_in(directory)):
        if name[:1] == b".":
            os.unlink(name, dir_fd=directory)
