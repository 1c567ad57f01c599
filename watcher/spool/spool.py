"""One queue directory, opened: everything else works relative to its descriptor.

Guarantees: what was opened stays what is worked on, whatever is renamed or mounted over its path
(`is_current` tells); the directories of ours are real directories that belong to us, or nothing is
put into them.
Fails: `Spool` raises NoSuch, NotPermitted or Unavailable; `place` raises these and CannotCreate.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import weakref

from watcher.errors import CannotCreate, NoSpace, NoSuch, NotPermitted, Unavailable, WatcherError
from watcher.lifecycle import State
from watcher.spool import mounts
from watcher.spool.disk import DIRECTORY, DISK, Disk
from watcher.spool.journal import Journal
from watcher.spool.layout import INFLIGHT, OURS, STATE_DIRECTORIES, Layout, display


class Spool:
    """An open queue directory. Closed when the last claim that refers to it is gone."""

    def __init__(self, path: bytes, layout: Layout, disk: Disk = DISK) -> None:
        self.path = os.path.abspath(path)
        self.layout = layout
        self.disk = disk
        self._ours: dict[bytes, int] = {}
        self._past: set[int] = set()  # descriptors of directories of ours that went away
        own = weakref.ref(self)  # not a cycle: the spool is closed with its last reference
        self.journal = Journal(lambda: _ours(own), lambda: _inflight(own), layout)
        self.fd = -1
        self.own = -1  # this process's directory in inflight/ (`inflight.own`)
        self.ledger: object = None  # what it has in hand (`claim.ledger`)
        try:
            self.fd = os.open(self.path, DIRECTORY)
            self.filesystem = mounts.filesystem(self.fd)
        except OSError as error:
            raise told(error, self.path, "the queue directory") from None
        status = os.fstat(self.fd)
        self.identity = (status.st_dev, status.st_ino)
        self.leases = self.filesystem not in mounts.LEASES_BLIND
        self.write_to_lock = self.filesystem in mounts.LOCK_BY_RECORD

    def __del__(self) -> None:
        """Close with the last reference: a claim keeps its spool open across a re-arm."""
        for fd in (*self._ours.values(), *self._past, self.fd):
            if fd >= 0:
                with contextlib.suppress(OSError):
                    os.close(fd)

    def is_current(self) -> bool:
        """Whether the path still leads to the directory that was opened."""
        try:
            status = os.stat(self.path)
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == self.identity

    def writable(self) -> bool:
        """Whether entries can be removed and moved here."""
        return os.access(self.path, os.W_OK | os.X_OK)

    def stat(self, name: bytes, directory: int = -1) -> os.stat_result | None:
        """Look at a name, in the queue or in a `directory` of ours, without following it.

        Returns None when it is not there.
        """
        try:
            return os.stat(
                name, dir_fd=self.fd if directory < 0 else directory, follow_symlinks=False
            )
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
                return None
            raise

    def place(self, state: State) -> int:
        """Return the descriptor of the directory of `state`, made if need be."""
        return self._our(STATE_DIRECTORIES[state])

    def ours(self) -> int:
        """Return the descriptor of `.watcher`, made if need be."""
        return self._kept(OURS, self.fd)

    def inflight(self) -> int:
        """Return the descriptor of `inflight/`, made if need be."""
        return self._our(INFLIGHT)

    def peek(self, state: State) -> int | None:
        """Return the descriptor of the directory of `state` if it exists; make nothing."""
        name = STATE_DIRECTORIES[state]
        return self._our(name) if self.has(name) else None

    def has(self, name: bytes) -> bool:
        """Whether there is a directory of ours of this name; raises NotPermitted."""
        try:
            return self.stat(os.path.join(OURS, name)) is not None
        except PermissionError as error:  # it is another user's
            raise told(error, os.path.join(self.path, OURS), "our own directory") from None

    def _our(self, name: bytes) -> int:
        return self._kept(name, self.ours())

    def _kept(self, name: bytes, parent: int) -> int:
        """Return a directory of ours; opened anew when an operator has moved or removed it."""
        fd = self._ours.get(name)
        if fd is not None:
            kept = os.fstat(fd)
            with contextlib.suppress(OSError):
                now = os.stat(name, dir_fd=parent, follow_symlinks=False)
                if (now.st_dev, now.st_ino) == (kept.st_dev, kept.st_ino):
                    return fd
            self._past.add(self._ours.pop(name, fd))  # another thread may be using it
        self._ours[name] = self._open_our(name, parent)
        return self._ours[name]

    def _open_our(self, name: bytes, parent: int) -> int:
        shown = os.path.join(self.path, OURS, name) if name != OURS else self.path + b"/" + OURS
        try:
            self.disk.make_directory(name, parent)
            fd = os.open(name, DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                raise CannotCreate(
                    f"{display(shown)}: in the way of our own directory; move it away"
                ) from None
            raise told(error, shown, "our own directory") from None
        owner = os.fstat(fd).st_uid
        if owner not in (os.geteuid(), os.fstat(self.fd).st_uid if os.geteuid() == 0 else -1):
            os.close(fd)
            raise NotPermitted(
                f"{display(shown)}: belongs to user {owner}, not to us: remove it or chown it"
            )
        return fd


def _ours(own: weakref.ref[Spool]) -> int:
    spool = own()
    if spool is None:
        raise Unavailable("the queue directory is closed")
    return spool.ours()


def _inflight(own: weakref.ref[Spool]) -> int:
    from watcher.spool import inflight  # it knows of us, and we of it

    spool = own()
    if spool is None:
        raise Unavailable("the queue directory is closed")
    return inflight.own(spool)


def told(error: OSError, path: bytes, what: str) -> WatcherError:
    """Turn the kernel's refusal into the error an operator can act on."""
    shown = f"{display(path)}: {what}"
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        reason = "does not exist" if error.errno == errno.ENOENT else "is not a directory"
        return NoSuch(f"{shown} {reason}")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return NotPermitted(f"{shown} cannot be used: {error.strerror}; check owner and mode")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(f"{shown} cannot be made: {error.strerror}; free some space")
    return Unavailable(f"{shown} cannot be used: {error.strerror}")


def is_regular(status: os.stat_result) -> bool:
    """Whether this is a plain file with one name: all that can be an entry."""
    return stat.S_ISREG(status.st_mode) and status.st_nlink == 1
